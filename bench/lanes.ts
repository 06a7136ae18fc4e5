/** The lanes of a bench: opened by the client, tuned alike on both ends, watched to the end. One that dies is told aloud and comes back; the rest goes on. */
import { type ErrorCode, codeOfNumber, KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import type { ConnectionId, Endpoint as Address } from "../transport/link/link.ts";
import type { BenchLinkKind, Endpoint } from "./endpoint.ts";
import { parseWord, Way, type WayState, type WayWish } from "./way.ts";

const LANES_TIMEOUT_MS = 10_000;

export interface LaneLoss {
  readonly lane: number;
  readonly code: ErrorCode;
  /** Lanes before and after. */
  readonly from: number;
  readonly to: number;
}

/** What the kernel has made of it: a flag that had no effect is an error, not a number under a wrong name. Throws unsupported. */
export function checkLanes(endpoint: Endpoint, connection: ConnectionId, wish: WayWish): void {
  const { congestionControl, socketBufferBytes, dscp } = wish;
  refuseWish(endpoint.kind, wish);
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
export function refuseWish(kind: BenchLinkKind, { rateBytesPerSecond, congestionControl, socketBufferBytes, dscp }: WayWish): void {
  if (rateBytesPerSecond > 0 && kind === "fake") throw new KvferryError("unsupported", "-b needs sockets; link fake has none");
  const flag = congestionControl !== "" ? "-C" : socketBufferBytes > 0 ? "-w" : dscp > 0 ? "--dscp" : "";
  if (flag !== "" && kind !== "tcp") throw new KvferryError("unsupported", `${flag} needs --link tcp; this is link ${kind}`);
}

/** The client's lanes. */
export class ClientLanes {
  readonly way: Way;
  /** What the server has said last of its own sending. */
  told: WayState | undefined;
  readonly #endpoint: Endpoint;
  #isConnected = false;
  /** Lanes that did not come up, or died. */
  readonly #failed = new Map<number, ErrorCode>();
  /** Of those that died and are not told of yet. */
  readonly #counts = new Map<number, Pick<LaneLoss, "from" | "to">>();
  #failure: Error | undefined;
  #check: () => void = () => {};
  /** In the order in which they died. */
  readonly losses: LaneLoss[] = [];
  onLoss: (loss: LaneLoss) => void = () => {};

  constructor(endpoint: Endpoint, wish: WayWish) {
    this.#endpoint = endpoint;
    // Who dials wishes nothing of the other end: it opens what it wants.
    this.way = new Way(endpoint, wish, { isDialler: true, onLost: (lane, code) => this.#tell(lane, code), onWish: () => {} });
    endpoint.onFailure = (error) => {
      this.#failure ??= error;
      this.#check();
    };
    endpoint.onOther = (event) => {
      if (event.kind === "connected") this.#isConnected = true;
      else if (event.kind === "laneUp") this.way.handleUp(event.lane);
      else if (event.kind === "laneDown") this.#handleDown(event.lane, event.code);
      else if (event.kind === "message") this.#handleMessage(event.bytes);
      else if (event.kind === "disconnected") this.way.close();
      this.#check();
    };
  }

  /** A lane is let in only by a server that knows the connection already: that is asked for (`admit`) in between. */
  async open(address: Address, token: Uint8Array, wish: WayWish, admit: () => Promise<unknown>, identity?: string): Promise<ConnectionId> {
    const { link } = this.#endpoint;
    const connection = link.dial(address, limits.connectTimeoutMs, identity);
    await this.#until("a connection", () => this.#isConnected);
    await admit();
    this.way.begin(connection, token);
    const { lanes, path } = this.way;
    await this.#until("lanes", () => lanes.up + this.#failed.size >= path.decision.lanes.lanes);
    const [code = "lane_lost"] = this.#failed.values();
    if (lanes.up === 0) throw new KvferryError(code, "no lane of the bench came up");
    checkLanes(this.#endpoint, connection, wish);
    return connection;
  }

  /** From here on lanes go down because we end. */
  close(): void {
    this.way.close();
  }

  #handleDown(lane: number, code: number): void {
    this.#failed.set(lane, codeOfNumber(code));
    const { lanes } = this.way;
    const from = lanes.up;
    this.way.handleDown(lane, code);
    this.#counts.set(lane, { from, to: lanes.up });
  }

  /** That connection lived on: one that dies takes its lanes along, and its own error says more than theirs. */
  #tell(lane: number, code: ErrorCode): void {
    const counts = this.#counts.get(lane);
    this.#counts.delete(lane);
    // What was never up is no loss.
    if (counts === undefined || counts.from === counts.to) return;
    const loss = { lane, code, ...counts };
    this.losses.push(loss);
    this.onLoss(loss);
  }

  #handleMessage(bytes: Uint8Array): void {
    const word = parseWord(bytes);
    if ("state" in word) this.told = word.state;
    else this.way.handleWish(word.lanes, word.lost);
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
