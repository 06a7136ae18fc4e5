/**
 * What one TCP flow carries in the long run on a path that loses packets by chance, by its congestion control: so that people are told what another one would
 * give. PURE. Both are estimates for a flow that is alone and never short of anything but the path.
 */

export interface LossyPath {
  /** What the path carries, bytes a second. */
  readonly rateBytesPerSecond: number;
  readonly rttUs: number;
  /** Of its packets, the share that is lost: 0 .. 1. */
  readonly lossRatio: number;
}

/** Of a packet of 1,500 bytes with time stamps. */
const SEGMENT_BYTES = 1_448;
/** RFC 9438, section 5.1: with C = 0.4 and beta = 0.7 the average window is 1.054 x RTT^(3/4) / p^(3/4) segments, RTT in seconds. */
const CUBIC = 1.054;
/** And never less than Reno's, 1.2 / p^(1/2) segments (RFC 9438, sections 4.3 and 5.1; Mathis et al., Computer Communication Review 27(3), 1997). */
const RENO = 1.2;

/** On most paths between datacenters it is Reno's part that counts. */
export function cubicBytesPerSecond({ rateBytesPerSecond, rttUs, lossRatio }: LossyPath): number {
  if (lossRatio <= 0 || rttUs <= 0) return rateBytesPerSecond;
  const seconds = rttUs / 1_000_000;
  const segments = Math.max(CUBIC * threeQuarters(seconds / lossRatio), RENO / Math.sqrt(lossRatio));
  return Math.min((segments * SEGMENT_BYTES) / seconds, rateBytesPerSecond * (1 - lossRatio));
}

/**
 * It sends as fast as packets arrive, whatever is lost, up to about 15 % (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016,
 * figure 8): all of the path but what goes twice.
 */
export function bbrBytesPerSecond({ rateBytesPerSecond, lossRatio }: LossyPath): number {
  return rateBytesPerSecond * (1 - lossRatio);
}

/** x^(3/4): square roots are the same to the last bit everywhere, powers are not. */
function threeQuarters(x: number): number {
  return Math.sqrt(x) * Math.sqrt(Math.sqrt(x));
}

/** The share that was lost, of segments that were sent again among so many bytes. */
export function lossRatioOf(retransmits: number, wireBytes: number): number {
  return wireBytes <= 0 ? 0 : Math.min((retransmits * SEGMENT_BYTES) / wireBytes, 1);
}
