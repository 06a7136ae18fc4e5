/** Draws that the link model needs, from the simulator's own random source. */
import type { Random } from "../sim/random.ts";

/** 0 <= x < 1. */
export function uniform(random: Random): number {
  return random.next() / 0x1_0000_0000;
}

/** Between `low` and `high`, every decade as likely as the next. */
export function logUniform(random: Random, low: number, high: number): number {
  return low * (high / low) ** uniform(random);
}

/** How often something happened that happens `mean` times on average. */
export function poisson(random: Random, mean: number): number {
  if (mean <= 0) return 0;
  if (mean > 12) return Math.max(0, Math.round(mean + Math.sqrt(mean) * normal(random)));
  let count = 0;
  for (let product = uniform(random), least = Math.exp(-mean); product > least; product *= uniform(random)) count += 1;
  return count;
}

/** Mean 0, deviation 1: four draws are near enough. */
function normal(random: Random): number {
  return Math.sqrt(3) * (uniform(random) + uniform(random) + uniform(random) + uniform(random) - 2);
}
