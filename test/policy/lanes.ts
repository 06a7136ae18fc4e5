/** Readings of lanes for tests of the path's policies: what a kernel would count on a path of a given rate. */
import type { LaneInfo } from "../../transport/link/link.ts";
import { laneInfo } from "./lane-info.ts";

export const LANE: LaneInfo = laneInfo({ rttUs: 50_000, minRttUs: 50_000, notSentBytes: 500_000 });

/** Lanes that go on counting from one reading to the next. */
export class CountingLanes {
  #lanes: LaneInfo[];

  constructor(count: number, changes: Partial<LaneInfo> = {}) {
    this.#lanes = Array.from({ length: count }, (_, lane) => ({ ...LANE, ...changes, lane }));
  }

  get all(): readonly LaneInfo[] {
    return this.#lanes;
  }

  /** `us` pass in which so many bytes arrive, evenly over the lanes; `changes` are what each lane reads then. */
  pass(us: number, bytes: number, changes: Partial<LaneInfo> = {}, repeatedBytes = 0): readonly LaneInfo[] {
    const each = bytes / this.#lanes.length;
    const again = repeatedBytes / this.#lanes.length;
    this.#lanes = this.#lanes.map((lane) => ({
      ...lane,
      bytesSent: lane.bytesSent + each + again,
      bytesDelivered: lane.bytesDelivered + each,
      bytesRetransmitted: lane.bytesRetransmitted + again,
      busyUs: lane.busyUs + us,
      ...changes,
    }));
    return this.#lanes;
  }
}
