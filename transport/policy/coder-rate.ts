/**
 * What is known of a path whose coded chunks wait for their coders while lanes have nothing left to send. PURE. Two things follow from readings that find it so:
 *
 * How fast a profile really goes over the path. The same threads code, check and send, processors are others' as well, and the other end has its own work: what
 * comes out is less than the speeds of codecs promise. It is believed for a minute; then those speeds are once more, and the next transfers show what is true.
 *
 * That nobody has seen for how long what the wire takes: it may have become faster, and whoever codes would never know. After two seconds of it some transfers go as
 * they are, for a sixteenth of that time at most. Each look that finds the wire as it was doubles the patience for the next.
 */
import { assert } from "../check.ts";
import type { LaneInfo } from "../link/link.ts";
import type { PathLimit, WireState } from "./path-estimate.ts";

/** What is read of a path, as policy/path has it. */
export interface CoderLoad {
  readonly lanes: readonly Pick<LaneInfo, "notSentBytes" | "unansweredBytes">[];
  readonly lanesActive: number;
  readonly limit: PathLimit;
  readonly backlogBytes: number;
  readonly codedWireBytes?: number;
}

/** Of the bytes between two readings a profile has so many at least, or it is not its rate. */
const MOST_PARTS = 8 / 7;
const WEIGHT_PARTS = 4;
/** From so many samples on a rate is believed. */
const KNOWN_SAMPLES = 3;
const BELIEVED_US = 60_000_000;
const PATIENCE_US = 2_000_000;
const COST_PARTS = 16;
const DOUBLINGS_MOST = 6;
/** So often stored chunks have to show the wire before a look at it is over, or so many transfers. */
const LOOKS = 8;
const TRIES_MOST = 16;
/** Wires that differ by less are the same. */
const SAME_PARTS = 4;

interface Rate {
  bytesPerSecond: number;
  samples: number;
  atUs: number;
}

export class CoderRate {
  /** Original bytes since the last reading, by profile; "": as they are. */
  readonly #acked = new Map<string, number>();
  readonly #rates = new Map<string, Rate>();
  #readUs = 0;
  #isHeld = false;
  /** How long coders held the path up since its wire was seen. */
  #heldUs = 0;
  /** What the wire took when somebody wanted to know, and how often that was no news. */
  #seen = 0;
  #doublings = 0;
  /** Of the look that goes on: what it may cost yet, how many transfers more, and where it began. */
  #budgetUs = 0;
  #tries = 0;
  #since = 0;

  /** @param bytes original, of a chunk that was acknowledged; `profile`: "" = as it is */
  handleAcked(bytes: number, profile: string): void {
    this.#acked.set(profile, (this.#acked.get(profile) ?? 0) + bytes);
  }

  handleReading(nowUs: number, load: CoderLoad): void {
    const us = nowUs - this.#readUs;
    assert(us >= 0, "readings come one after the other");
    const isHeld = isHeldUp(load);
    // What waits and is not coded shows what the wire takes.
    if (load.backlogBytes > 0) this.#heldUs = 0;
    else if (isHeld && this.#isHeld && us > 0) {
      this.#heldUs += us;
      this.#note(nowUs, us);
    }
    this.#acked.clear();
    [this.#readUs, this.#isHeld] = [nowUs, isHeld];
  }

  /** Original bytes a second; 0 = not known, or not any more. */
  rate(nowUs: number, profile: string): number {
    const found = this.#rates.get(profile);
    return found === undefined || found.samples < KNOWN_SAMPLES || nowUs - found.atUs > BELIEVED_US ? 0 : found.bytesPerSecond;
  }

  /** Whether a transfer that would be coded goes as it is, to see what the wire takes. @param costUs what it is predicted to take more */
  explores(costUs: number, { bytesPerSecond, looks }: WireState): boolean {
    if (this.#tries === 0) {
      const isNews = Math.abs(bytesPerSecond - this.#seen) * SAME_PARTS > Math.max(bytesPerSecond, this.#seen);
      const times = isNews ? 1 : 2 ** this.#doublings;
      if (this.#heldUs < Math.max(PATIENCE_US, costUs * COST_PARTS) * times) return false;
      this.#doublings = isNews ? 0 : Math.min(this.#doublings + 1, DOUBLINGS_MOST);
      [this.#seen, this.#since, this.#tries] = [bytesPerSecond, looks, TRIES_MOST];
      [this.#budgetUs, this.#heldUs] = [this.#heldUs / COST_PARTS / times, 0];
    }
    const goesOn = looks - this.#since < LOOKS && costUs <= this.#budgetUs;
    this.#tries = goesOn ? this.#tries - 1 : 0;
    if (goesOn) this.#budgetUs -= costUs;
    return goesOn;
  }

  #note(nowUs: number, us: number): void {
    const all = [...this.#acked.values()].reduce((sum, bytes) => sum + bytes, 0);
    const [profile, bytes] = [...this.#acked].reduce((most, one) => (one[1] > most[1] ? one : most), ["", 0]);
    if (profile === "" || bytes * MOST_PARTS < all) return;
    const now = (bytes * 1_000_000) / us;
    const found = this.#rates.get(profile);
    // What was long ago says nothing of today.
    if (found === undefined || nowUs - found.atUs > BELIEVED_US) {
      this.#rates.set(profile, { bytesPerSecond: now, samples: 1, atUs: nowUs });
      return;
    }
    found.bytesPerSecond += (now - found.bytesPerSecond) / Math.min(found.samples + 1, WEIGHT_PARTS);
    found.samples += 1;
    found.atUs = nowUs;
  }
}

/** Coded chunks wait that no lane has taken, though one of those that might has nothing left to send, or the other end has no room. */
function isHeldUp({ lanes, lanesActive, limit, codedWireBytes = 0 }: CoderLoad): boolean {
  const takenBytes = lanes.reduce((sum, { unansweredBytes }) => sum + unansweredBytes, 0);
  const busy = lanes.filter(({ notSentBytes }) => notSentBytes > 0).length;
  return codedWireBytes > takenBytes && (busy < lanesActive || limit === "receiver");
}
