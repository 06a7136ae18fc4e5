/** The lanes of a bench: opened by the client, tuned alike on both ends, watched to the end. One that dies is told aloud; the rest goes on. */
import { type ErrorCode, codeOfNumber, KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import type { ConnectionId, Endpoint as Address, LaneOptions } from "../transport/link/link.ts";
import type { BenchLinkKind, Endpoint } from "./endpoint.ts";
import type { BenchOptions } from "./options.ts";

/** Time for what belongs together to arrive: a connection that dies takes its lanes down first, and its own error says more than theirs. */
const LOSS_SETTLES_MS = 50;
const LANES_TIMEOUT_MS = 10_000;

/** What flags want of each lane, on either end. */
export interface LaneTuning {
  readonly paceBytesPerSecond: number;
  readonly congestionControl: string;
  readonly socketBufferBytes: number;
  readonly dscp: number;
}

export const PLAIN_LANE: LaneTuning = { paceBytesPerSecond: 0, congestionControl: "", socketBufferBytes: 0, dscp: 0 };

export interface LaneLoss {
  readonly lane: number;
  readonly code: ErrorCode;
  /** Lanes before and after. */
  readonly from: number;
  readonly to: number;
}

export function tuningOf(options: BenchOptions): LaneTuning {
  const { rateBytesPerSecond: rate, lanes, congestionControl, windowBytes, dscp } = options;
  const paceBytesPerSecond = rate === 0 ? 0 : Math.max(1, Math.floor(rate / lanes));
  return { paceBytesPerSecond, congestionControl, socketBufferBytes: windowBytes, dscp };
}

export function laneOptions(tuning: LaneTuning): LaneOptions {
  return { ...tuning, notSentLowBytes: limits.notSentLowBytes };
}

/** What the kernel has made of it: a flag that had no effect is an error, not a number under a wrong name. Throws unsupported. */
export function checkLanes(endpoint: Endpoint, connection: ConnectionId, tuning: LaneTuning): void {
  const { congestionControl, socketBufferBytes, dscp } = tuning;
  refuseTuning(endpoint.kind, tuning);
  for (const { congestionControl: name, socket } of endpoint.link.laneInfo(connection)) {
    const refuse = (sentence: string): never => {
      throw new KvferryError("unsupported", sentence);
    };
    if (congestionControl !== "" && name !== congestionControl)
      refuse(
        `-C ${congestionControl}: the kernel stays with ${name}; net.ipv4.tcp_allowed_congestion_control lists what it lets processes choose`,
      );
    if (socket === undefined) continue;
    if (socket.dscp !== dscp) refuse(`--dscp ${dscp}: the kernel stays with ${socket.dscp}`);
    const least = Math.min(socket.sendBufferBytes, socket.receiveBufferBytes);
    if (least < socketBufferBytes)
      refuse(`-w ${socketBufferBytes}: the kernel gives ${least} bytes; raise net.core.wmem_max and net.core.rmem_max`);
  }
}

/** Only sockets of the kernel's TCP have these. */
export function refuseTuning(
  kind: BenchLinkKind,
  { paceBytesPerSecond: pace, congestionControl, socketBufferBytes, dscp }: LaneTuning,
): void {
  if (pace > 0 && kind === "fake") throw new KvferryError("unsupported", "-b needs sockets; link fake has none");
  const flag = congestionControl !== "" ? "-C" : socketBufferBytes > 0 ? "-w" : dscp > 0 ? "--dscp" : "";
  if (flag !== "" && kind !== "tcp") throw new KvferryError("unsupported", `${flag} needs --link tcp; this is link ${kind}`);
}

/** The client's lanes. */
export class Lanes {
  readonly #endpoint: Endpoint;
  readonly #wanted: number;
  #isConnected = false;
  readonly #up = new Set<number>();
  #isClosing = false;
  #failure: Error | undefined;
  #check: () => void = () => {};
  /** In the order in which they died. */
  readonly losses: LaneLoss[] = [];
  #told = 0;
  #timer: NodeJS.Timeout | undefined;
  onLoss: (loss: LaneLoss) => void = () => {};

  constructor(endpoint: Endpoint, wanted: number) {
    this.#endpoint = endpoint;
    this.#wanted = wanted;
    endpoint.onFailure = (error) => {
      this.#failure ??= error;
      this.#check();
    };
    endpoint.onOther = (event) => {
      if (event.kind === "connected") this.#isConnected = true;
      else if (event.kind === "laneUp") this.#up.add(event.lane);
      else if (event.kind === "laneDown") this.#handleDown(event.lane, codeOfNumber(event.code));
      this.#check();
    };
  }

  /** Lanes that carry chunks. */
  get up(): number {
    return this.#up.size;
  }

  /** A lane is let in only by a server that knows the connection already: that is asked for (`admit`) in between. */
  async open(
    address: Address,
    token: Uint8Array,
    tuning: LaneTuning,
    admit: () => Promise<unknown>,
    identity?: string,
  ): Promise<ConnectionId> {
    const { link } = this.#endpoint;
    const connection = link.dial(address, limits.connectTimeoutMs, identity);
    await this.#until("a connection", () => this.#isConnected);
    await admit();
    for (let lane = 0; lane < this.#wanted; lane++) link.openLane(connection, lane, token, laneOptions(tuning));
    await this.#until(`${this.#wanted} lanes`, () => this.#up.size + this.losses.length >= this.#wanted);
    if (this.#up.size === 0) throw this.#allGone();
    checkLanes(this.#endpoint, connection, tuning);
    return connection;
  }

  /** From here on lanes go down because we end. */
  close(): void {
    this.#isClosing = true;
    clearTimeout(this.#timer);
  }

  #handleDown(lane: number, code: ErrorCode): void {
    if (this.#isClosing) return;
    const from = this.#wanted - this.losses.length;
    this.losses.push({ lane, code, from, to: from - 1 });
    this.#up.delete(lane);
    this.#timer ??= setTimeout(() => this.#tell(), LOSS_SETTLES_MS);
  }

  #tell(): void {
    this.#timer = undefined;
    for (; this.#told < this.losses.length; this.#told++) this.onLoss(this.losses[this.#told]!);
    if (this.losses.length === this.#wanted) this.#endpoint.onFailure(this.#allGone());
  }

  #allGone(): KvferryError {
    const code = this.losses.at(-1)?.code ?? "lane_lost";
    return new KvferryError(
      code,
      this.#wanted === 1 ? "the only lane of the bench is gone" : `all ${this.#wanted} lanes of the bench are gone`,
    );
  }

  async #until(what: string, isThere: () => boolean): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new KvferryError("connect_timeout", `${what} did not come up`)), LANES_TIMEOUT_MS);
      this.#check = () => {
        if (this.#failure !== undefined) reject(this.#failure);
        else if (isThere()) resolve();
      };
      this.#check();
    }).finally(() => clearTimeout(timer));
    this.#check = () => {};
  }
}
