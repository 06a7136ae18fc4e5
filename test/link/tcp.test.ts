/** The native TCP link against the conformance suite. */
import { linkConformance } from "./conformance.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { native, nativeProblem } from "../../transport/native.ts";

linkConformance("tcp", async (options) => createTcpLink(options), native === undefined ? { skip: `no addon: ${nativeProblem}` } : {});
