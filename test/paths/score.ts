/** How well the policies used a link: how much of a fair share they got, how steadily once settled, and what they left to others. */
import { Random } from "../sim/random.ts";
import { Drive, type DriveOptions } from "./drive.ts";
import { fairShare, foreignShare } from "./fair.ts";
import type { RandomLink } from "./links.ts";

/** Goodput is averaged over a second, or ten round trips where that is more. */
const WINDOW_US = 1_000_000;
const WINDOW_RTTS = 10;
/** After the first third, or so many round trips, a path counts as settled: the search for the number of lanes takes as long. */
const SETTLED_RTTS = 100;
/** After a change of the link so many windows belong to the change. */
const CHANGED_WINDOWS = 3;
/** Goodput may move by so much of its mean. */
export const SWING_MOST = 0.1;

export interface Score {
  readonly seed: number;
  /** Bytes a second once settled: ours, a fair share, and the first as a part of the second. */
  readonly goodput: number;
  readonly fair: number;
  readonly share: number;
  /** From the begin, start included. */
  readonly wholeShare: number;
  /** How far windows are apart once settled, as a part of their mean; how far decisions moved them. */
  readonly swing: number;
  readonly ownSwing: number;
  readonly lanes: number;
  readonly lanesMost: number;
  /** Of the number of lanes, once settled. */
  readonly changes: number;
  readonly reason: string;
  /** What foreign flows had of an even share; 1 where there is none. */
  readonly foreignShare: number;
}

interface Window {
  bytes: number;
  fairBytes: number;
  foreignBytes: number;
  foreignFairBytes: number;
  us: number;
  isOdd: boolean;
}

/**
 * A swing counts as the policies' own where lanes came or went once settled, and only as far as it is wider than without that: with as many lanes from
 * begin to end as there were in the end, and, in the very same run, with those of the moment from which on it counts as settled. Others' flows, losses and
 * the congestion control move goodput as well: of two runs beside foreign BBR flows in which nothing is decided, one swings a tenth wider than the other on
 * every fourth link, so that one of them alone would say more about chance than about decisions.
 */
export function scoreLink(link: RandomLink): Score {
  const score = scoreRun(link, {});
  if (score.swing <= SWING_MOST || score.changes === 0) return score;
  const fixed = scoreRun(link, { least: score.lanes, most: score.lanes });
  const kept = scoreRun(link, { lanesUntilUs: settledUs(link) });
  return { ...score, ownSwing: Math.max(score.swing - Math.max(fixed.swing, kept.swing), 0) };
}

function settledUs({ spec, seconds }: RandomLink): number {
  return Math.max((seconds * 1_000_000) / 3, SETTLED_RTTS * spec.rttUs);
}

function scoreRun(link: RandomLink, options: Partial<DriveOptions>): Score {
  const { seed, spec, seconds } = link;
  const drive = new Drive(spec, { seconds, ...options }, new Random(seed, "drive"));
  const fromUs = settledUs(link);
  const watch = new Watch(drive, Math.max(WINDOW_US, WINDOW_RTTS * spec.rttUs), fromUs);
  drive.run(() => watch.look());
  const whole = sumOf(watch.windows);
  const settledWindows = watch.windows.slice(Math.ceil(fromUs / watch.windowUs));
  const settled = sumOf(settledWindows);
  return {
    ...{ seed, lanes: drive.lanes, lanesMost: watch.lanesMost, changes: watch.changes, reason: drive.path.decision.lanes.reason },
    goodput: (settled.bytes * 1_000_000) / settled.us,
    fair: (settled.fairBytes * 1_000_000) / settled.us,
    share: settled.bytes / settled.fairBytes,
    wholeShare: whole.bytes / whole.fairBytes,
    // The last window may be half a one.
    swing: swingOf(settledWindows.slice(0, -1).filter(({ isOdd, fairBytes }) => !isOdd && fairBytes > 0)),
    ownSwing: 0,
    foreignShare: spec.foreignFlows === 0 ? 1 : settled.foreignBytes / settled.foreignFairBytes,
  };
}

/** Adds each step of a run to its window. */
class Watch {
  readonly windows: Window[] = [];
  readonly windowUs: number;
  lanesMost = 0;
  changes = 0;
  readonly #drive: Drive;
  readonly #settledUs: number;
  #lanes = 0;
  #bytes = 0;
  #foreignBytes = 0;
  #oddUntilUs = 0;
  #capacity: number;
  #fair: number;
  #foreignFair: number;

  constructor(drive: Drive, windowUs: number, settledUs: number) {
    this.#drive = drive;
    this.windowUs = windowUs;
    this.#settledUs = settledUs;
    const { spec, capacity } = drive.network;
    this.#capacity = capacity;
    this.#fair = fairShare(spec, capacity);
    this.#foreignFair = foreignShare(spec, capacity);
  }

  look(): void {
    const { lanes, deliveredBytes, isPausing, network } = this.#drive;
    const { nowUs, stepUs, spec, capacity } = network;
    const window = this.#window(nowUs);
    let foreignBytes = 0;
    for (const flow of network.foreign) foreignBytes += flow.deliveredBytes;
    window.us += stepUs;
    window.bytes += deliveredBytes - this.#bytes;
    window.foreignBytes += foreignBytes - this.#foreignBytes;
    window.fairBytes += (this.#fair * stepUs) / 1_000_000;
    window.foreignFairBytes += (this.#foreignFair * stepUs) / 1_000_000;
    this.#bytes = deliveredBytes;
    this.#foreignBytes = foreignBytes;
    if (capacity !== this.#capacity) {
      this.#capacity = capacity;
      this.#fair = fairShare(spec, capacity);
      this.#foreignFair = foreignShare(spec, capacity);
      this.#oddUntilUs = nowUs + CHANGED_WINDOWS * this.windowUs;
    }
    // What BBR does to itself by its own clock is no swing of a decision.
    if (nowUs < this.#oddUntilUs || isPausing) window.isOdd = true;
    this.lanesMost = Math.max(this.lanesMost, lanes);
    if (lanes !== this.#lanes && nowUs > this.#settledUs) this.changes += 1;
    this.#lanes = lanes;
  }

  #window(nowUs: number): Window {
    const at = Math.floor(nowUs / this.windowUs);
    while (this.windows.length <= at) this.windows.push(sumOf([]));
    return this.windows[at]!;
  }
}

function sumOf(windows: readonly Window[]): Window {
  const sum: Window = { bytes: 0, fairBytes: 0, foreignBytes: 0, foreignFairBytes: 0, us: 0, isOdd: false };
  for (const { bytes, fairBytes, foreignBytes, foreignFairBytes, us } of windows) {
    sum.bytes += bytes;
    sum.fairBytes += fairBytes;
    sum.foreignBytes += foreignBytes;
    sum.foreignFairBytes += foreignFairBytes;
    sum.us += us;
  }
  return sum;
}

/** Of the share, because the link itself may have had several rates. */
function swingOf(windows: readonly Window[]): number {
  if (windows.length < 2) return 0;
  const all = windows.map(({ bytes, fairBytes }) => bytes / fairBytes);
  const mean = all.reduce((sum, one) => sum + one, 0) / all.length;
  return (Math.max(...all) - Math.min(...all)) / mean;
}
