/**
 * Does on a simulated link what a peer does on a real one: reads the lanes when the path says so, opens and closes them, and paces them. A new
 * connection takes two round trips until it carries bytes (TCP's handshake and TLS's); a lane that is one too many gets nothing more to send and ends.
 */
import { limits } from "../../transport/limits.ts";
import { Path, type PathDecision, type PathOptions } from "../../transport/policy/path.ts";
import type { PathEstimate } from "../../transport/policy/path-estimate.ts";
import type { WindowPolicy } from "../../transport/policy/window.ts";
import type { Random } from "../sim/random.ts";
import { Network } from "./network.ts";
import type { LinkSpec } from "./spec.ts";

export interface DriveOptions extends Partial<PathOptions> {
  readonly seconds: number;
  /** All that is sent is background, from the begin. */
  readonly isBackground?: boolean;
  /** One request of so many bytes after the other; absent: always more to send. */
  readonly requestBytes?: number;
  /** The lanes of this moment stay, whatever is decided later. */
  readonly lanesUntilUs?: number;
  readonly onReading?: (reading: Reading) => void;
}

export interface Reading {
  readonly nowUs: number;
  /** Payload bytes a second since the last reading, and what the link takes at most. */
  readonly bytesPerSecond: number;
  readonly capacity: number;
  readonly lanesUp: number;
  readonly estimate: PathEstimate;
  readonly decision: PathDecision;
}

const OPTIONS: PathOptions = {
  least: 1,
  most: limits.lanesMax,
  local: false,
  peerCap: 0,
  windowBytes: limits.windowBytesMax,
  chunkBytes: 0,
};
const HANDSHAKES = 2;
/** What is there to send when there is always more. */
const PLENTY = 2 ** 50;

export class Drive {
  readonly network: Network;
  readonly path: Path;
  readonly #options: DriveOptions;
  readonly #window: WindowPolicy;
  #isConnected = false;
  #leftBytes: number;
  #endBytes: number;
  #readUs = 0;
  #readBytes = 0;
  /** Of lanes that have ended. */
  #endedBytes = 0;

  constructor(spec: LinkSpec, options: DriveOptions, random: Random) {
    this.#options = options;
    this.network = new Network(spec, random);
    this.path = new Path({ ...OPTIONS, ...options });
    this.#window = this.path.newWindow();
    this.#leftBytes = options.requestBytes ?? PLENTY;
    this.#endBytes = this.#leftBytes;
  }

  /** Payload that has arrived, of ours. */
  get deliveredBytes(): number {
    return this.network.ours.reduce((sum, flow) => sum + flow.deliveredBytes, this.#endedBytes);
  }

  get lanes(): number {
    return this.network.ours.filter(({ isClosing }) => !isClosing).length;
  }

  /** A lane of ours does not send, to look for a shorter round trip. */
  get isPausing(): boolean {
    return this.network.ours.some(({ control }) => control.isPausing);
  }

  /** `onStep` sees each step of the link. */
  run(onStep: (drive: Drive) => void = () => undefined): void {
    while (this.network.nowUs < this.#options.seconds * 1_000_000) {
      this.#step();
      onStep(this);
    }
  }

  #step(): void {
    const { network, path } = this;
    const { nowUs } = network;
    if (!this.#isConnected && nowUs >= HANDSHAKES * network.spec.rttUs) {
      this.#isConnected = true;
      path.handleConnected();
      this.#apply(path.handleRoundTrip(Math.round(network.rttUs)));
    }
    if (this.#isConnected && nowUs >= path.nextReadingUs()) this.#read();
    const before = network.ours;
    this.#leftBytes -= network.step(this.#supply());
    for (const flow of before) if (flow.isOver) this.#endedBytes += flow.deliveredBytes;
    if (this.#options.requestBytes !== undefined && this.deliveredBytes >= this.#endBytes - 1) {
      this.#leftBytes = this.#options.requestBytes;
      this.#endBytes += this.#options.requestBytes;
    }
  }

  /** As much as the window of a transfer lets out; what it has room for beyond that waits in the lanes. */
  #supply(): number {
    const { ours } = this.network;
    let underWay = 0;
    for (const flow of ours) underWay += flow.inflightBytes + flow.repairBytes;
    const room = Math.max(Math.min(this.#window.window().bytes - underWay, this.#leftBytes), 0);
    const each = Math.min(room / Math.max(ours.length, 1), limits.notSentLowBytes);
    for (const flow of ours) flow.unsentBytes = flow.isClosing ? 0 : each;
    return room;
  }

  #read(): void {
    const { network, path } = this;
    const { nowUs } = network;
    const up = network.ours.filter(({ openUs }) => openUs <= nowUs);
    const load = {
      backlogBytes: Math.max(this.#leftBytes, 0),
      lanesActive: up.length,
      mostUrgent: this.#options.isBackground === true ? ("background" as const) : ("normal" as const),
      tenantCap: 0,
      tenantSharing: 1,
    };
    const decision = path.handleReading(
      nowUs,
      up.map((flow) => flow.info()),
      load,
    );
    this.#apply(decision);
    const delivered = this.deliveredBytes;
    const bytesPerSecond = ((delivered - this.#readBytes) * 1_000_000) / Math.max(nowUs - this.#readUs, 1);
    this.#options.onReading?.({
      ...{ nowUs, bytesPerSecond, capacity: network.capacity, lanesUp: up.length },
      ...{ estimate: path.estimate(nowUs), decision },
    });
    this.#readBytes = delivered;
    this.#readUs = nowUs;
  }

  #apply({ lanes, pace }: PathDecision): void {
    const { network } = this;
    if (network.nowUs <= (this.#options.lanesUntilUs ?? Number.POSITIVE_INFINITY)) this.#setLanes(lanes.lanes);
    const each = pace.bytesPerSecond / Math.max(this.lanes, 1);
    for (const flow of network.ours) flow.paceBytesPerSecond = each;
  }

  #setLanes(count: number): void {
    const { network } = this;
    const open = network.ours.filter(({ isClosing }) => !isClosing);
    for (const flow of open.slice(count)) flow.isClosing = true;
    for (let more = open.length; more < count; more++) network.openOurs(this.#freeLane(), network.nowUs + HANDSHAKES * network.rttUs);
  }

  #freeLane(): number {
    const taken = new Set(this.network.ours.map(({ id }) => id));
    for (let lane = 0; ; lane++) if (!taken.has(lane)) return lane;
  }
}
