/**
 * The conformance suite over TLS: the native link, the JavaScript one, and, in short, each opposite the other. Bare peers and the proxy speak TLS too;
 * what is TLS's own is in tls-*.test.ts.
 */
import { linkConformance } from "./conformance.ts";
import { createJsLink } from "../../transport/link/js.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { tlsMaterial } from "./certificates.ts";
import type { MakeLink } from "./conformance/end.ts";

const tls = tlsMaterial();
const js: MakeLink = async (options) => createJsLink({ ...options, tls });
const tcp: MakeLink = async (options) => createTcpLink({ ...options, tls });
const opposite = native === undefined ? { skip: `no addon: ${nativeProblem}` } : {};

linkConformance("tcp over TLS", tcp, { tls, ...opposite });
linkConformance("js over TLS", js, { tls });
linkConformance("js to tcp over TLS", js, { tls, listener: tcp, brief: true, ...opposite });
linkConformance("tcp to js over TLS", tcp, { tls, listener: js, brief: true, ...opposite });
