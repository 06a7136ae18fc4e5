/** A connection's control socket: dialling, open, finishing, closed. Messages in bounded queues, both ways. */
import { connect, type Socket } from "node:net";
import { type ErrorCode, KvferryError } from "../errors.ts";
import type { TlsPeer } from "../tls/options.ts";
import { CONTROL_HEAD_BYTES, ControlParser, encodeControl, encodePreamble } from "./frame.ts";
import { checksum, type LinkContext } from "./js-context.ts";
import { type Handshake, problemOf } from "./js-tls.ts";
import type { Endpoint } from "./link.ts";

/** How long `disconnect` flushes. */
const FLUSH_MS = 1_000;

type State = "dialling" | "open" | "finishing" | "closed";

export interface Dial {
  readonly endpoint: Endpoint;
  readonly timeoutMs: number;
  /** Whose certificate the peer must have, over TLS. */
  readonly identity: string;
}

/** A socket whose preamble has been read. */
export interface Arrival {
  readonly socket: Socket;
  /** Over TLS. */
  readonly peer: TlsPeer | undefined;
}

export interface ControlOwner {
  handleConnected(remote: Endpoint, peer: TlsPeer | undefined): void;
  /** `taken` is to be called when the message has been handed over. */
  handleMessage(message: Uint8Array, taken: () => void): void;
  /** The socket is gone; once. */
  handleClosed(code: ErrorCode, detail: string): void;
}

export class ControlChannel {
  readonly #context: LinkContext;
  readonly #owner: ControlOwner;
  readonly #socket: Socket;
  readonly #parser: ControlParser;
  #state: State;
  #timer: NodeJS.Timeout | undefined;
  /** Bytes of messages that nobody has taken. */
  #inboxBytes = 0;
  #isPaused = false;
  /** What the peer has said first was found right, or it was us who dialled. */
  #isAdmitted: boolean;

  /** Dials, or takes over what has arrived. */
  constructor(context: LinkContext, from: Dial | Arrival, owner: ControlOwner) {
    this.#context = context;
    this.#owner = owner;
    this.#parser = new ControlParser(context.limits.controlMessageBytes, checksum);
    this.#isAdmitted = !("socket" in from);
    if ("socket" in from) {
      this.#socket = from.socket;
      this.#state = "open";
    } else {
      const { timeoutMs } = from;
      this.#socket = this.#dial(from);
      this.#state = "dialling";
      this.#timer = setTimeout(() => this.#close("connect_timeout", `no answer in ${timeoutMs} ms`), timeoutMs);
      // Node keeps it, and whatever is sent before the connection is there, in this order.
      this.#socket.write(encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) }));
    }
    this.#socket.on("data", (bytes) => this.handleData(bytes));
    this.#socket.on("end", () => this.#handleBroken("closed by the peer"));
    this.#socket.on("error", (error) => this.#handleError(error));
    this.#socket.on("close", () => this.#handleBroken("closed"));
  }

  #dial({ endpoint, identity }: Dial): Socket {
    const { tls } = this.#context;
    if (tls !== undefined) return tls.dial(endpoint, identity, (handshake) => this.#handleSecured(handshake));
    const socket = connect({ host: endpoint.host, port: endpoint.port, noDelay: true });
    return socket.on("connect", () => this.#handleConnected(undefined));
  }

  handleData(bytes: Uint8Array): void {
    if (this.#state !== "open") return;
    this.#parser.push(bytes);
    this.#digest();
  }

  /** False: full, or closing. */
  send(message: Uint8Array): boolean {
    if (this.#state !== "open" && this.#state !== "dialling") return false;
    const queuedBytes = this.#socket.writableLength;
    if (queuedBytes > 0 && queuedBytes + CONTROL_HEAD_BYTES + message.length > this.#context.limits.controlQueueBytes) return false;
    this.#socket.write(encodeControl(message, checksum));
    return true;
  }

  /** The peer's messages may be large from now on. */
  handleAdmitted(): void {
    this.#isAdmitted = true;
  }

  /** Flushes what is queued and waits for the peer to close too, for at most a second. */
  finish(): void {
    if (this.#state === "dialling") return this.#close("closed", "");
    if (this.#state !== "open") return;
    this.#state = "finishing";
    this.#timer = setTimeout(() => this.#close("closed", ""), FLUSH_MS);
    this.#socket.end();
    // What still comes is thrown away; unread bytes would make the kernel take back what was flushed.
    this.#socket.resume();
  }

  /** At once. */
  abort(): void {
    this.#close("closed", "");
  }

  #handleSecured(handshake: Handshake): void {
    if (this.#state === "closed") return;
    if ("problem" in handshake) this.#close(handshake.problem.code, handshake.problem.detail);
    else this.#handleConnected(handshake.peer);
  }

  #handleConnected(peer: TlsPeer | undefined): void {
    clearTimeout(this.#timer);
    this.#state = "open";
    this.#owner.handleConnected(endpointOf(this.#socket), peer);
  }

  /** What TLS found wrong, or the peer says so, has a name; else the socket broke. */
  #handleError(error: Error): void {
    const { code, detail } = problemOf(error);
    if (code === "connect_failed") this.#handleBroken(error.message);
    else this.#close(this.#state === "finishing" ? "closed" : code, detail);
  }

  #handleBroken(detail: string): void {
    if (this.#state === "dialling") this.#close("connect_failed", detail);
    else if (this.#state === "finishing") this.#close("closed", "");
    else this.#close("connection_lost", detail);
  }

  /** Hands on what is whole, while there is room for it. */
  #digest(): void {
    const { events, limits } = this.#context;
    try {
      while (this.#parser.heldBytes >= CONTROL_HEAD_BYTES) {
        if (this.#inboxBytes >= limits.controlQueueBytes) return this.#pause();
        if (!events.reserve("message")) {
          events.waitForRoom(() => this.#resume());
          return this.#pause();
        }
        const message = this.#next();
        if (message === undefined) return;
        this.#inboxBytes += message.length;
        this.#owner.handleMessage(message, () => this.#handleTaken(message.length));
      }
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      this.#close("protocol_error", error.message);
    }
  }

  /** Gives the reservation back when there is no message after all. */
  #next(): Uint8Array | undefined {
    let message: Uint8Array | undefined;
    try {
      message = this.#parser.next(this.#isAdmitted ? undefined : this.#context.limits.greetingMessageBytes);
    } finally {
      if (message === undefined) this.#context.events.release("message");
    }
    return message;
  }

  #handleTaken(bytes: number): void {
    const { controlQueueBytes } = this.#context.limits;
    const before = this.#inboxBytes;
    this.#inboxBytes -= bytes;
    // Only here does it fall, so it is passed once; read on in a turn of its own.
    const low = controlQueueBytes / 2;
    if (this.#isPaused && before >= low && this.#inboxBytes < low) setImmediate(() => this.#resume());
  }

  #pause(): void {
    this.#isPaused = true;
    this.#socket.pause();
  }

  #resume(): void {
    if (this.#state !== "open" || !this.#isPaused) return;
    this.#isPaused = false;
    this.#digest();
    if (!this.#isPaused) this.#socket.resume();
  }

  #close(code: ErrorCode, detail: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    clearTimeout(this.#timer);
    this.#socket.destroy();
    this.#owner.handleClosed(code, detail);
  }
}

export function endpointOf(socket: Socket): Endpoint {
  const host = socket.remoteAddress ?? "";
  // An IPv4 peer of a socket that listens on both.
  return { host: host.startsWith("::ffff:") ? host.slice(7) : host, port: socket.remotePort ?? 0 };
}
