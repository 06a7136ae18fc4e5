/**
 * What the lab measured (bench/lab/wan, 28 November 2026, 2 shared cores, Linux 6.18, the ends under `chrt -r 1`; Gbit/s of payload), to be compared with
 * the model. Where a point was measured more than once it is the mean; slow flows were watched for a minute and more, with several WANEM_SEEDs, because a
 * few dozen losses say little.
 *
 *   flows     iperf3 -c 10.77.0.2 -P LANES -C CONTROL -t 15 -O 5 (congested: -t 60 -O 2; bursty with cubic: -t 20 -O 10)
 *   requests  kvferry bench -c 10.77.0.2 -P LANES -C CONTROL -t 8 --no-verify --model llama3-8b --tokens 2048: 256 MiB, one after the other
 *   blackout  BBR: sockets that always have more to send, from 1.8 s to 13.8 s after `wan.sh up`; cubic: iperf3 -t 13, begun 0.6 s after it
 *   cold      seconds of the first 256 MiB of a bench, connections included, on the continental link without loss
 *
 * Left out is what the ends' processors or the emulator bounded, not the link: 64 lanes of cubic at 4 Gbit/s (1.7 to 3.1), 16 lanes at 8 Gbit/s.
 */
import type { PROFILES } from "./profiles.ts";
import type { ControlName } from "./spec.ts";

export interface Measured {
  readonly profile: keyof typeof PROFILES;
  readonly how: "flows" | "requests" | "blackout" | "cold";
  readonly control: ControlName;
  /** By the number of lanes. */
  readonly values: Readonly<Record<number, number>>;
}

export const MEASURED: readonly Measured[] = [
  { profile: "metro", how: "flows", control: "bbr", values: { 1: 7.62, 2: 7.68, 4: 7.59, 16: 7.72 } },
  { profile: "metro", how: "flows", control: "cubic", values: { 1: 7.71, 8: 7.72, 64: 7.23 } },
  { profile: "metro", how: "requests", control: "bbr", values: { 1: 7.67, 4: 7.61 } },
  { profile: "regional", how: "flows", control: "bbr", values: { 1: 3.78, 2: 3.8, 4: 3.81, 16: 3.83 } },
  { profile: "regional", how: "flows", control: "cubic", values: { 1: 0.0755, 8: 0.594 } },
  { profile: "regional", how: "requests", control: "bbr", values: { 1: 3.62, 2: 3.69, 4: 3.61, 16: 3.6 } },
  { profile: "continental", how: "flows", control: "bbr", values: { 1: 0.944, 2: 0.939, 4: 0.945, 16: 0.948 } },
  { profile: "continental", how: "flows", control: "cubic", values: { 1: 0.0096, 8: 0.0698, 64: 0.587 } },
  { profile: "continental", how: "requests", control: "bbr", values: { 1: 0.899, 2: 0.911, 3: 0.916, 4: 0.918, 16: 0.903 } },
  { profile: "lossless", how: "requests", control: "bbr", values: { 1: 0.932, 2: 0.911, 4: 0.922 } },
  { profile: "lossy", how: "flows", control: "bbr", values: { 1: 0.924, 2: 0.937, 4: 0.945, 16: 0.946 } },
  { profile: "lossy", how: "flows", control: "cubic", values: { 1: 0.00242, 8: 0.0195, 64: 0.157 } },
  { profile: "lossy", how: "requests", control: "bbr", values: { 1: 0.861, 4: 0.882, 16: 0.862 } },
  { profile: "bursty", how: "flows", control: "bbr", values: { 1: 0.946, 2: 0.948, 4: 0.955, 16: 0.958 } },
  { profile: "bursty", how: "flows", control: "cubic", values: { 1: 0.0256, 8: 0.0781, 64: 0.537 } },
  { profile: "bursty", how: "requests", control: "bbr", values: { 1: 0.9, 4: 0.915, 16: 0.914 } },
  { profile: "congested", how: "flows", control: "cubic", values: { 1: 0.664, 8: 0.664, 64: 0.656 } },
  { profile: "congested", how: "requests", control: "bbr", values: { 1: 0.663, 4: 0.656, 16: 0.634 } },
  { profile: "asymmetric", how: "flows", control: "bbr", values: { 1: 0.938, 2: 0.951, 4: 0.959 } },
  { profile: "asymmetric", how: "flows", control: "cubic", values: { 1: 0.965, 8: 0.939, 64: 0.913 } },
  { profile: "asymmetric", how: "requests", control: "bbr", values: { 1: 0.957, 4: 0.933, 16: 0.923 } },
  { profile: "blackout", how: "blackout", control: "bbr", values: { 1: 0.681, 4: 0.626, 16: 0.643 } },
  { profile: "blackout", how: "blackout", control: "cubic", values: { 1: 0.655, 8: 0.654, 64: 0.633 } },
  { profile: "lossless", how: "cold", control: "bbr", values: { 1: 2.67, 4: 2.58, 16: 2.48, 32: 2.5 } },
];
