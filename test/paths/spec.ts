/** What a simulated path is: rates in bits of IP packets a second, as the lab's profiles say them; times in microseconds; sizes in bytes. */

export type ControlName = "bbr" | "cubic";

export interface LinkChange {
  readonly us: number;
  /** 0: the link is dead, and what enters is lost. */
  readonly bitsPerSecond: number;
}

export interface HostSpec {
  /** What a lane may have under way, by the other end's window and by its own buffer. */
  readonly receiveWindowBytes: number;
  readonly sendBufferBytes: number;
  /** What one processor takes through one lane; 0 = any rate. */
  readonly laneBytesPerSecond: number;
}

export interface LinkSpec {
  readonly bitsPerSecond: number;
  readonly reverseBitsPerSecond: number;
  readonly rttUs: number;
  /** Up to so much more a round trip, as packets find it. */
  readonly jitterUs: number;
  readonly queueBytes: number;
  /** Share of the packets, each for itself. */
  readonly loss: number;
  /** A burst begins with a packet by this chance, and ends with each by the other (Gilbert-Elliott with all lost inside). */
  readonly burstBegins: number;
  readonly burstEnds: number;
  /** In order of time. */
  readonly timeline: readonly LinkChange[];
  /** When the timeline starts over; 0 = never. */
  readonly loopUs: number;
  /** Others on the link: constant UDP, and TCP flows that always have more to send. */
  readonly udpBitsPerSecond: number;
  readonly foreignFlows: number;
  readonly foreignControl: ControlName;
  /** Ours. */
  readonly control: ControlName;
  readonly host: HostSpec;
}

/** Payload of a full packet, and the packet. */
export const SEGMENT = 1448;
export const PACKET = 1500;
export const INITIAL_WINDOW = 10 * SEGMENT;

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

/** Buffers of any size, and processors without end. */
export const OPEN_HOST: HostSpec = Object.freeze({ receiveWindowBytes: 4 * GiB, sendBufferBytes: 4 * GiB, laneBytesPerSecond: 0 });

/** A path of one rate without anything else; `changes` say what is different. */
export function linkSpec(changes: Partial<LinkSpec> & { readonly bitsPerSecond: number; readonly rttUs: number }): LinkSpec {
  return {
    reverseBitsPerSecond: changes.bitsPerSecond,
    jitterUs: 0,
    queueBytes: 4 * MiB,
    loss: 0,
    burstBegins: 0,
    burstEnds: 1,
    timeline: [],
    loopUs: 0,
    udpBitsPerSecond: 0,
    foreignFlows: 0,
    foreignControl: "bbr",
    control: "bbr",
    host: OPEN_HOST,
    ...changes,
  };
}
