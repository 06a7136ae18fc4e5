/**
 * The control connection to one remote and its lanes: dialled (again and again, with growing pauses, while somebody wants it) or accepted.
 * Knows when the remote is up, silent or away; says so to its owner; carries messages.
 */
import { codeOfNumber, ERRORS, type ErrorCode, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { ConnectionId, Endpoint, Link, LinkEvent } from "../link/link.ts";
import type { Path } from "../policy/path.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { commonVersion, refusal } from "./greeting.ts";
import { type Caller, callerOf } from "./caller.ts";
import { Lanes } from "./lanes.ts";
import { Probe } from "./probe.ts";
import { decodeMessage, encodeMessage, type Hello, type Message } from "./messages.ts";

export interface ConnectionOwner {
  /** This node's Hello, for this remote. */
  hello(laneToken: Uint8Array): Hello;
  /** Of a remote that was dialled, before anything is said. Throws KvferryError if nothing may be, whatever it would answer. */
  meet(caller: Caller): void;
  /** Throws KvferryError if the remote may not talk to us. */
  admit(hello: Hello, caller: Caller): void;
  /** Dialler: our Hello is said. What needs no capability may be said behind it, before the remote's has come. */
  onGreeted(nowUs: number): void;
  onUp(nowUs: number, hello: Hello): void;
  onDown(nowUs: number, code: ErrorCode, detail: string): void;
  onMessage(nowUs: number, message: Message): void;
  /** A lane died while the connection lives; whoever dialled opens it again. */
  onLaneLost(lane: number, code: ErrorCode): void;
}

export interface ConnectionOptions {
  readonly link: Link;
  readonly runtime: Runtime;
  readonly owner: ConnectionOwner;
  /** Where to dial; undefined for a remote that dialled us. */
  readonly address: Endpoint | undefined;
  /** Whose certificate it must have, over TLS; without: its host's. */
  readonly identity?: string | undefined;
  readonly path: Path;
  readonly congestionControl: string;
  readonly heartbeatMs: number;
}

const NOBODY: Caller = { remote: { host: "", port: 0 }, identity: "" };

type State = "down" | "dialling" | "greeting" | "up" | "closing";

export class Connection {
  readonly #options: ConnectionOptions;
  #state: State = "down";
  #id: ConnectionId | undefined;
  #caller: Caller = NOBODY;
  #hello: Hello | undefined;
  #outbox: Uint8Array[] = [];
  readonly lanes: Lanes;
  /** Of its lanes: chosen by who dials, or by who listens if it was not. */
  #laneToken: Uint8Array = new Uint8Array(0);
  /** Of a remote that we dial. */
  readonly #probe: Probe | undefined;
  #heardUs = 0;
  /** When our Hello went out. */
  #askedUs = 0;
  #pingAtUs = Number.POSITIVE_INFINITY;
  #greetingEndsUs = Number.POSITIVE_INFINITY;
  #dialAtUs = 0;
  /** To be dialled once the pause since the last try is over. */
  #isSought = false;
  /** Since when the remote is expected to speak. */
  #busySinceUs = Number.POSITIVE_INFINITY;
  #pauseMs = limits.redialMinMs;
  #refused: KvferryError | undefined;
  #lastFailure: KvferryError | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { link, path, congestionControl, owner, address } = options;
    this.#probe = address === undefined ? undefined : new Probe(link, address, options.identity);
    this.lanes = new Lanes({
      link,
      path,
      congestionControl,
      isDialler: address !== undefined,
      takesPadding: () => this.#hello?.capabilities.includes("prewarm") === true,
      onLost: (index, code) => owner.onLaneLost(index, code),
      onWish: (count, lost) => {
        if (this.#hello?.capabilities.includes("lanes") === true) this.send({ kind: "lanes", lanes: count, lost });
      },
    });
  }

  /** While memory can be granted over it. */
  get id(): ConnectionId | undefined {
    return this.#state === "up" || this.greets ? this.#id : undefined;
  }
  /** The link's name for it, from the dial on. */
  get linkId(): ConnectionId | undefined {
    return this.#id;
  }
  /** Whether events of that connection are for this one. */
  isOf(id: ConnectionId): boolean {
    return id === this.#id || id === this.#probe?.id;
  }
  get up(): boolean {
    return this.#state === "up";
  }
  /** Who is at the other end, or was last. */
  get caller(): Caller {
    return this.#caller;
  }
  /** Dialler: our Hello is said, and the remote's has not come. */
  get greets(): boolean {
    return this.#state === "greeting" && this.#options.address !== undefined;
  }
  /** Control messages that the link has not taken yet. */
  get waitingMessages(): number {
    return this.#outbox.length;
  }
  get lastFailure(): KvferryError | undefined {
    return this.#lastFailure;
  }
  get hello(): Hello | undefined {
    return this.#hello;
  }

  /** Dialler: makes a connection if there is none, after the pause since the last try. */
  want(nowUs: number): void {
    if (this.#state !== "down" || this.#options.address === undefined) return;
    this.#isSought = nowUs < this.#dialAtUs;
    if (this.#isSought) return;
    try {
      this.#id = this.#options.link.dial(this.#options.address, limits.connectTimeoutMs, this.#options.identity);
      this.#state = "dialling";
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      // Strangers may hold every place that the link has for a while.
      this.#lastFailure = error;
      this.#isSought = true;
      return this.#pause(nowUs);
    }
    this.#openEarly(this.#id);
  }

  /** Lanes with a token of our choice, beside a connection whose listener will hear of it in our Hello. */
  #openEarly(id: ConnectionId): void {
    this.#laneToken = this.#options.runtime.random(16);
    this.lanes.openEarly(id, this.#laneToken);
  }

  /** Acceptor: the remote dialled us and has said Hello already. */
  adopt(nowUs: number, id: ConnectionId, hello: Hello, caller: Caller): void {
    this.#id = id;
    this.#caller = caller;
    this.#state = "greeting";
    this.#greet(nowUs, hello);
  }

  /** Acceptor: the remote is back over another connection; the link will still report the end of this one, to nobody. */
  abandon(nowUs: number): void {
    this.#handleDisconnected(nowUs, ERRORS.connection_lost.number, "replaced by a newer connection");
  }

  /**
   * Messages while the remote is away are not kept: whoever needs them says them again when it is up. One that is too large throws at once in
   * either case, where its cause can be told, and not when it is said again. `early`: it may be said before the remote's Hello has come.
   */
  send(message: Message | Uint8Array, early = false): void {
    const bytes = message instanceof Uint8Array ? message : encodeMessage(message);
    if (this.#state === "up" || (early && this.greets)) this.#post(bytes);
  }

  #post(bytes: Uint8Array): void {
    if (this.#outbox.length >= limits.outboxMessages) {
      this.drop("full", "the remote takes no control messages");
      return;
    }
    this.#outbox.push(bytes);
    this.#flush();
  }

  #flush(): void {
    if (this.#id === undefined) return;
    let sent = 0;
    while (sent < this.#outbox.length && this.#options.link.send(this.#id, this.#outbox[sent] as Uint8Array)) sent += 1;
    if (sent > 0) this.#outbox.splice(0, sent);
  }

  handle(nowUs: number, event: LinkEvent & { readonly connection: ConnectionId }): void {
    if (event.connection === this.#probe?.id) return this.#handleProbe(nowUs, event);
    // Of one that was given up.
    if (event.connection !== this.#id) return;
    // A lane that went down, or failed to open, is no word of the remote: it may be the sign that it is gone.
    if (event.kind === "message" || event.kind === "laneUp") this.#heardUs = nowUs;
    if (event.kind === "connected") this.#handleConnected(nowUs, callerOf(event));
    else if (event.kind === "message") this.#handleMessage(nowUs, event.bytes);
    else if (event.kind === "laneUp") this.lanes.handleUp(nowUs, event.lane);
    else if (event.kind === "laneDown") this.lanes.handleDown(nowUs, event.lane, event.code);
    else if (event.kind === "disconnected") this.#handleDisconnected(nowUs, event.code, event.detail);
  }

  /** Something of it came within the time of a few heartbeats. */
  isHeard(nowUs: number): boolean {
    return nowUs - this.#heardUs < 4 * limits.busyHeartbeatMs * 1000;
  }

  /** Chunks came or were acknowledged: the remote lives. */
  heard(nowUs: number): void {
    this.#heardUs = nowUs;
  }

  /** Another connection came through: it takes over, unless the remote has spoken meanwhile. */
  #handleProbe(nowUs: number, event: LinkEvent & { readonly connection: ConnectionId }): void {
    if (event.kind !== "connected") return void (event.kind === "disconnected" && this.#probe?.over());
    if (this.#state !== "up" || !this.#isDoubtful(nowUs)) return this.#probe?.cancel();
    const silent = this.#id;
    this.#probe?.over();
    this.#handleDisconnected(nowUs, ERRORS.connection_lost.number, "nothing was heard, and another connection came through");
    if (silent !== undefined) this.#options.link.disconnect(silent);
    this.#id = event.connection;
    this.#openEarly(event.connection);
    this.#handleConnected(nowUs, callerOf(event));
  }

  /** When there is something to do about its silence. */
  #doubtUs(nowUs: number): number {
    if (this.#isDoubtful(nowUs)) return this.#probe?.nextUs(nowUs) ?? Number.POSITIVE_INFINITY;
    return this.#doubtfulUs(nowUs);
  }

  #isDoubtful(nowUs: number): boolean {
    return nowUs >= this.#doubtfulUs(nowUs);
  }

  #doubtfulUs(nowUs: number): number {
    return Math.max(this.#heardUs, this.#busySinceUs) + Probe.silenceUs(this.#options.path.estimate(nowUs).rttUs);
  }

  #handleConnected(nowUs: number, caller: Caller): void {
    this.#caller = caller;
    try {
      this.#options.owner.meet(caller);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      return this.drop(error.code, error.detail);
    }
    this.#state = "greeting";
    this.#askedUs = nowUs;
    this.#greetingEndsUs = nowUs + limits.helloTimeoutMs * 1000;
    this.#post(encodeMessage(this.#options.owner.hello(this.#laneToken)));
    this.#options.owner.onGreeted(nowUs);
  }

  #handleMessage(nowUs: number, bytes: Uint8Array): void {
    if (this.#state === "closing") return;
    let message: Message;
    try {
      message = decodeMessage(bytes);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      this.#refuse(error);
      return;
    }
    if (message.kind === "hello") {
      if (this.#state === "greeting") this.#greet(nowUs, message);
      else this.#refuse(new KvferryError("protocol_error", "a second Hello"));
      return;
    }
    if (message.kind === "refuse" && message.re === 0) {
      this.#refused = new KvferryError(codeOfNumber(message.code), message.detail);
      this.drop(this.#refused.code, message.detail);
      return;
    }
    if (message.kind === "lanes" && this.#state === "up") this.lanes.handleWish(nowUs, message.lanes, message.lost);
    else if (message.kind === "ping") this.send({ kind: "pong", id: message.id });
    else if (message.kind === "pong") return;
    else if (this.#state === "up") this.#options.owner.onMessage(nowUs, message);
    else this.#refuse(new KvferryError("protocol_error", `${message.kind} before Hello`));
  }

  #greet(nowUs: number, hello: Hello): void {
    const { owner, address } = this.#options;
    try {
      commonVersion(hello);
      owner.admit(hello, this.#caller);
      if (address !== undefined && hello.laneToken.length !== 16) throw new KvferryError("protocol_error", "no lane token");
      if (address === undefined) this.#admitLanes(hello.laneToken);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      this.#refuse(error);
      return;
    }
    this.#hello = hello;
    if (address === undefined && this.#id !== undefined) {
      // Only now: a stranger that is refused learns nothing of this node.
      this.#post(encodeMessage(owner.hello(this.#laneToken)));
    }
    this.#state = "up";
    this.#refused = undefined;
    this.#lastFailure = undefined;
    this.#pauseMs = limits.redialMinMs;
    this.#greetingEndsUs = Number.POSITIVE_INFINITY;
    this.#heardUs = nowUs;
    this.#pingAtUs = nowUs + this.#options.heartbeatMs * 1000;
    if (address !== undefined) this.#options.path.handleRoundTrip(nowUs - this.#askedUs);
    if (this.#id !== undefined) this.lanes.begin(nowUs, this.#id, hello.laneToken, hello.lanesMax);
    owner.onUp(nowUs, hello);
  }

  /** With the token that the remote has chosen: its lanes are on their way, or wait. One of the former version has none. Throws invalid_argument. */
  #admitLanes(chosen: Uint8Array): void {
    this.#laneToken = chosen.length === 16 ? chosen : this.#options.runtime.random(16);
    if (this.#id !== undefined) this.lanes.admit(this.#id, this.#laneToken);
  }

  #refuse(error: KvferryError): void {
    this.#refused = error;
    this.#post(encodeMessage(refusal(error)));
    this.drop(error.code, error.detail);
  }

  /** Ends the connection; `onDown` follows when the link says so. */
  drop(code: ErrorCode, detail: string): void {
    this.#lastFailure = new KvferryError(code, detail);
    if (this.#id === undefined || this.#state === "closing") return;
    this.#refused ??= this.#lastFailure;
    this.#state = "closing";
    this.#forgetDeadlines();
    this.#options.link.disconnect(this.#id);
  }

  /** Nothing of this connection is due any more; a deadline that stayed would have the loop turn without end until the link has closed it. */
  #forgetDeadlines(): void {
    this.lanes.end();
    this.#probe?.cancel();
    this.#pingAtUs = Number.POSITIVE_INFINITY;
    this.#greetingEndsUs = Number.POSITIVE_INFINITY;
  }

  #handleDisconnected(nowUs: number, code: number, detail: string): void {
    // Why we ended it says more than that it ended.
    const failure = this.#refused ?? new KvferryError(codeOfNumber(code), detail);
    this.#lastFailure = failure;
    this.#refused = undefined;
    this.#state = "down";
    this.#id = undefined;
    this.#outbox = [];
    this.#forgetDeadlines();
    this.#pause(nowUs);
    this.#options.owner.onDown(nowUs, failure.code, failure.detail);
  }

  /** Before the next try. */
  #pause(nowUs: number): void {
    this.#dialAtUs = nowUs + this.#pauseMs * 1000;
    this.#pauseMs = Math.min(this.#pauseMs * 2, limits.redialMaxMs);
  }

  /** `isBusy`: the remote is expected to say something soon. */
  turn(nowUs: number, isBusy: boolean): void {
    this.#flush();
    if (this.#isSought) this.want(nowUs);
    if (this.#state === "greeting" && nowUs >= this.#greetingEndsUs) {
      this.drop("peer_silent", "no Hello");
    }
    if (this.#state !== "up") return;
    this.lanes.turn(nowUs);
    this.#busySinceUs = isBusy ? Math.min(this.#busySinceUs, nowUs) : Number.POSITIVE_INFINITY;
    if (this.#isDoubtful(nowUs)) this.#probe?.turn(nowUs, this.#options.path.estimate(nowUs).rttUs);
    else this.#probe?.cancel();
    const heartbeatUs = Math.min(this.#options.heartbeatMs, isBusy ? limits.busyHeartbeatMs : Number.POSITIVE_INFINITY) * 1000;
    this.#pingAtUs = Math.min(this.#pingAtUs, nowUs + heartbeatUs);
    if (nowUs < this.#pingAtUs) return;
    this.#pingAtUs = nowUs + heartbeatUs;
    if (nowUs - this.#heardUs >= limits.silentMs * 1000) {
      this.drop("peer_silent", `nothing heard for ${limits.silentMs} ms`);
    } else this.send({ kind: "ping", id: 0 });
  }

  /** When turn() has something to do without an event; `wanted`: somebody waits for the remote. */
  nextDeadlineUs(nowUs: number, wanted: boolean): number {
    // A full control queue has no event of its own when it drains: look again soon.
    let next = this.#outbox.length > 0 ? nowUs + 1_000 : Number.POSITIVE_INFINITY;
    next = Math.min(next, this.#greetingEndsUs, this.#pingAtUs);
    next = Math.min(next, this.lanes.nextDeadlineUs());
    if (this.#state === "up" && this.#probe !== undefined) next = Math.min(next, this.#doubtUs(nowUs));
    if (this.#state === "down" && (wanted || this.#isSought) && this.#options.address !== undefined) next = Math.min(next, this.#dialAtUs);
    return next;
  }
}
