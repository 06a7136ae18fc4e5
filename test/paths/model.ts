/** The model's answer to what the lab measured: the mean of a few seeds. */
import { type FixedLoad, runCold, runFixed } from "./fixed.ts";
import type { Measured } from "./measured.ts";
import { PROFILES } from "./profiles.ts";

const SEEDS = [1, 2, 3, 4, 5, 6];
const REQUEST_BYTES = 256 * 1024 * 1024;

/** In the unit of the measurement. */
export function modelled({ profile, how, control }: Measured, lanes: number): number {
  const spec = { ...PROFILES[profile], control };
  if (how === "cold") return mean(SEEDS.map((seed) => runCold(spec, lanes, REQUEST_BYTES, seed)));
  return (mean(SEEDS.map((seed) => runFixed(spec, { lanes, ...loadOf(how, profile, control) }, seed).bytesPerSecond)) * 8) / 1e9;
}

function loadOf(how: Measured["how"], profile: Measured["profile"], control: Measured["control"]): Omit<FixedLoad, "lanes"> {
  const [fromSeconds, toSeconds] = profile === "congested" ? [2, 62.6] : profile === "bursty" ? [10, 30] : [5, 20];
  if (how === "blackout")
    return control === "bbr"
      ? { openSeconds: 0.45, fromSeconds: 1.8, toSeconds: 13.8 }
      : { openSeconds: 0.6, fromSeconds: 0.6, toSeconds: 13.6 };
  return { fromSeconds, toSeconds, ...(how === "requests" ? { requestBytes: REQUEST_BYTES } : {}) };
}

function mean(all: readonly number[]): number {
  return all.reduce((sum, one) => sum + one, 0) / all.length;
}
