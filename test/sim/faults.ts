/** Everything that may go wrong, as named chances and durations. The swarm draws them; healing sets them to nothing. */
export interface Faults {
  /** Chances in 10,000. */
  breakConnection: number;
  breakLane: number;
  /** A broken connection is told to one end at once, to the other so much later at most; what was under way may be lost or arrive late. */
  breakLagMaxUs: number;
  loseUnderWay: number;
  clog: number;
  clogMaxUs: number;
  flip: number;
  /** Bytes of a chunk that has not fully arrived already lie in memory. */
  shortWrite: number;
  /** What the link has to tell waits. */
  lateCompletion: number;
  lateCompletionMaxUs: number;
  submitFull: number;
  placeFull: number;
  sendFull: number;
  /** How long a lane needs to let go of revoked memory. */
  letGoMaxUs: number;
  /** Network. */
  delayMinUs: number;
  delayMaxUs: number;
  /** Mean pauses between such events anywhere, in microseconds; 0 = never. */
  cutEveryUs: number;
  cutMaxUs: number;
  /** After a cut the network may have forgotten its connections without telling anybody (in 100). */
  forgetAfterCut: number;
  killNodeEveryUs: number;
  stopNodeEveryUs: number;
  stopNodeMaxUs: number;
  killEngineEveryUs: number;
  stopEngineEveryUs: number;
  stopEngineMaxUs: number;
  corruptEveryUs: number;
  strangerEveryUs: number;
  drainEveryUs: number;
}

/** A network that works. */
export const noFaults: Faults = Object.freeze({
  breakConnection: 0,
  breakLane: 0,
  breakLagMaxUs: 0,
  loseUnderWay: 0,
  clog: 0,
  clogMaxUs: 0,
  flip: 0,
  shortWrite: 0,
  lateCompletion: 0,
  lateCompletionMaxUs: 0,
  submitFull: 0,
  placeFull: 0,
  sendFull: 0,
  letGoMaxUs: 10,
  delayMinUs: 20,
  delayMaxUs: 200,
  cutEveryUs: 0,
  cutMaxUs: 0,
  forgetAfterCut: 0,
  killNodeEveryUs: 0,
  stopNodeEveryUs: 0,
  stopNodeMaxUs: 0,
  killEngineEveryUs: 0,
  stopEngineEveryUs: 0,
  stopEngineMaxUs: 0,
  corruptEveryUs: 0,
  strangerEveryUs: 0,
  drainEveryUs: 0,
});
