/** The product's own table of bounds, shrunk for one seed and put back afterwards. */
import "./thaw.ts";
import { type Limits, limits } from "../../transport/limits.ts";

const original: Limits = { ...limits };

export type LimitName = keyof Limits;

/** Throws if thaw.ts came too late. */
export function shrinkLimits(changes: Readonly<Partial<Record<LimitName, number>>>): void {
  if (Object.isFrozen(limits)) throw new Error("test/sim/thaw.ts must be imported before transport/limits.ts");
  Object.assign(limits, original, changes);
}

export function restoreLimits(): void {
  Object.assign(limits, original);
}

export { limits };
