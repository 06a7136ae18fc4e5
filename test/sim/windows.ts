/**
 * Looks into every sender at the moment at which more comes to be in flight - nowhere else does it grow - and asks whether its window had room.
 */
import { Peer } from "../../transport/peer/peer.ts";
import type { Link } from "../../transport/link/link.ts";
import type { Window } from "../../transport/policy/window.ts";
import { Sender } from "../../transport/session/sender.ts";
import { replace } from "./replace.ts";

export interface Flight {
  /** Of the sender's node. */
  readonly link: Link;
  readonly window: Window;
  readonly chunks: number;
  /** As they travel, as far as the sender can know. */
  readonly bytes: number;
}

/** `judge` gets undefined for a sender that did not ask for its window. Returns how to look away again. */
export function watchWindows(judge: (flight: Flight | undefined) => void): () => void {
  let asked: Pick<Flight, "link" | "window"> | undefined;
  const answer = (): typeof asked => asked;
  const mendPeer = replace(Peer, "newWindow", (newWindow) => {
    return function (this: Peer) {
      const policy = newWindow.call(this);
      const { link } = this;
      return {
        window: () => {
          const window = policy.window();
          asked = { link, window };
          return window;
        },
      };
    };
  });
  const mendSender = replace(Sender, "pollSend", (pollSend) => {
    return function (this: Sender, nowUs, maxChunks) {
      asked = undefined;
      const due = pollSend.call(this, nowUs, maxChunks);
      const seen = answer();
      if (due.length > 0) judge(seen && { ...seen, chunks: this.inFlightChunks, bytes: this.inFlightBytes * this.wireShare });
      return due;
    };
  });
  return () => {
    mendSender();
    mendPeer();
  };
}
