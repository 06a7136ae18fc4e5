/** What a kernel that has counted nothing says of a lane, and what a test changes of it. */
import type { LaneInfo } from "../../transport/link/link.ts";

export function laneInfo(changed: Partial<LaneInfo>): LaneInfo {
  return {
    lane: 0,
    bytesSent: 0,
    bytesReceived: 0,
    bytesDelivered: 0,
    bytesRetransmitted: 0,
    deliveryRateBytesPerSecond: 0,
    rttUs: 0,
    minRttUs: 0,
    retransmits: 0,
    lost: 0,
    congestionWindowBytes: 0,
    notSentBytes: 0,
    busyUs: 0,
    receiveWindowLimitedUs: 0,
    sendBufferLimitedUs: 0,
    congestionControl: "bbr",
    unansweredBytes: 0,
    isReceiving: false,
    ...changed,
  };
}
