/**
 * Bugs on purpose, to see whether the simulation sees them. Each replaces a method of the product or of the world for as long as it is planted; nothing in
 * production code knows of it.
 */
import { createHash } from "node:crypto";
import type { ErrorCode } from "../../transport/errors.ts";
import { OfferTable } from "../../transport/ferry/offers.ts";
import { BlockStore } from "../../transport/memory/pool-blocks.ts";
import { Pool } from "../../transport/memory/pool.ts";
import { STATE } from "../../transport/memory/pool-table.ts";
import { Connection } from "../../transport/peer/connection.ts";
import { Ongoing } from "../../transport/peer/ongoing.ts";
import { Peer } from "../../transport/peer/peer.ts";
import { Outbox } from "../../transport/session/outbox.ts";
import { Receiver } from "../../transport/session/receiver.ts";
import { Sender } from "../../transport/session/sender.ts";
import { Exchange } from "./exchange.ts";
import { VirtualLane } from "./lane.ts";
import { limits } from "./limits.ts";
import { replace } from "./replace.ts";

export interface Plant {
  readonly what: string;
  /** Returns how to mend it. */
  readonly plant: () => () => void;
}

export const PLANTS: Readonly<Record<string, Plant>> = {
  "retry-not-rearmed": {
    what: "a chunk that was lost twice is never sent again",
    plant: () => {
      const paused = new WeakMap<Outbox, Set<number>>();
      return replace(Outbox, "pause", (pause) => {
        return function (this: Outbox, chunk: number, untilUs: number): void {
          const before = paused.get(this) ?? new Set();
          paused.set(this, before);
          if (!before.has(chunk)) pause.call(this, chunk, untilUs);
          before.add(chunk);
        };
      });
    },
  },
  "revoked-too-early": {
    what: "revoke is answered before the lane has let go of the memory",
    plant: () =>
      replace(Exchange, "settle", (settle) => {
        return function (this: Exchange, placement): void {
          const { pins } = placement;
          placement.pins = 0;
          settle.call(this, placement);
          placement.pins = pins;
        };
      }),
  },
  "ack-before-verify": {
    what: "a chunk is acknowledged whatever its checksum says",
    plant: () =>
      replace(VirtualLane, "handleEnd", (handleEnd) => {
        return function (this: VirtualLane, head, payload, _flipped): void {
          handleEnd.call(this, head, payload, false);
        };
      }),
  },
  "lease-released-twice": {
    what: "leases are released twice, and so somebody else's as well",
    plant: () =>
      replace(Pool, "release", (release) => {
        return function (this: Pool, holder, blocks): void {
          release.call(this, holder, blocks);
          try {
            release.call(this, holder, blocks);
          } catch {
            // Nobody else has a lease on them.
          }
        };
      }),
  },
  "bitmap-forgotten": {
    what: "a receiver that is resumed has forgotten what it had",
    plant: () => {
      const mendBitmap = replace(Receiver, "committed", () => () => new Uint8Array(0));
      const mendList = replace(Receiver, "committedChunks", () => () => []);
      return () => {
        mendList();
        mendBitmap();
      };
    },
  },
  "generation-not-bumped": {
    what: "a block keeps its generation when it is given to somebody else",
    plant: () =>
      replace(BlockStore, "end", (end) => {
        return function (this: BlockStore, block): void {
          end.call(this, block);
          if (this.state[block] !== STATE.free) return;
          this.generation[block]! -= 1;
          this.enter(block, STATE.free);
        };
      }),
  },
  "stale-offer-accepted": {
    what: "an offer that has ended can be fetched again",
    plant: () => {
      const ended = new WeakMap<OfferTable, Map<string, ReturnType<OfferTable["get"]>>>();
      const mendEnd = replace(OfferTable, "end", (end) => {
        return function (this: OfferTable, offer, ok, code): void {
          const before = ended.get(this) ?? new Map();
          ended.set(this, before.set(offer.handle, { ...offer, claims: 0, settled: 0, closed: "", ready: "all", running: new Set() }));
          end.call(this, offer, ok, code);
        };
      });
      const mendGet = replace(OfferTable, "get", (get) => {
        return function (this: OfferTable, handle) {
          return ended.get(this)?.get(handle) ?? get.call(this, handle);
        };
      });
      return () => {
        mendGet();
        mendEnd();
      };
    },
  },
  "silence-unnoticed": {
    what: "what this side does itself counts as a word of the remote",
    plant: () =>
      replace(Connection, "turn", (turn) => {
        return function (this: Connection, nowUs, isBusy): void {
          this.heard(nowUs);
          turn.call(this, nowUs, isBusy);
        };
      }),
  },
  "loss-taken-for-success": {
    what: "a sender takes the loss of a lane for an acknowledgement",
    plant: () =>
      replace(Sender, "handleFailed", (handleFailed) => {
        return function (this: Sender, nowUs, chunk, sequence, code: ErrorCode): void {
          if (code === "lane_lost") this.handleAcked(nowUs, chunk);
          else handleFailed.call(this, nowUs, chunk, sequence, code);
        };
      }),
  },
  "window-ignored": {
    what: "a sender keeps twice as much under way as its window allows",
    plant: () =>
      replace(Peer, "newWindow", (newWindow) => {
        return function (this: Peer) {
          const policy = newWindow.call(this);
          return {
            window: () => {
              const { bytes, chunks, reason } = policy.window();
              return { bytes: 2 * bytes, chunks: 2 * chunks, reason };
            },
          };
        };
      }),
  },
  "grant-for-another-offer-taken": {
    what: "a holder takes a grant that was made for another layout than its own",
    plant: () => {
      let layout: Uint8Array = new Uint8Array(0);
      const mendServe = replace(Peer, "serve", (serve) => {
        return function (this: Peer, nowUs, deadlineUs, request, ...rest) {
          layout = request.layout;
          return serve.call(this, nowUs, deadlineUs, request, ...rest);
        };
      });
      const mendFetch = replace(Ongoing, "isAnswering", (isAnswering) => {
        return function (this: Ongoing, fetch) {
          if (fetch.grant?.held.length) {
            Object.defineProperty(fetch.grant, "held", { get: () => createHash("sha256").update(layout).digest() });
          }
          return isAnswering.call(this, fetch);
        };
      });
      return () => {
        mendFetch();
        mendServe();
      };
    },
  },
  "offers-without-end": {
    what: "one offer more is taken than there may be",
    plant: () =>
      replace(OfferTable, "add", (add) => {
        return function (this: OfferTable, ...offer) {
          const { offersMax } = limits;
          Object.assign(limits, { offersMax: offersMax + 1 });
          try {
            return add.call(this, ...offer);
          } finally {
            Object.assign(limits, { offersMax });
          }
        };
      }),
  },
};
