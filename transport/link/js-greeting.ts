/** A socket that was accepted and has not said what it is: by its first byte TLS or plain, then the handshake, then the preamble. */
import type { Socket } from "node:net";
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { TlsPeer } from "../tls/options.ts";
import type { Newcomer } from "./crowd.ts";
import { decodePreamble, encodeControl, type Preamble } from "./frame.ts";
import { type LinkContext, PIECE_BYTES } from "./js-context.ts";
import { endpointOf } from "./js-control.ts";
import { type Handshake, JsTls } from "./js-tls.ts";
import type { RefusalReason } from "./refusals.ts";

export interface Greeted {
  readonly socket: Socket;
  readonly preamble: Preamble;
  /** Came behind the preamble. */
  readonly rest: Uint8Array;
  /** Over TLS. */
  readonly peer: TlsPeer | undefined;
}

export interface GreetingOwner {
  /** False: not wanted. */
  onGreeted(greeted: Greeted): boolean;
  /** Once, when it is no greeting any more, greeted or not. */
  onLeft(): void;
  /** A lane whose token is not known yet, and for which there is room: it waits as long as for a preamble. */
  mayWait(preamble: Preamble): boolean;
}

/** How long somebody who was told why he is not let in may take to leave. */
const LEAVE_MS = 1_000;
const DETAIL_BYTES = 100;
const PREAMBLE_BYTE = 0x4b;

export class Greeting implements Newcomer {
  readonly source: string;
  readonly #context: LinkContext;
  readonly #tls: JsTls | undefined;
  readonly #accepted: Socket;
  readonly #owner: GreetingOwner;
  /** What is read: what was accepted, or TLS over it. */
  #socket: Socket;
  #peer: TlsPeer | undefined;
  #come: Uint8Array = new Uint8Array(0);
  #timer: NodeJS.Timeout;
  #hasSpoken = false;
  #isLeaving = false;
  /** Of a lane that waits for its token to be admitted. */
  #held: Preamble | undefined;

  constructor(context: LinkContext, socket: Socket, source: string, owner: GreetingOwner) {
    this.source = source;
    this.#context = context;
    this.#tls = context.tls;
    this.#accepted = socket;
    this.#socket = socket;
    this.#owner = owner;
    this.#timer = setTimeout(() => this.#handleTimeout(), context.limits.preambleTimeoutMs);
    socket.on("close", this.#leave);
    socket.on("data", this.#sniff);
  }

  get progress(): number {
    if (this.#isLeaving) return 0;
    if (this.#held !== undefined) return 3;
    return this.#hasSpoken ? 2 : 1;
  }

  get heldToken(): Uint8Array | undefined {
    return this.#held?.token;
  }

  /** Its token was admitted. */
  admitHeld(): void {
    if (this.#held === undefined) return;
    this.#socket.off("data", this.#wait);
    this.#handOver(this.#held);
  }

  /** Closed, because somebody else needs its place. */
  giveWay(): void {
    const isLeaving = this.#isLeaving;
    this.#accepted.off("close", this.#leave);
    this.#leave();
    if (isLeaving) this.destroy();
    else this.#refuse("full", "its place was needed: too many have not said what they are");
  }

  /** At once. */
  destroy(): void {
    this.#socket.destroy();
    this.#accepted.destroy();
  }

  readonly #leave = (): void => {
    clearTimeout(this.#timer);
    this.#owner.onLeft();
  };

  readonly #sniff = (bytes: Uint8Array): void => {
    this.#accepted.off("data", this.#sniff);
    this.#hasSpoken = true;
    if (!JsTls.isHello(bytes) && bytes[0] !== PREAMBLE_BYTE) return this.#refuse("garbage", "neither a preamble nor TLS");
    if (this.#tls === undefined || !JsTls.isHello(bytes)) {
      this.#accepted.on("data", this.#read);
      return this.#read(bytes);
    }
    this.#accepted.pause();
    this.#accepted.unshift(bytes);
    this.#tls.accept(this.#accepted, (handshake) => this.#secured(handshake));
  };

  #secured(handshake: Handshake): void {
    if ("problem" in handshake) {
      const { socket, problem } = handshake;
      this.#context.refusals.add(problem.reason, endpointOf(this.#accepted), problem.detail);
      if (socket === undefined) return this.destroy();
      this.#socket = socket.on("error", () => {});
      return this.#answer(problem.code, problem.detail);
    }
    this.#peer = handshake.peer;
    this.#socket = handshake.socket.on("error", () => {});
    this.#socket.on("data", this.#read);
  }

  readonly #read = (bytes: Uint8Array): void => {
    if (this.#isLeaving) return;
    this.#come = this.#come.length === 0 ? bytes : Buffer.concat([this.#come, bytes]);
    if (this.#tls === undefined && JsTls.isHello(this.#come)) {
      this.#context.refusals.add("tls", endpointOf(this.#accepted), "it speaks TLS");
      return this.#answer("tls_failed", "this node speaks no TLS");
    }
    const preamble = parse(this.#come);
    if (preamble === "wrong") this.#refuse("garbage", "no preamble");
    else if (preamble !== undefined) this.#admit(preamble);
  };

  #admit(preamble: Preamble): void {
    if (this.#tls !== undefined && this.#peer === undefined) {
      this.#context.refusals.add("plain", endpointOf(this.#accepted), "it does not speak TLS");
      return preamble.kind === "control" ? this.#answer("tls_failed", "the peer wants TLS") : this.destroy();
    }
    if (preamble.version !== limits.protocolVersion) {
      return preamble.kind === "control" ? this.#answer("version_unsupported", "") : this.destroy();
    }
    this.#socket.off("data", this.#read);
    if (!this.#owner.mayWait(preamble)) return this.#handOver(preamble);
    this.#held = preamble;
    this.#socket.on("data", this.#wait);
  }

  /** Reads on, as far as there is room, to see whether it goes. */
  readonly #wait = (bytes: Uint8Array): void => {
    this.#come = Buffer.concat([this.#come, bytes]);
    if (this.#come.length > PIECE_BYTES) this.#socket.pause();
  };

  #handOver(preamble: Preamble): void {
    this.#accepted.off("close", this.#leave);
    this.#leave();
    const rest = this.#come.subarray(limits.preambleBytes);
    if (this.#owner.onGreeted({ socket: this.#socket, preamble, rest, peer: this.#peer })) this.#socket.resume();
    else this.destroy();
  }

  #handleTimeout(): void {
    if (this.#isLeaving || this.#held !== undefined) return this.destroy();
    const isSecuring = this.#peer === undefined && this.#tls !== undefined && this.#come.length === 0;
    this.#refuse("timeout", isSecuring ? "the handshake took too long" : "no preamble in time");
  }

  #refuse(reason: RefusalReason, detail: string): void {
    this.#context.refusals.add(reason, endpointOf(this.#accepted), detail);
    this.destroy();
  }

  /** To a control connection that is not let in; whatever it still says is thrown away, so that it gets to read this. */
  #answer(code: ErrorCode, detail: string): void {
    this.#isLeaving = true;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#handleTimeout(), LEAVE_MS);
    this.#socket.resume();
    this.#socket.end(encodeControl(refusal(code, detail)));
  }
}

/**
 * Envelope{refuse{code, detail, version, min_version}} of schemas/peer.proto: the one message that a link says by itself, to a peer that it could
 * not understand.
 */
function refusal(code: ErrorCode, detail: string): Uint8Array {
  const text = Buffer.from(detail).subarray(0, DETAIL_BYTES);
  const refuse = [0x08, ERRORS[code].number, ...(text.length === 0 ? [] : [0x12, text.length, ...text])];
  refuse.push(0x18, limits.protocolVersion, 0x20, limits.protocolVersionMin);
  return Uint8Array.of(0x12, refuse.length, ...refuse);
}

function parse(bytes: Uint8Array): Preamble | "wrong" | undefined {
  try {
    return decodePreamble(bytes);
  } catch (error) {
    if (error instanceof KvferryError) return "wrong";
    throw error;
  }
}
