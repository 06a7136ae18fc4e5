/** One socket that carries frames both ways: connecting, greeting, up, dead. Its halves are js-lane-sender.ts and js-lane-receiver.ts. */
import { connect, type Socket } from "node:net";
import { type ErrorCode, KvferryError } from "../errors.ts";
import type { TlsPeer } from "../tls/options.ts";
import { encodePreamble, type FrameHeader } from "./frame.ts";
import type { LinkContext } from "./js-context.ts";
import type { Arrival } from "./js-control.ts";
import { type Exchange, type LaneHandler, LaneLedger } from "./js-exchange.ts";
import { LaneReceiver, type ReceiverOwner } from "./js-lane-receiver.ts";
import { LaneSender } from "./js-lane-sender.ts";
import { TokenBucket } from "./js-pace.ts";
import { problemOf } from "./js-tls.ts";
import type { Endpoint, LaneInfo, LaneOptions } from "./link.ts";

/** After so much the lane lets others have a turn. */
const TURN_BYTES = 1024 * 1024;
/** A peer that sends and sends and reads no answers is not read from while so many wait. */
const ANSWERS_MAX = 6_144;
const ANSWERS_LOW = 2_048;
/** Of a TLS record. */
const RECORD_BYTES = 16 * 1024;

type State = "connecting" | "greeting" | "up" | "dead";

export interface LaneDial {
  readonly endpoint: Endpoint;
  readonly token: Uint8Array;
  readonly identity: string;
  /** Whose connection it is, over TLS, as soon as that is known: the lane must be of the same, and says what it is then. */
  readonly peer: Promise<TlsPeer | undefined>;
}

export class Lane implements LaneHandler, ReceiverOwner {
  readonly lane: number;
  readonly #context: LinkContext;
  readonly #exchange: Exchange;
  readonly #ledger: LaneLedger;
  readonly #sender: LaneSender;
  readonly #receiver: LaneReceiver;
  readonly #socket: Socket;
  readonly #onClosed: (lane: Lane) => void;
  readonly #bucket = new TokenBucket();
  #state: State;
  #notSentLowBytes = 0;
  /** Ends the wait for a connection and its confirmation. */
  #greetingTimer: NodeJS.Timeout | undefined;
  #paceTimer: NodeJS.Timeout | undefined;
  #isScheduled = false;
  #isStarved = false;
  #isChoked = false;
  /** Over TLS. */
  #peer: TlsPeer | undefined;
  /** Sent under a key that node:tls cannot change. */
  #records = 0;

  /** Opens a lane to `to`, or takes over a socket whose preamble has been read. */
  constructor(
    context: LinkContext,
    exchange: Exchange,
    lane: number,
    from: LaneDial | Arrival,
    options: LaneOptions,
    onClosed: (lane: Lane) => void,
  ) {
    this.lane = lane;
    this.#context = context;
    this.#exchange = exchange;
    this.#ledger = new LaneLedger(lane, this);
    this.#sender = new LaneSender(exchange, this.#ledger);
    this.#receiver = new LaneReceiver(context, exchange, this.#ledger, this);
    this.#onClosed = onClosed;
    this.#state = "connecting";
    if ("socket" in from) {
      this.#socket = from.socket;
      this.#peer = from.peer;
    } else {
      this.#socket = this.#dial(from);
      this.#greetingTimer = setTimeout(() => this.close("connect_timeout"), context.limits.connectTimeoutMs);
    }
    this.#socket.on("data", (bytes) => this.#handleData(bytes));
    this.#socket.on("end", () => this.#handleBroken());
    this.#socket.on("error", (error) => this.#handleError(error));
    this.#socket.on("close", () => this.#handleBroken());
    this.tune(options);
  }

  #dial({ endpoint, token, identity, peer }: LaneDial): Socket {
    const { tls } = this.#context;
    if (tls === undefined) {
      const socket = connect({ host: endpoint.host, port: endpoint.port, noDelay: true });
      return socket.on("connect", () => this.#handleConnected(token));
    }
    return tls.dial(endpoint, identity, (handshake) => {
      if (this.#state === "dead") return;
      if ("problem" in handshake) return this.close(handshake.problem.code);
      this.#peer = handshake.peer;
      void peer.then((connection) => this.#handleSecured(token, connection?.identity === handshake.peer.identity));
    });
  }

  #handleSecured(token: Uint8Array, isOfConnection: boolean): void {
    if (this.#state === "dead") return;
    if (isOfConnection) this.#handleConnected(token);
    else this.close("certificate_rejected");
  }

  /** Of an accepted lane; `rest` came behind its preamble. */
  begin(rest: Uint8Array): void {
    this.#comeUp();
    // The confirmation is the first thing that the initiator hears.
    this.#sender.answer({ type: "pong", checksum: false, grant: 0, generation: 0, chunk: 0, bytes: 0, sequence: 0, status: 0 });
    this.run();
    if (rest.length > 0) this.#handleData(rest);
  }

  tune(options: LaneOptions): void {
    this.#notSentLowBytes = options.notSentLowBytes || this.#context.limits.notSentLowBytes;
    this.#bucket.setRate(options.paceBytesPerSecond, this.#context.nowUs());
    this.run();
  }

  info(): LaneInfo | undefined {
    if (this.#state !== "up") return undefined;
    const { bytesRead, bytesWritten, writableLength, localAddress, localPort, remoteAddress, remotePort } = this.#socket;
    return {
      lane: this.lane,
      bytesSent: bytesWritten - writableLength,
      bytesReceived: bytesRead,
      bytesDelivered: 0,
      bytesRetransmitted: 0,
      deliveryRateBytesPerSecond: 0,
      rttUs: 0,
      minRttUs: 0,
      retransmits: 0,
      lost: 0,
      congestionWindowBytes: 0,
      notSentBytes: writableLength,
      busyUs: 0,
      receiveWindowLimitedUs: 0,
      sendBufferLimitedUs: 0,
      congestionControl: "",
      unansweredBytes: this.#ledger.unansweredBytes,
      isReceiving: this.#ledger.receiving !== undefined,
      local: { host: localAddress ?? "", port: localPort ?? 0 },
      remote: { host: remoteAddress ?? "", port: remotePort ?? 0 },
      ...(this.#peer === undefined ? {} : { tls: this.#peer }),
    };
  }

  close(code: ErrorCode): void {
    if (this.#state === "dead") return;
    this.#state = "dead";
    clearTimeout(this.#greetingTimer);
    clearTimeout(this.#paceTimer);
    this.#socket.destroy();
    this.#exchange.laneDown(this.#ledger, code);
    this.#onClosed(this);
  }

  /** Sends while the socket takes more at once: a chunk is bound to the lane that can send it. */
  run(): void {
    if (this.#state !== "up") return;
    for (let turnBytes = 0; this.#socket.writableLength < this.#notSentLowBytes; ) {
      if (turnBytes >= TURN_BYTES) return this.#runLater();
      const allowanceBytes = this.#bucket.allowanceBytes(this.#context.nowUs());
      const buffer = this.#context.buffers.take();
      const bytes = this.#sender.fill(buffer, allowanceBytes);
      if (bytes === 0) {
        this.#context.buffers.give(buffer);
        if (allowanceBytes < 1) this.#runWhenPaid();
        break;
      }
      this.#bucket.spend(bytes);
      turnBytes += bytes;
      this.#write(buffer, bytes);
    }
    if (this.#isChoked && this.#sender.answers < ANSWERS_LOW) {
      this.#isChoked = false;
      this.#readOn();
    }
  }

  abandon(): void {
    this.#sender.abandon();
  }

  letGo(): void {
    this.#receiver.letGo();
  }

  handleFrame(header: FrameHeader): void {
    if (this.#state === "greeting") {
      const { type, grant, generation, chunk, sequence } = header;
      if (type !== "pong" || grant !== 0 || generation !== 0 || chunk !== 0 || sequence !== 0) {
        throw new KvferryError("protocol_error", "a lane that is not confirmed");
      }
      this.#comeUp();
    } else if (header.type === "ping") this.answer({ ...header, type: "pong", checksum: false });
    else if (header.type !== "pong") this.#exchange.handleAnswer(this.#ledger, header, this.#context.nowUs());
  }

  handleChunk(): void {
    if (this.#state === "greeting") throw new KvferryError("protocol_error", "a chunk before the confirmation");
  }

  answer(header: FrameHeader): void {
    this.#sender.answer(header);
    if (this.#sender.answers < ANSWERS_MAX) return;
    this.#isChoked = true;
    this.#socket.pause();
  }

  handleStarved(): void {
    this.#isStarved = true;
    this.#socket.pause();
    this.#context.events.waitForRoom(() => this.#guard(() => this.#handleRoom()));
  }

  #handleRoom(): void {
    // If there is still no room, the receiver has asked for another call already.
    if (!this.#receiver.resume()) return;
    this.#isStarved = false;
    this.#readOn();
  }

  #handleConnected(token: Uint8Array): void {
    this.#state = "greeting";
    this.#socket.write(encodePreamble({ version: 1, kind: "lane", lane: this.lane, token }));
  }

  #comeUp(): void {
    clearTimeout(this.#greetingTimer);
    this.#state = "up";
    this.#exchange.laneUp(this.#ledger);
  }

  #handleData(bytes: Uint8Array): void {
    this.#guard(() => this.#receiver.feed(bytes));
  }

  /** Runs a step of the receiver; what the peer may not do ends the lane. */
  #guard(step: () => void): void {
    if (this.#state === "dead") return;
    try {
      step();
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      return this.close("protocol_error");
    }
    this.run();
  }

  /** What TLS found wrong, or the peer says so, has a name; else the socket broke. */
  #handleError(error: Error): void {
    const { code } = problemOf(error);
    if (code === "connect_failed") this.#handleBroken();
    else this.close(code);
  }

  #handleBroken(): void {
    this.close(this.#state === "connecting" || this.#state === "greeting" ? "connect_failed" : "lane_lost");
  }

  #write(buffer: Buffer, bytes: number): void {
    // Whoever opened the lane opens it again, with another key; its chunks go over the others meanwhile.
    if (this.#peer !== undefined && (this.#records += Math.ceil(bytes / RECORD_BYTES)) > this.#context.limits.tlsRecordsPerKey) {
      this.#context.buffers.give(buffer);
      return this.close("lane_lost");
    }
    const { piece, isLent } = this.#context.buffers.cut(buffer, bytes);
    this.#socket.write(piece, () => {
      if (isLent) this.#context.buffers.give(buffer);
      this.run();
    });
  }

  #readOn(): void {
    if (!this.#isStarved && !this.#isChoked) this.#socket.resume();
  }

  #runLater(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.run();
    });
  }

  /** A paced lane has something to send, perhaps, and may not yet. */
  #runWhenPaid(): void {
    if (this.#paceTimer !== undefined) return;
    if (!this.#sender.isOpen && !this.#exchange.hasQueued) return;
    this.#paceTimer = setTimeout(
      () => {
        this.#paceTimer = undefined;
        this.run();
      },
      Math.ceil(this.#bucket.waitUs() / 1000),
    );
  }
}
