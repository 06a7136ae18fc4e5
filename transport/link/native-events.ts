/** Entries of the completion array as LinkEvents. The numbers are native/core/events.h. */
import { unreachable } from "../check.ts";
import type { NativeMover } from "../native.ts";
import type { TlsPeer } from "../tls/options.ts";
import type { ConnectionId, LinkEvent } from "./link.ts";
import { REFUSAL_REASONS, type RefusalReason } from "./refusals.ts";

const WORDS = 16;
const DOUBLES = 8;
/** Lane of an event about a chunk that no lane had taken. */
const NO_LANE = 0xffff_ffff;

export function readEvent(mover: NativeMover, words: Uint32Array, doubles: Float64Array, index: number): LinkEvent {
  const at = index * WORDS;
  const subject = doubles[index * DOUBLES + 3] as number;
  const lane = words[at + 1] === NO_LANE ? -1 : (words[at + 1] as number);
  const chunk = words[at + 2] as number;
  const code = words[at + 4] as number;
  switch (words[at] as number) {
    case 1:
      return { kind: "accepted", connection: subject, remote: mover.remote(subject), ...peerOf(mover, subject) };
    case 2:
      return { kind: "connected", connection: subject, remote: mover.remote(subject), ...peerOf(mover, subject) };
    case 3:
      return { kind: "disconnected", connection: subject, code, detail: mover.detail(subject) };
    case 4:
      return { kind: "message", connection: subject, bytes: mover.message(subject) };
    case 5:
      return { kind: "laneUp", connection: subject, lane };
    case 6:
      return { kind: "laneDown", connection: subject, lane, code };
    case 7: {
      const durationUs = doubles[index * DOUBLES + 4] as number;
      return {
        kind: "acked",
        placement: subject,
        chunk,
        sequence: words[at + 3] as number,
        lane,
        bytes: words[at + 5] as number,
        durationUs,
      };
    }
    case 8:
      return { kind: "failed", placement: subject, chunk, sequence: words[at + 3] as number, lane, code };
    case 9:
      return { kind: "committed", placement: subject, chunk, sequence: words[at + 3] as number, lane, bytes: words[at + 5] as number };
    case 10:
      return { kind: "rejected", placement: subject, chunk, lane, bytes: words[at + 5] as number, code };
    case 11:
      return { kind: "revoked", placement: subject };
    case 12:
      return readRefusal(mover);
    default:
      return unreachable(words[at] as never);
  }
}

function peerOf(mover: NativeMover, connection: ConnectionId): { peer?: TlsPeer } {
  const peer = mover.peer(connection);
  return peer === undefined ? {} : { peer };
}

function readRefusal(mover: NativeMover): LinkEvent {
  const { reason, remote, detail } = mover.refused();
  return { kind: "refused", reason: REFUSAL_REASONS[reason] as RefusalReason, remote, detail };
}
