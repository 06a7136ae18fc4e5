/** Checks at the edges ("Expected X for NAME but received V") and assertions that stay on in production. No imports but errors. */
import { type ErrorCode, KvferryError } from "./errors.ts";

export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** For what must be true whatever the outside does. A failure is a bug in kvferry. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}

/** One form for every message about a bad value. */
export function expected(what: string, name: string, received: unknown, code: ErrorCode = "invalid_argument"): KvferryError {
  return new KvferryError(code, `Expected ${what} for ${name} but received ${show(received)}`);
}

/** An integer in [low, high], or an error that names it. */
export function integer(value: unknown, name: string, low: number, high: number, code?: ErrorCode): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < low || value > high) {
    throw expected(`an integer from ${low} to ${high}`, name, value, code);
  }
  // Minus zero is an integer too, and would not compare equal to what it is written as.
  return value === 0 ? 0 : value;
}

function show(value: unknown): string {
  if (typeof value === "string")
    return value.length > 64 ? `"${value.slice(0, 61)}..." of ${value.length} characters` : JSON.stringify(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (value === null) return "null of type null";
  // An object's own toString is foreign code, and may be missing.
  if (typeof value === "object" || typeof value === "function") return `a value of type ${typeof value}`;
  return `${String(value).slice(0, 64)} of type ${typeof value}`;
}

/** Throws invalid_argument on a number that is not finite, or below `least`. */
export function finiteFrom(least: number, numbers: Float32Array, what: string): Float32Array {
  const wrong = numbers.find((one) => !(one >= least && one < Number.POSITIVE_INFINITY));
  if (wrong !== undefined) throw expected(`finite numbers${least === LOWEST ? "" : ` of ${least} and more`}`, what, wrong);
  return numbers;
}

/** Any finite number is as much. */
export const LOWEST = -Number.MAX_VALUE;
