/** A client's connection: numbered requests, each with a deadline, and events. It never reconnects by itself; once lost it stays lost. */
import { connect } from "node:net";
import { type RawData, WebSocket } from "ws";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { decodeMessage, encodeMessage, type Message } from "./codec.ts";
import { errorOf } from "./replies.ts";

export interface Target {
  /** A unix socket's path, or "". */
  readonly path: string;
  /** For the WebSocket handshake. */
  readonly url: string;
  readonly token: string;
}

export interface ChannelHandlers {
  event(message: Message): void;
  /** Exactly once, after every pending request was rejected with `connection_lost`. Not called after `close`. */
  lost(detail: string): void;
}

export interface ChannelTiming {
  readonly requestTimeoutMs: number;
  readonly pingMs: number;
  /** A server that has not been heard of for so long, pings and all, is given up. */
  readonly silentMs: number;
}

const TIMING: ChannelTiming = Object.freeze({
  requestTimeoutMs: limits.apiRequestTimeoutMs,
  pingMs: limits.apiPingMs,
  silentMs: limits.apiSilentMs,
});

interface Pending {
  readonly deadlineMs: number;
  readonly undo: ((result: Message) => void) | undefined;
  readonly resolve: (result: Message) => void;
  readonly reject: (error: Error) => void;
}

/** How long the other side's close frame is waited for. */
const CLOSE_GRACE_MS = 1_000;

/** Rejects with connect_failed, connect_timeout or peer_not_allowed (a wrong token). */
export function openChannel(target: Target, handlers: ChannelHandlers, timing: Partial<ChannelTiming> = {}): Promise<Channel> {
  const { path, url, token } = target;
  const websocket = new WebSocket(url, {
    ...(path === "" ? {} : { createConnection: () => connect({ path }) }),
    ...(token === "" ? {} : { headers: { authorization: `Bearer ${token}` } }),
    perMessageDeflate: false,
    handshakeTimeout: limits.connectTimeoutMs,
    maxPayload: limits.apiBackpressureBytes,
    followRedirects: false,
    // A mask guards proxies on the open web; between two processes of a host it only costs time.
    generateMask: (mask) => mask.fill(0),
  });
  return new Promise((resolve, reject) => {
    websocket.once("open", () => {
      websocket.removeAllListeners();
      resolve(new Channel(websocket, handlers, { ...TIMING, ...timing }));
    });
    websocket.once("error", (cause) => {
      const where = path === "" ? url : path;
      const timedOut = cause.message.includes("timed out");
      const refused = cause.message.includes("401");
      const code = refused ? "peer_not_allowed" : timedOut ? "connect_timeout" : "connect_failed";
      reject(new KvferryError(code, `${where}: ${cause.message}`, { cause }));
    });
  });
}

export class Channel {
  readonly #websocket: WebSocket;
  readonly #handlers: ChannelHandlers;
  readonly #timing: ChannelTiming;
  /** In the order of their deadlines, which are all the same time away. */
  readonly #pending = new Map<number, Pending>();
  /** Requests whose answers are late: nobody waits any more, but what they give must not be lost to everybody. */
  readonly #late = new Map<number, (result: Message) => void>();
  #unanswered: readonly number[] = [];
  readonly #pinging: NodeJS.Timeout;
  #expiry: NodeJS.Timeout | undefined;
  #nextId = 1;
  #heardMs = performance.now();
  #tickMs = performance.now();
  #open = true;

  constructor(websocket: WebSocket, handlers: ChannelHandlers, timing: ChannelTiming) {
    this.#websocket = websocket;
    this.#handlers = handlers;
    this.#timing = timing;
    websocket.on("message", (data: RawData) => this.#handleMessage(data as Buffer));
    websocket.on("pong", () => {
      this.#heardMs = performance.now();
    });
    // Every error is followed by close.
    websocket.on("error", () => {});
    websocket.on("close", (code: number, reason: Buffer) =>
      this.#end(`closed with ${code}${reason.length > 0 ? `: ${reason.toString()}` : ""}`),
    );
    this.#pinging = setInterval(() => this.#ping(), timing.pingMs);
    this.#pinging.unref();
  }

  get open(): boolean {
    return this.#open;
  }

  /** Of a lost channel: requests that have had no answer. */
  get unanswered(): readonly number[] {
    return this.#unanswered;
  }

  /**
   * @param take turns the answer into the result, in the very callback in which it arrives: events behind it are handled after.
   * @param undo gets the answer if it comes when nobody waits for it any more
   */
  request<Result>(op: string, fields: Message, take: (result: Message) => Result, undo?: (result: Message) => void): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (!this.#open) throw new KvferryError("connection_lost", "the API connection has ended");
      const unanswered = this.#pending.size + this.#late.size;
      if (unanswered >= limits.apiPendingMax) throw new KvferryError("full", `${unanswered} requests are unanswered`);
      const id = this.#freeId();
      const bytes = encodeMessage({ id, op, ...fields });
      if (bytes.length > limits.apiMessageBytes) {
        throw new KvferryError("message_too_large", `${op} of ${bytes.length} bytes; ${limits.apiMessageBytes} at most`);
      }
      const deadlineMs = performance.now() + this.#timing.requestTimeoutMs;
      this.#pending.set(id, { deadlineMs, undo, resolve: (result) => resolve(take(result)), reject });
      if (this.#expiry === undefined) this.#expireAfter(this.#timing.requestTimeoutMs);
      this.#websocket.send(bytes);
    });
  }

  /** Ends it on purpose: nobody is told. */
  async close(): Promise<void> {
    if (!this.#open) return;
    const closed = new Promise<void>((resolve) => this.#websocket.once("close", () => resolve()));
    this.#shut("closed by its owner");
    this.#websocket.close(1000);
    const timer = setTimeout(() => this.#websocket.terminate(), CLOSE_GRACE_MS);
    await closed;
    clearTimeout(timer);
  }

  #handleMessage(bytes: Buffer): void {
    this.#heardMs = performance.now();
    let message: Message;
    try {
      message = decodeMessage(bytes);
    } catch (error) {
      this.#end((error as Error).message);
      return;
    }
    const { id } = message;
    if (id === undefined) return this.#handlers.event(message);
    const { ok } = message;
    const pending = this.#pending.get(id as number);
    if (pending === undefined) {
      const undo = this.#late.get(id as number);
      this.#late.delete(id as number);
      if (typeof ok === "object" && ok !== null) undo?.(ok as Message);
      return;
    }
    this.#pending.delete(id as number);
    if (typeof ok !== "object" || ok === null) return pending.reject(errorOf(message["error"]));
    try {
      pending.resolve(ok as Message);
    } catch (error) {
      pending.reject(error as Error);
    }
  }

  #ping(): void {
    const nowMs = performance.now();
    // A tick that comes late says that this process was busy or stopped, and nothing about the other side.
    const late = nowMs - this.#tickMs > 2 * this.#timing.pingMs;
    this.#tickMs = nowMs;
    if (late) this.#heardMs = nowMs;
    if (nowMs - this.#heardMs > this.#timing.silentMs) this.#end(`silent for ${Math.round(nowMs - this.#heardMs)} ms`);
    else this.#websocket.ping();
  }

  /** One timer for all requests: they wait equally long, so the first is always the next. */
  #expireAfter(delayMs: number): void {
    this.#expiry = setTimeout(() => {
      this.#expiry = undefined;
      const nowMs = performance.now();
      for (const [id, pending] of this.#pending) {
        if (pending.deadlineMs > nowMs) return this.#expireAfter(pending.deadlineMs - nowMs);
        this.#pending.delete(id);
        if (pending.undo !== undefined) this.#late.set(id, pending.undo);
        pending.reject(new KvferryError("deadline_exceeded", `no answer within ${this.#timing.requestTimeoutMs} ms`));
      }
    }, delayMs);
    this.#expiry.unref();
  }

  #freeId(): number {
    while (this.#pending.has(this.#nextId) || this.#late.has(this.#nextId)) this.#nextId = (this.#nextId % 0xffff_ffff) + 1;
    const id = this.#nextId;
    this.#nextId = (id % 0xffff_ffff) + 1;
    return id;
  }

  #end(detail: string): void {
    if (!this.#open) return;
    this.#shut(detail);
    this.#websocket.terminate();
    this.#handlers.lost(detail);
  }

  #shut(detail: string): void {
    this.#open = false;
    clearInterval(this.#pinging);
    clearTimeout(this.#expiry);
    const pending = [...this.#pending.values()];
    this.#unanswered = [...this.#late.keys(), ...this.#pending.keys()];
    this.#late.clear();
    this.#pending.clear();
    for (const { reject } of pending) reject(new KvferryError("connection_lost", detail));
  }
}
