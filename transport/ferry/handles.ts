/** Unguessable names that carry the incarnation of the pool, so that one of a former life is told apart from a wrong one. */
import { KvferryError } from "../errors.ts";

export function newHandle(incarnation: string, random: (count: number) => Uint8Array): string {
  return `${incarnation.slice(0, 8)}-${Buffer.from(random(16)).toString("hex")}`;
}

/** The error for a handle that is not in a table. */
export function unknownHandle(incarnation: string, handle: string): KvferryError {
  const wellFormed = /^[0-9a-f]{8}-[0-9a-f]{32}$/.test(handle);
  if (wellFormed && !handle.startsWith(incarnation.slice(0, 8)))
    return new KvferryError("incarnation_mismatch", "the handle is of a former start");
  return new KvferryError("handle_unknown", wellFormed ? "spent, withdrawn or never given" : "not a handle");
}
