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
import { type Call, Control, CONTROL_VERSION, listenControl, type OpenReply } from "./control.ts";
import { chooseLink, Endpoint } from "./endpoint.ts";
import { checkLanes, laneOptions, type LaneTuning, PLAIN_LANE } from "./lanes.ts";
import { AskedPusher, slotOfMessage } from "./requests.ts";
import { splitSlots, type Workload, type WorkloadParameters, buildWorkload } from "./workload.ts";

const WAITING_MAX = 8;
const POOL_BYTES_MAX = 64 * 2 ** 30;

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
    if (waiting.length === WAITING_MAX) {
      socket.end(
        `${JSON.stringify({ error: { number: new KvferryError("full").number, detail: `${WAITING_MAX} clients wait already` } })}\n`,
      );
      return;
    }
    socket.on("error", () => socket.destroy());
    waiting.push(socket);
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
  #endpoint: Endpoint | undefined;
  #token = new Uint8Array(16);
  #lane: LaneTuning = PLAIN_LANE;
  readonly #accepted: Promise<ConnectionId>;
  #accept: (connection: ConnectionId) => void = () => {};
  #workload: Workload | undefined;
  #cases = 0;
  #slots: readonly number[] = [];
  #asked: AskedPusher | undefined;
  #failure: Error | undefined;

  constructor(socket: Socket, options: ServerOptions) {
    this.#options = options;
    this.#accepted = new Promise((resolve) => {
      this.#accept = resolve;
    });
    this.#control = new Control(socket, (call) => this.#handle(call));
    options.say(`client ${this.#control.remoteHost} connected`);
    this.closed = this.#control.closed.then(async () => {
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
        return this.#admitted();
      case "prepare":
        return this.#prepare(call);
      case "fill":
        return this.#ready().fill(this.#some(call.slots), randomContent(call.seed));
      case "poison":
        return this.#ready().poison(this.#some(call.slots));
      case "check":
        return this.#ready().check(this.#some(call.slots), call.digests.length === 0 ? randomContent(call.seed) : undefined, call.digests);
      case "use":
        return this.#ready().use();
      case "endCase":
        this.#asked = undefined;
        return this.#ready().release();
      case "end":
        return this.#control.close();
      default:
        throw new KvferryError("protocol_error", "the bench client asks for something that this version does not know");
    }
  }

  async #open(call: Extract<Call, { call: "open" }>): Promise<OpenReply> {
    if (call.version !== CONTROL_VERSION)
      throw new KvferryError("version_unsupported", `bench control ${call.version}, this server speaks ${CONTROL_VERSION}`);
    if (this.#endpoint !== undefined) throw new KvferryError("protocol_error", "a session is opened once");
    // Whoever reaches the port may ask: not for more than leaves this host alive.
    integer(call.poolBytes, "poolBytes", 4_096, Math.min(POOL_BYTES_MAX, Math.floor(freemem() * 0.8)), "memory_unavailable");
    integer(call.ioThreads, "ioThreads", 0, 64);
    this.#lane = call.lane;
    this.#token = Uint8Array.from(Buffer.from(call.token, "hex"));
    const endpoint = await Endpoint.open(chooseLink(call.link), call.ioThreads);
    this.#endpoint = endpoint;
    // Said at once: a client that waits for chunks would otherwise wait in vain.
    endpoint.onFailure = (error) => {
      this.#failure ??= error;
      this.#control.tell(this.#failure);
    };
    endpoint.onOther = (event) => {
      if (event.kind === "accepted") {
        endpoint.link.admitLanes(event.connection, this.#token);
        this.#accept(event.connection);
      } else if (event.kind === "laneUp") {
        // What this end sends obeys the client's flags too.
        endpoint.link.tuneLane(event.connection, event.lane, laneOptions(this.#lane));
      } else if (event.kind === "message") {
        this.#asked?.handleGo(slotOfMessage(event.bytes, this.#slots.length));
      }
    };
    endpoint.allocate(call.poolBytes);
    const host = this.#options.bind === "" ? "::" : this.#options.bind;
    const address = await endpoint.link.listen({ host, port: integer(call.dataPort, "dataPort", 0, 65_535) });
    this.#options.say(`link ${endpoint.kind} on port ${address.port}, pool of ${call.poolBytes} bytes`);
    const systemInfo = `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`;
    return { link: endpoint.kind, dataPort: address.port, version: this.#options.version, systemInfo };
  }

  async #prepare(call: Extract<Call, { call: "prepare" }>): Promise<null> {
    const endpoint = this.#ready();
    const connection = await this.#admitted();
    checkLanes(endpoint, connection, this.#lane);
    const workload = buildWorkload(boundedParameters(call.workload));
    const { write, read } = splitSlots(workload.slots, call.write, call.read);
    endpoint.prepare({ number: ++this.#cases, workload, side: "remote", write, read, checksum: call.checksum }, connection);
    this.#workload = workload;
    this.#slots = read;
    this.#asked = new AskedPusher(endpoint.link, endpoint.placements(read), workload.chunks);
    endpoint.requesters = [this.#asked.pusher];
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

  /** Slot numbers as the client names them, checked. */
  #some(slots: readonly number[]): readonly number[] {
    const most = this.#workload?.slots ?? 0;
    return slots.map((slot) => integer(slot, "slot", 0, most - 1));
  }

  #ready(): Endpoint {
    if (this.#endpoint === undefined) throw new KvferryError("protocol_error", "open comes first");
    return this.#endpoint;
  }
}

function boundedParameters(parameters: WorkloadParameters): WorkloadParameters {
  integer(parameters.blockBytes, "blockBytes", 1, POOL_BYTES_MAX);
  integer(parameters.batch, "batch", 1, 1_048_576);
  integer(parameters.poolBytes, "poolBytes", 4_096, POOL_BYTES_MAX);
  integer(parameters.chunkBytes, "chunkBytes", 1, limits.chunkBytesMax);
  integer(parameters.seed, "seed", 0, 2 ** 32 - 1);
  return parameters;
}
