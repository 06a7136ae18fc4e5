/** What the links' command prints. */
import type { Reading } from "./drive.ts";
import { randomLink, type RandomLink } from "./links.ts";
import { type Score, SWING_MOST } from "./score.ts";

/** So many links get so much of their fair share. */
const SHARE_LEAST = 0.9;
const LINKS_LEAST = 0.95;
/** Links are drawn by chance: so many standard deviations below what is wanted is no chance any more (one run in a thousand). */
const DEVIATIONS = 3;
const WORST = 10;

export interface Report {
  readonly text: string;
  /** Enough links got enough, as far as so many links at random can say. */
  readonly holds: boolean;
}

export function reportOf(scores: readonly Score[]): Report {
  const good = scores.filter(({ share }) => share >= SHARE_LEAST);
  const own = scores.filter(({ ownSwing }) => ownSwing > SWING_MOST);
  const wide = scores.filter(({ swing }) => swing > SWING_MOST);
  const beside = scores.filter(({ seed }) => randomLink(seed).spec.foreignFlows > 0);
  const lines = [
    ...table(scores),
    "",
    `goodput of at least ${percent(SHARE_LEAST)} of the fair share: ${percent(good.length / scores.length)} of the links (${percent(LINKS_LEAST)} wanted)`,
    `once settled, decisions moved goodput by more than ${percent(SWING_MOST)}: ${percent(own.length / scores.length)} of the links (none wanted); ` +
      `whatever the cause: ${percent(wide.length / scores.length)}`,
    `foreign TCP flows kept, of an even share: ${middle(beside.map(({ foreignShare }) => foreignShare)).toFixed(2)} at the median of ${beside.length} links`,
    "",
    "least of the fair share:",
    ...worst(scores, ({ share }) => -share).map(describeScore),
    "",
    "moved most by decisions:",
    ...worst(own, ({ ownSwing }) => ownSwing).map(describeScore),
  ];
  return { text: lines.join("\n"), holds: isLikely(good.length, scores.length) };
}

/** Whether so many good ones of `count` can be drawn where as many are good as is wanted. */
export function isLikely(good: number, count: number): boolean {
  return good >= LINKS_LEAST * count - DEVIATIONS * Math.sqrt(count * LINKS_LEAST * (1 - LINKS_LEAST));
}

/** By congestion control, and whether others compete. */
function table(scores: readonly Score[]): string[] {
  const kinds = new Map<string, Score[]>();
  for (const score of scores) {
    const { control, foreignFlows, foreignControl } = randomLink(score.seed).spec;
    const kind = foreignFlows === 0 ? control : `${control} beside ${foreignControl}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), score]);
  }
  const rows = [...kinds]
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([kind, all]) => [
      kind,
      String(all.length),
      percent(all.filter(({ share }) => share >= SHARE_LEAST).length / all.length),
      middle(all.map(({ share }) => share)).toFixed(2),
      String(middle(all.map(({ lanes }) => lanes))),
      percent(all.filter(({ ownSwing }) => ownSwing > SWING_MOST).length / all.length),
    ]);
  const head = ["", "links", "at least 90 %", "median", "lanes", "moved"];
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column]!.length)));
  return [head, ...rows].map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join("  "),
  );
}

function worst(scores: readonly Score[], badness: (score: Score) => number): Score[] {
  return [...scores].sort((a, b) => badness(b) - badness(a)).slice(0, WORST);
}

export function describeLink({ seed, spec, seconds }: RandomLink): string {
  const { bitsPerSecond, rttUs, queueBytes, loss, burstBegins, burstEnds, jitterUs, timeline, udpBitsPerSecond, host } = spec;
  const parts = [
    `link ${seed}: ${rate(bitsPerSecond)}, ${rttUs / 1_000} ms, queue ${((queueBytes * 8_000_000) / bitsPerSecond / rttUs).toFixed(2)} of what it holds`,
    spec.control,
    ...(loss > 0 ? [`loss ${(loss * 100).toPrecision(2)} %`] : []),
    ...(burstBegins > 0 ? [`bursts of ${Math.round(1 / burstEnds)} (${(burstBegins * 100).toPrecision(2)} %)`] : []),
    ...(jitterUs > 0 ? [`jitter ${jitterUs} us`] : []),
    ...(spec.reverseBitsPerSecond !== bitsPerSecond ? [`back ${rate(spec.reverseBitsPerSecond)}`] : []),
    ...timeline.map(({ us, bitsPerSecond: bits }) => `${(us / 1_000_000).toFixed(1)} s: ${bits === 0 ? "dead" : rate(bits)}`),
    ...(udpBitsPerSecond > 0 ? [`UDP ${rate(udpBitsPerSecond)}`] : []),
    ...(spec.foreignFlows > 0 ? [`${spec.foreignFlows} foreign ${spec.foreignControl}`] : []),
    `lanes of ${host.receiveWindowBytes >> 20}/${host.sendBufferBytes >> 20} MiB and ${rate(host.laneBytesPerSecond * 8)}`,
  ];
  return `${parts.join(", ")}; ${seconds} s`;
}

export function describeScore(score: Score): string {
  const { seed, share, wholeShare, goodput, fair, swing, ownSwing, lanes, lanesMost, foreignShare, reason } = score;
  return (
    `  ${describeLink(randomLink(seed))}\n    ${rate(goodput * 8)} of ${rate(fair * 8)} (${share.toFixed(2)}; with its start ${wholeShare.toFixed(2)}), ` +
    `moved by ${percent(swing)} (${percent(ownSwing)} its own), ${lanes} lanes (${lanesMost} at most), others kept ${foreignShare.toFixed(2)}; ${reason}`
  );
}

export function describeReading({ nowUs, bytesPerSecond, capacity, lanesUp, estimate, decision }: Reading): string {
  const { goodputBytesPerSecond, confidence, rttUs, queueUs, lossRatio, limit } = estimate;
  const { lanes, pace } = decision;
  const parts = [
    `${(nowUs / 1_000_000).toFixed(2)} s: ${rate(bytesPerSecond * 8)} of ${rate(capacity * 8)}`,
    `estimated ${rate(goodputBytesPerSecond * 8)} (${confidence.toFixed(2)})`,
    `round trip ${rttUs} us with a queue of ${queueUs}`,
    `repeated ${percent(lossRatio)}`,
    `limit ${limit}`,
    `${lanesUp} lanes up`,
  ];
  const paced = pace.bytesPerSecond === 0 ? "" : `${rate(pace.bytesPerSecond * 8)}: `;
  return `${parts.join(", ")}; lanes ${lanes.lanes}: ${lanes.reason}; pace ${paced}${pace.reason}`;
}

function rate(bitsPerSecond: number): string {
  const [unit, name] = bitsPerSecond >= 1e9 ? [1e9, "Gbit/s"] : [1e6, "Mbit/s"];
  return `${(bitsPerSecond / unit!).toFixed(2)} ${name}`;
}

function percent(ratio: number): string {
  return `${(ratio * 100).toFixed(1)} %`;
}

function middle(all: readonly number[]): number {
  return [...all].sort((a, b) => a - b)[all.length >> 1] ?? 0;
}
