/** Readings of lanes for tests of the path's policies: what a kernel would count on a path of a given rate. */
import type { LaneInfo } from "../../transport/link/link.ts";

export const LANE: LaneInfo = {
  lane: 0,
  bytesSent: 0,
  bytesReceived: 0,
  bytesDelivered: 0,
  bytesRetransmitted: 0,
  deliveryRateBytesPerSecond: 0,
  rttUs: 50_000,
  minRttUs: 50_000,
  retransmits: 0,
  lost: 0,
  congestionWindowBytes: 0,
  notSentBytes: 500_000,
  busyUs: 0,
  receiveWindowLimitedUs: 0,
  sendBufferLimitedUs: 0,
  congestionControl: "bbr",
};

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
