/** What one sender may expect of a link. */
import { limits } from "../../transport/limits.ts";
import { type LinkSpec, PACKET, SEGMENT } from "./spec.ts";

/**
 * Payload bytes a second that we may expect of a link that takes `capacity`: what constant traffic leaves, evenly divided among the flows of others and
 * us as one, as far as the most lanes can carry it: by their buffers and processors, and, where a loss slows them down, by the law of cubic.
 */
export function fairShare(spec: LinkSpec, capacity: number): number {
  const { host, rttUs, control } = spec;
  const window = (Math.min(host.receiveWindowBytes, host.sendBufferBytes) * 1_000_000) / rttUs;
  const processor = host.laneBytesPerSecond || Number.POSITIVE_INFINITY;
  const lane = Math.min(window, processor, control === "cubic" ? cubicRate(spec) : window);
  return Math.min(evenShare(spec, capacity), limits.lanesMax * lane);
}

/** The same of all foreign flows together, which have one connection each. */
export function foreignShare(spec: LinkSpec, capacity: number): number {
  const { foreignFlows, foreignControl } = spec;
  const even = evenShare(spec, capacity);
  return foreignFlows * (foreignControl === "cubic" ? Math.min(even, cubicRate(spec)) : even);
}

function evenShare({ loss, burstBegins, burstEnds, udpBitsPerSecond, foreignFlows }: LinkSpec, capacity: number): number {
  const lost = Math.min(loss + burstBegins / burstEnds, 1);
  const udp = (udpBitsPerSecond / 8) * (SEGMENT / PACKET);
  return (Math.max(capacity - udp, 0) * (1 - lost)) / (foreignFlows + 1);
}

/** Of one flow: RFC 9438, section 5.1, or Reno's square root where that is more; windows are whole segments, which costs one and a half. */
export function cubicRate({ loss, burstBegins, rttUs }: LinkSpec): number {
  const events = loss + burstBegins;
  if (events === 0) return Number.POSITIVE_INFINITY;
  const seconds = rttUs / 1_000_000;
  const reno = Math.sqrt(1.5 / events);
  const cubic = 1.054 * ((0.4 * seconds ** 3) / events ** 3) ** 0.25;
  return (Math.max(reno - 1.5, cubic - 1.5, 1) * SEGMENT) / seconds;
}
