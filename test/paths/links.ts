/** Links at random: one for each seed, over the range that the product is for. */
import { Random } from "../sim/random.ts";
import { logUniform, uniform } from "./chance.ts";
import { type HostSpec, type LinkChange, type LinkSpec, linkSpec } from "./spec.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const PRODUCT_MOST = 1 * GiB;
const QUEUE_LEAST = 128 * KiB;
/** Half of tcp_rmem's most, and tcp_wmem's most: as Linux has them, as this project's hosts do, and as somebody who moves much data sets them. */
const BUFFERS = [3 * MiB, 16 * MiB, 256 * MiB];
const SEND_BUFFERS = [4 * MiB, 16 * MiB, 256 * MiB];
/** One processor for one lane. */
const LANE_LEAST = 1.5e9;
const LANE_MOST = 5e9;

export interface RandomLink {
  readonly seed: number;
  readonly spec: LinkSpec;
  readonly seconds: number;
}

export function randomLink(seed: number): RandomLink {
  const random = new Random(seed, "link");
  let bitsPerSecond = 0;
  let rttUs = 0;
  do {
    bitsPerSecond = Math.round(logUniform(random, 10e6, 400e9));
    rttUs = Math.round(logUniform(random, 10, 300_000));
  } while ((bitsPerSecond / 8) * (rttUs / 1_000_000) > PRODUCT_MOST);
  const product = (bitsPerSecond / 8) * (rttUs / 1_000_000);
  const seconds = random.between(20, 30) + Math.round((30 * rttUs) / 300_000);
  const isBursty = random.chance(3, 20);
  const queueBytes = Math.round(Math.max(product * logUniform(random, 0.25, 4), QUEUE_LEAST));
  const reverseBitsPerSecond = random.chance(3, 20) ? Math.round(bitsPerSecond / logUniform(random, 1, 20)) : bitsPerSecond;
  const jitterUs = random.chance(1, 5) ? Math.round(rttUs * uniform(random) * 0.1) : 0;
  const loss = random.chance(3, 5) ? logUniform(random, 1e-6, 0.05) : 0;
  const burstBegins = isBursty ? logUniform(random, 1e-6, 2e-4) : 0;
  const burstEnds = isBursty ? 1 / random.between(2, 20) : 1;
  const timeline = random.chance(1, 4) ? timelineOf(random, bitsPerSecond, seconds) : [];
  const slowest = timeline.reduce((least, { bitsPerSecond: bits }) => (bits > 0 ? Math.min(least, bits) : least), bitsPerSecond);
  const spec = linkSpec({
    ...{ bitsPerSecond, rttUs, queueBytes, reverseBitsPerSecond, jitterUs, loss, burstBegins, burstEnds, timeline },
    udpBitsPerSecond: random.chance(1, 4) ? Math.round(slowest * (0.05 + 0.45 * uniform(random))) : 0,
    foreignFlows: random.chance(1, 4) ? random.between(1, 4) : 0,
    foreignControl: random.chance(1, 2) ? "bbr" : "cubic",
    control: random.chance(3, 4) ? "bbr" : "cubic",
    host: hostOf(random),
  });
  return { seed, spec, seconds };
}

function hostOf(random: Random): HostSpec {
  return {
    receiveWindowBytes: random.pick(BUFFERS),
    sendBufferBytes: random.pick(SEND_BUFFERS),
    laneBytesPerSecond: Math.round(logUniform(random, LANE_LEAST, LANE_MOST)),
  };
}

/** One to three steps to between a quarter of the rate and all of it, or a short blackout. */
function timelineOf(random: Random, bitsPerSecond: number, seconds: number): LinkChange[] {
  const at = (): number => Math.round((0.1 + 0.8 * uniform(random)) * seconds * 1_000_000);
  if (random.chance(1, 5)) {
    const us = at();
    return [
      { us, bitsPerSecond: 0 },
      { us: us + random.between(200_000, 1_000_000), bitsPerSecond },
    ];
  }
  const times = Array.from({ length: random.between(1, 3) }, at).sort((a, b) => a - b);
  return times.map((us) => ({ us, bitsPerSecond: Math.round(bitsPerSecond * logUniform(random, 0.25, 1)) }));
}
