/** Which ways fetches and lanes go: looks at what nodes hear of them. That every way is gone is a test (swarm.test.ts). */
import { Connection } from "../../transport/peer/connection.ts";
import { Ongoing } from "../../transport/peer/ongoing.ts";
import { HeldLanes } from "./held.ts";
import { replace } from "./replace.ts";

export const PATHS = [
  "fetch with a grant",
  "fetch without a grant",
  "fetch with a grant, said again",
  "grant taken",
  "grant not taken",
  "accept",
  "accept after a resume",
  "done before the offer",
  "said before the other Hello",
  "lane before its token",
  "coded, and accepted",
  "coded, as it was foretold",
] as const;
export type Path = (typeof PATHS)[number];

/** Returns how to look away again. */
export function watchPaths(note: (path: Path) => void): () => void {
  const mendFetch = replace(Ongoing, "isAnswering", (isAnswering) => {
    return function (this: Ongoing, fetch) {
      const isAgain = isAnswering.call(this, fetch);
      if (fetch.grant === undefined) note("fetch without a grant");
      else note(isAgain ? "fetch with a grant, said again" : "fetch with a grant");
      return isAgain;
    };
  });
  const mendOffer = replace(Ongoing, "handleOffer", (handleOffer) => {
    return function (this: Ongoing, nowUs, offer, remote) {
      if (offer.coding !== undefined) note(offer.generation === 0 ? "coded, and accepted" : "coded, as it was foretold");
      if (offer.fetch !== 0) note(offer.generation === 0 ? "grant not taken" : "grant taken");
      return handleOffer.call(this, nowUs, offer, remote);
    };
  });
  const mendAccept = replace(Ongoing, "handleAccept", (handleAccept) => {
    return function (this: Ongoing, nowUs, accept, remote) {
      note(accept.generation === 1 ? "accept" : "accept after a resume");
      handleAccept.call(this, nowUs, accept, remote);
    };
  });
  const mendDone = replace(Ongoing, "handleDone", (handleDone) => {
    return function (this: Ongoing, nowUs, done) {
      if (done.id === 0) note("done before the offer");
      handleDone.call(this, nowUs, done);
    };
  });
  const mendSend = replace(Connection, "send", (send) => {
    return function (this: Connection, message, early) {
      if (early === true && this.greets) note("said before the other Hello");
      send.call(this, message, early);
    };
  });
  const mendHeld = replace(HeldLanes, "take", (take) => {
    return function (this: HeldLanes, token) {
      const lanes = take.call(this, token);
      if (lanes.length > 0) note("lane before its token");
      return lanes;
    };
  });
  return () => {
    mendHeld();
    mendSend();
    mendDone();
    mendAccept();
    mendOffer();
    mendFetch();
  };
}
