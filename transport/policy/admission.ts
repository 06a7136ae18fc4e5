/** Whether a new transfer may start now. PURE: the node says what it has, the answer has a code and a reason. */
import { assert } from "../check.ts";
import type { ErrorCode } from "../errors.ts";
import { limits } from "../limits.ts";

export interface AdmissionBounds {
  readonly transfersMax: number;
  /** Bytes of all transfers under way, planned and not yet placed. */
  readonly bytesMax: number;
}

/** What is under way, without the newcomer. */
export interface AdmissionLoad {
  readonly transfers: number;
  readonly bytes: number;
  /** Peers with at least one transfer. */
  readonly peers: number;
  readonly transfersOfPeer: number;
  readonly bytesOfPeer: number;
}

export interface Admission {
  readonly admit: boolean;
  readonly code: ErrorCode | "";
  readonly reason: string;
}

export const defaultBounds: AdmissionBounds = Object.freeze({ transfersMax: limits.transfersMax, bytesMax: limits.admittedBytesMax });

/** The first so-many parts of four of what there is go to whoever comes; the last are shared out evenly between peers. */
const FREE_PARTS = 2;
const PARTS = 4;

/** `bytes`: what the newcomer would move, with the peer that `load` counts separately. */
export function admit(load: AdmissionLoad, bytes: number, bounds: AdmissionBounds = defaultBounds): Admission {
  assert(load.transfersOfPeer <= load.transfers && load.bytesOfPeer <= load.bytes, "a peer has no more than all peers");
  if (load.transfers >= bounds.transfersMax) {
    return refuse("too_many_transfers", `${load.transfers} of ${bounds.transfersMax} transfers are under way`);
  }
  // A transfer that is larger than the bound itself still gets its turn, alone.
  if (load.bytes > 0 && load.bytes + bytes > bounds.bytesMax) {
    return refuse("full", `${load.bytes} bytes are under way, ${bytes} more exceed ${bounds.bytesMax}`);
  }
  const peers = load.peers + (load.transfersOfPeer === 0 ? 1 : 0);
  if (load.transfers * PARTS >= bounds.transfersMax * FREE_PARTS) {
    const share = Math.max(Math.ceil(bounds.transfersMax / peers), 1);
    if (load.transfersOfPeer >= share)
      return refuse("too_many_transfers", `its peer has its share of ${share} of ${bounds.transfersMax} transfers`);
  }
  if (load.bytes * PARTS >= bounds.bytesMax * FREE_PARTS) {
    const share = Math.ceil(bounds.bytesMax / peers);
    if (load.bytesOfPeer > 0 && load.bytesOfPeer + bytes > share)
      return refuse("full", `its peer has its share of ${share} of ${bounds.bytesMax} bytes`);
  }
  return { admit: true, code: "", reason: `transfer ${load.transfers + 1} of ${bounds.transfersMax}, for one of ${peers} peers` };
}

function refuse(code: ErrorCode, reason: string): Admission {
  return { admit: false, code, reason };
}
