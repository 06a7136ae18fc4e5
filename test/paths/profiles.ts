/** The lab's links (bench/lab/wan: `wan.sh profiles`), as the model takes them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type LinkChange, type LinkSpec, linkSpec } from "./spec.ts";

const MBIT = 1_000_000;
const KiB = 1024;
const SECOND = 1_000_000;

/** Gbit/s over a minute, recorded by KVServe; the lab plays a fortieth of it. */
const TRACE = join(import.meta.dirname, "../../bench/lab/wan/bandwidth_trace.csv");
const TRACE_SCALE = 0.025;

export function bandwidthTrace(): { readonly changes: readonly LinkChange[]; readonly loopUs: number } {
  const [, ...rows] = readFileSync(TRACE, "utf8").trim().split("\n");
  const changes = rows.map((row) => {
    const [seconds = "", gbit = ""] = row.split(",");
    return { us: Math.round(Number(seconds) * SECOND), bitsPerSecond: Math.round(Number(gbit) * 1_000_000_000 * TRACE_SCALE) };
  });
  return { changes, loopUs: changes.at(-1)!.us + (changes.at(-1)!.us - changes.at(-2)!.us) };
}

const long = { bitsPerSecond: 1000 * MBIT, rttUs: 50_000, queueBytes: 6144 * KiB };
const middling = { bitsPerSecond: 1000 * MBIT, rttUs: 20_000, queueBytes: 4096 * KiB };
const trace = bandwidthTrace();

export const PROFILES = {
  metro: linkSpec({ bitsPerSecond: 8000 * MBIT, rttUs: 2_000, queueBytes: 2048 * KiB }),
  regional: linkSpec({ bitsPerSecond: 4000 * MBIT, rttUs: 20_000, queueBytes: 10_240 * KiB, loss: 0.0001 }),
  continental: linkSpec({ ...long, loss: 0.001 }),
  lossless: linkSpec(long),
  lossy: linkSpec({ ...long, loss: 0.01 }),
  bursty: linkSpec({ ...long, burstBegins: 0.0002, burstEnds: 0.1, jitterUs: 2_000 }),
  congested: linkSpec({ ...middling, timeline: trace.changes, loopUs: trace.loopUs }),
  blackout: linkSpec({
    ...middling,
    timeline: [
      { us: 5 * SECOND, bitsPerSecond: 0 },
      { us: 8 * SECOND, bitsPerSecond: 1000 * MBIT },
    ],
  }),
  asymmetric: linkSpec({ ...middling, reverseBitsPerSecond: 50 * MBIT }),
} satisfies Record<string, LinkSpec>;
