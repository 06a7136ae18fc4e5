/** A fixed number of lanes without any decision: plain TCP, to be compared with what the lab measures. */
import { Random } from "../sim/random.ts";
import { Network } from "./network.ts";
import type { LinkSpec } from "./spec.ts";

export interface FixedLoad {
  readonly lanes: number;
  /** What is measured, in seconds since the link is there; lanes are opened after the first `openSeconds`. */
  readonly openSeconds?: number;
  readonly fromSeconds: number;
  readonly toSeconds: number;
  /** One request after the other; absent: always more to send. */
  readonly requestBytes?: number;
}

export interface FixedResult {
  readonly bytesPerSecond: number;
  readonly repeatsPerSecond: number;
  readonly meanQueueUs: number;
}

export function runFixed(spec: LinkSpec, load: FixedLoad, seed: number): FixedResult {
  const { lanes, openSeconds = 0, fromSeconds, toSeconds, requestBytes } = load;
  const network = new Network(spec, new Random(seed));
  for (let lane = 0; lane < lanes; lane++) network.openOurs(lane, openSeconds * 1_000_000);
  const flows = network.ours;
  const delivered = (): number => flows.reduce((sum, flow) => sum + flow.deliveredBytes, 0);
  const repeated = (): number => flows.reduce((sum, flow) => sum + flow.info().retransmits, 0);
  let left = requestBytes ?? Number.MAX_SAFE_INTEGER;
  let end = left;
  let from: { readonly bytes: number; readonly repeats: number } | undefined;
  let queueUs = 0;
  let steps = 0;
  while (network.nowUs < toSeconds * 1_000_000) {
    left -= network.step(left);
    if (requestBytes !== undefined && delivered() >= end - 1) {
      left = requestBytes;
      end += requestBytes;
    }
    if (network.nowUs < fromSeconds * 1_000_000) continue;
    from ??= { bytes: delivered(), repeats: repeated() };
    queueUs += network.rttUs - spec.rttUs;
    steps += 1;
  }
  const seconds = toSeconds - fromSeconds;
  return {
    bytesPerSecond: (delivered() - from!.bytes) / seconds,
    repeatsPerSecond: (repeated() - from!.repeats) / seconds,
    meanQueueUs: queueUs / steps,
  };
}

/** Seconds until the first `requestBytes` are there, over lanes that are open from the begin. */
export function runCold(spec: LinkSpec, lanes: number, requestBytes: number, seed: number): number {
  const network = new Network(spec, new Random(seed));
  for (let lane = 0; lane < lanes; lane++) network.openOurs(lane, 2 * spec.rttUs);
  const flows = network.ours;
  let left = requestBytes;
  while (flows.reduce((sum, flow) => sum + flow.deliveredBytes, 0) < requestBytes - 1) left -= network.step(left);
  return network.nowUs / 1_000_000;
}
