/** The JavaScript link against the conformance suite, alone and opposite the native TCP link, both ways. */
import { linkConformance } from "./conformance.ts";
import { createJsLink } from "../../transport/link/js.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import type { MakeLink } from "./conformance/end.ts";

const js: MakeLink = async (options) => createJsLink(options);
const tcp: MakeLink = async (options) => createTcpLink(options);
const opposite = native === undefined ? { skip: `no addon: ${nativeProblem}` } : {};

linkConformance("js", js);
linkConformance("js to tcp", js, { listener: tcp, ...opposite });
linkConformance("tcp to js", tcp, { listener: js, ...opposite });
