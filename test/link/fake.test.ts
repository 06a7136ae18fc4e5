/** The fake link against the conformance suite: what needs no socket between the ends. */
import { linkConformance } from "./conformance.ts";
import { createFakeLink } from "../../transport/link/fake.ts";
import { native, nativeProblem } from "../../transport/native.ts";

linkConformance("fake", async (options) => createFakeLink(options), {
  wire: false,
  ...(native === undefined ? { skip: `no addon: ${nativeProblem}` } : {}),
});
