/**
 * The serving end of a bench: no parameters of its own. Clients come one after the other over the control connection, say what they want,
 * and this end lends memory and pushes when asked. It trusts nobody with more than that memory: every number is bounded here.
 */
import { availableParallelism, freemem, release, type } from "node:os";
import type { Server, Socket } from "node:net";
import { integer } from "../transport/check.ts";
import { KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import type { ConnectionId } from "../transport/link/link.ts";
import { randomContent } from "./content.ts";
import { type Call, type CallNamed, type OpenReply, POOL_BYTES_MAX, POOL_BYTES_MIN } from "./calls.ts";
import { Control, listenControl } from "./control.ts";
import { chooseLink, Endpoint } from "./endpoint.ts";
import { checkLanes } from "./lanes.ts";
import type { TlsOptions } from "../transport/tls/options.ts";
import { AskedPusher, slotOfMessage } from "./requests.ts";
import { serverTls } from "./tls.ts";
import { Way, type WayWish, type WayWord, wordBytes } from "./way.ts";
import { buildWorkload, splitSlots, withProbe, type Workload } from "./workload.ts";

const WAITING_MAX = 8;
/** Whoever has its turn and does not say what it wants leaves it to the next. */
const OPEN_TIMEOUT_MS = 10_000;

export interface BenchServer {
  readonly port: number;
  /** Resolves when the server has stopped: after one client with `oneOff`, or by close(). */
  readonly done: Promise<void>;
  close(): void;
}

export interface ServerOptions {
  /** "" = every address. */
  readonly bind: string;
  readonly port: number;
  readonly oneOff: boolean;
  readonly version: string;
  /** Clients without TLS, or with another, are sent away. */
  readonly tls?: TlsOptions | undefined;
  readonly say: (line: string) => void;
}

export async function startServer(options: ServerOptions): Promise<BenchServer> {
  let finish: () => void = () => {};
  const done = new Promise<void>((resolve) => {
    finish = resolve;
  });
  // One client at a time: two benches on one host measure each other. A few may wait for their turn.
  const waiting: Socket[] = [];
  let session: Session | undefined;
  const serveWaiting = async (): Promise<void> => {
    while (session === undefined) {
      const socket = waiting.shift();
      if (socket === undefined) return;
      session = new Session(socket, options);
      await session.closed;
      session = undefined;
      if (options.oneOff) close();
    }
  };
  const server: Server = await listenControl(options.bind, options.port, (socket: Socket) => {
    socket.on("error", () => socket.destroy());
    if (waiting.length === WAITING_MAX) {
      socket.end(
        `${JSON.stringify({ error: { number: new KvferryError("full").number, detail: `${WAITING_MAX} clients wait already` } })}\n`,
      );
      return;
    }
    waiting.push(socket);
    socket.once("close", () => {
      const at = waiting.indexOf(socket);
      if (at >= 0) waiting.splice(at, 1);
    });
    void serveWaiting();
  });
  const close = (): void => {
    for (const socket of waiting.splice(0)) socket.destroy();
    session?.hangUp();
    server.close(() => finish());
  };
  const address = server.address();
  return { port: typeof address === "object" && address !== null ? address.port : options.port, done, close };
}

class Session {
  readonly closed: Promise<void>;
  readonly #options: ServerOptions;
  readonly #control: Control;
  readonly #openTimer: NodeJS.Timeout;
  #endpoint: Endpoint | undefined;
  #wish: WayWish | undefined;
  #way: Way | undefined;
  readonly #accepted: Promise<ConnectionId>;
  #accept: (connection: ConnectionId) => void = () => {};
  #workload: Workload | undefined;
  #poolBytes = 0;
  #cases = 0;
  /** Slots that the client may ask for, by the requests that they carry; it numbers them through. */
  #asked: readonly { readonly slots: number; readonly pusher: AskedPusher }[] = [];
  #failure: Error | undefined;
  #gone = false;

  constructor(socket: Socket, options: ServerOptions) {
    this.#options = options;
    this.#accepted = new Promise((resolve) => {
      this.#accept = resolve;
    });
    this.#control = new Control(socket, (call) => this.#handle(call));
    this.#openTimer = setTimeout(() => this.#control.close(), OPEN_TIMEOUT_MS);
    options.say(`client ${this.#control.remoteHost} connected`);
    this.closed = this.#control.closed.then(async () => {
      this.#gone = true;
      clearTimeout(this.#openTimer);
      this.#way?.close();
      await this.#endpoint?.close();
      options.say("client gone");
    });
  }

  hangUp(): void {
    this.#control.close();
  }

  async #handle(call: Call): Promise<unknown> {
    if (this.#failure !== undefined) throw this.#failure;
    switch (call.call) {
      case "open":
        return this.#open(call);
      case "admit":
        this.#ready();
        return this.#admitted().then(() => null);
      case "prepare":
        return this.#prepare(call);
      case "fill":
        return this.#prepared().fill(this.#some(call.slots), randomContent(call.seed));
      case "poison":
        return this.#prepared().poison(this.#some(call.slots));
      case "check": {
        const content = call.digests.length === 0 ? randomContent(call.seed) : undefined;
        return this.#prepared().check(this.#some(call.slots), content, call.digests);
      }
      case "use":
        return this.#ready().use();
      case "endCase":
        return this.#endCase();
      case "end":
        return this.#control.close();
    }
  }

  async #open(call: CallNamed<"open">): Promise<OpenReply> {
    if (this.#endpoint !== undefined) throw new KvferryError("protocol_error", "a session is opened once");
    // Whoever reaches the port may ask: not for more than leaves this host alive.
    const most = Math.max(POOL_BYTES_MIN, Math.min(POOL_BYTES_MAX, Math.floor(freemem() * 0.8)));
    integer(call.poolBytes, "poolBytes", POOL_BYTES_MIN, most, "memory_unavailable");
    clearTimeout(this.#openTimer);
    const endpoint = await Endpoint.open(chooseLink(call.link), call.ioThreads, serverTls(call.tls, this.#options.tls));
    try {
      // The client may have gone meanwhile; then nobody else would close it.
      if (this.#gone) throw new KvferryError("closed", "the client is gone");
      return await this.#serve(endpoint, call);
    } catch (error) {
      this.#endpoint = undefined;
      await endpoint.close();
      throw error;
    }
  }

  async #serve(endpoint: Endpoint, call: CallNamed<"open">): Promise<OpenReply> {
    this.#endpoint = endpoint;
    const token = Uint8Array.from(Buffer.from(call.token, "hex"));
    // Said at once: a client that waits for chunks would otherwise wait in vain.
    endpoint.onFailure = (error) => {
      this.#failure ??= error;
      this.#control.tell(this.#failure);
    };
    this.#wish = call.way;
    endpoint.onOther = (event) => {
      if (event.kind === "accepted") {
        if (this.#way !== undefined) return endpoint.link.disconnect(event.connection);
        // What this end sends obeys the client's flags too.
        this.#begin(endpoint, event.connection, call.way, token);
        this.#accept(event.connection);
      } else if (event.kind === "message") this.#handleGo(event.bytes);
      else if (event.kind === "laneUp") this.#way?.handleUp(event.lane);
      else if (event.kind === "laneDown") this.#way?.handleDown(event.lane, event.code);
      else if (event.kind === "disconnected") this.#way?.close();
    };
    endpoint.allocate(call.poolBytes);
    this.#poolBytes = call.poolBytes;
    const host = this.#options.bind === "" ? "::" : this.#options.bind;
    const address = await endpoint.link.listen({ host, port: call.dataPort });
    this.#options.say(`link ${endpoint.kind} on port ${address.port}, pool of ${call.poolBytes} bytes`);
    const systemInfo = `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`;
    return { link: endpoint.kind, dataPort: address.port, version: this.#options.version, systemInfo };
  }

  /** The client opens the lanes, and is told what this end wishes and has decided. */
  #begin(endpoint: Endpoint, connection: ConnectionId, wish: WayWish, token: Uint8Array): void {
    const say = (word: WayWord): void => void endpoint.link.send(connection, wordBytes(word));
    const way = new Way(endpoint, wish, {
      isDialler: false,
      onLost: () => {},
      onWish: (lanes, lost) => say({ lanes, lost: [...lost] }),
      onRead: () => this.#asked.some(({ slots }) => slots > 0) && say({ state: way.state() }),
    });
    this.#way = way;
    way.begin(connection, token);
  }

  async #prepare(call: CallNamed<"prepare">): Promise<null> {
    const endpoint = this.#ready();
    if (this.#workload !== undefined) throw new KvferryError("protocol_error", "the last case has not ended");
    integer(call.workload.poolBytes, "workload.poolBytes", POOL_BYTES_MIN, this.#poolBytes - (call.workload.probeBytes ?? 0));
    const connection = await this.#admitted();
    checkLanes(endpoint, connection, this.#wish!);
    const workload = buildWorkload(call.workload);
    const requests = splitSlots(workload.slots, call.write, call.read);
    const all = withProbe(workload, requests);
    try {
      endpoint.prepare({ number: ++this.#cases, workload, side: "remote", ...all, checksum: call.checksum }, connection);
    } catch (error) {
      await endpoint.release();
      throw error;
    }
    this.#workload = workload;
    const kinds = [{ slots: requests.read, chunks: workload.chunks }];
    if (workload.probe !== undefined) kinds.push({ slots: all.read.slice(requests.read.length), chunks: workload.probe.chunks });
    this.#asked = kinds.map(({ slots, chunks }) => ({
      slots: slots.length,
      pusher: new AskedPusher(endpoint.link, endpoint.placements(slots), chunks, this.#way!.sending),
    }));
    endpoint.requesters = this.#asked.map(({ pusher }) => pusher.pusher);
    this.#options.say(
      `case ${this.#cases}: ${workload.parameters.batch} x ${workload.parameters.blockBytes} bytes, ${workload.slots} slots`,
    );
    return null;
  }

  /** The link's connection, once it is here and its lanes are let in. */
  async #admitted(): Promise<ConnectionId> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new KvferryError("connect_timeout", "the bench client's link did not connect")),
        limits.connectTimeoutMs,
      );
    });
    return Promise.race([this.#accepted, late]).finally(() => clearTimeout(timer));
  }

  /** A "go" of a case that has ended meets none. */
  #handleGo(bytes: Uint8Array): void {
    if (this.#asked.length === 0) return;
    let slot = slotOfMessage(
      bytes,
      this.#asked.reduce((sum, { slots }) => sum + slots, 0),
    );
    for (const { slots, pusher } of this.#asked) {
      if (slot < slots) return pusher.handleGo(slot);
      slot -= slots;
    }
  }

  async #endCase(): Promise<void> {
    const endpoint = this.#ready();
    this.#asked = [];
    this.#workload = undefined;
    await endpoint.release();
  }

  /** Slot numbers as the client names them, checked. */
  #some(slots: readonly number[]): readonly number[] {
    const most = this.#workload?.probe?.slot ?? (this.#workload?.slots ?? 0) - 1;
    return slots.map((slot) => integer(slot, "slot", 0, most));
  }

  #ready(): Endpoint {
    if (this.#endpoint === undefined) throw new KvferryError("protocol_error", "open comes first");
    return this.#endpoint;
  }

  #prepared(): Endpoint {
    if (this.#workload === undefined) throw new KvferryError("protocol_error", "prepare comes first");
    return this.#ready();
  }
}
