/** Unguessable names that carry the incarnation of the pool, so that one of a former life is told apart from a wrong one. */
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";

const WELL_FORMED = /^[0-9a-f]{8}-[0-9a-f]{32,55}$/;

export function newHandle(incarnation: string, random: (count: number) => Uint8Array): string {
  return `${incarnation.slice(0, 8)}-${Buffer.from(random(16)).toString("hex")}`;
}

/** A handle that its user chose, so that it could be told to others before it exists. Throws invalid_argument or incarnation_mismatch. */
export function checkHandle(incarnation: string, handle: string): string {
  if (!WELL_FORMED.test(handle)) throw expected("the incarnation's first 8 digits, a dash and 32 to 55 hex digits", "handle", handle);
  if (!handle.startsWith(incarnation.slice(0, 8))) throw unknownHandle(incarnation, handle);
  return handle;
}

/** The error for a handle that is not in a table. */
export function unknownHandle(incarnation: string, handle: string): KvferryError {
  const wellFormed = WELL_FORMED.test(handle);
  if (wellFormed && !handle.startsWith(incarnation.slice(0, 8)))
    return new KvferryError("incarnation_mismatch", "the handle is of a former start");
  return new KvferryError("handle_unknown", wellFormed ? "spent, withdrawn or never given" : "not a handle");
}
