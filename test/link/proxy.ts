/**
 * A TCP proxy that does to each connection what it is told: flip a bit, split writes, delay, hold, swallow, cut. The first 48 bytes of a connection
 * tell whether it is a control connection or a lane, so that faults can name their target. The network as a whole can be cut, unplugged and mended.
 * Between two ends that speak TLS it is one of them to either: it does to the plaintext what it is told.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { connect as tlsConnect, createServer as createTlsServer } from "node:tls";
import { decodePreamble, type Preamble } from "../../transport/link/frame.ts";
import type { Endpoint } from "../../transport/link/link.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";
import { bareTls } from "./certificates.ts";
import { resetSocket } from "./raw.ts";

/** As seen by who dialled. */
export type Direction = "out" | "in";

export interface Fault {
  /** Flip `bit` of byte `offset` of the stream (the preamble counts). */
  readonly flip?: { readonly offset: number; readonly bit: number };
  /** Pass on in writes of 1..n bytes, by turns of the list. */
  readonly split?: readonly number[];
  readonly delayMs?: number;
  /** Nothing from this byte on is passed on: the network swallows it. */
  readonly dropFrom?: number;
  /** From this byte on one passes in a second. */
  readonly trickleFrom?: number;
  /** Both sockets are destroyed when this byte would pass. */
  readonly cutAt?: number;
}

export class ProxyLine {
  readonly preamble: Preamble;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly passed: Record<Direction, number> = { out: 0, in: 0 };
  readonly #faults: Partial<Record<Direction, Fault>> = {};
  #unplugged = false;
  readonly #trickling: Partial<Record<Direction, Buffer>> = {};

  constructor(preamble: Preamble, client: Socket, server: Socket) {
    this.preamble = preamble;
    this.#client = client;
    this.#server = server;
  }

  setFault(direction: Direction, fault: Fault): void {
    this.#faults[direction] = fault;
  }

  /** Ends both sockets without a farewell. */
  cut(): void {
    for (const socket of [this.#client, this.#server]) {
      // Node keeps the handle of a socket that was ended and then reset for ever.
      if (socket.writableEnded || socket.readableEnded) socket.destroy();
      else resetSocket(socket);
    }
  }

  /** From now on neither end hears anything of the other, not even of its end. */
  unplug(): void {
    this.#unplugged = true;
  }

  pump(direction: Direction): void {
    const [from, to] = direction === "out" ? [this.#client, this.#server] : [this.#server, this.#client];
    const tell = (what: () => void) => (): void => {
      if (!this.#unplugged) what();
    };
    from.on("data", (bytes) => this.pass(direction, bytes));
    from.on(
      "end",
      tell(() => to.end()),
    );
    for (const end of ["error", "close"])
      from.on(
        end,
        tell(() => to.destroy()),
      );
  }

  /** False: it is passed on as ever. */
  #trickle(direction: Direction, bytes: Uint8Array, from: Socket, to: Socket): boolean {
    const { trickleFrom = Number.POSITIVE_INFINITY } = this.#faults[direction] ?? {};
    if (this.passed[direction] < trickleFrom) return false;
    this.passed[direction] += bytes.length;
    const isFirst = this.#trickling[direction] === undefined;
    this.#trickling[direction] = Buffer.concat([this.#trickling[direction] ?? Buffer.alloc(0), bytes]);
    from.pause();
    if (!isFirst) return true;
    const timer = setInterval(() => {
      const left = this.#trickling[direction] ?? Buffer.alloc(0);
      if (!to.destroyed) to.write(left.subarray(0, 1));
      this.#trickling[direction] = left.subarray(1);
      if (left.length <= 1) from.resume();
    }, TRICKLE_MS);
    to.once("close", () => clearInterval(timer));
    return true;
  }

  pass(direction: Direction, bytes: Uint8Array): void {
    if (this.#unplugged) return;
    const [from, to] = direction === "out" ? [this.#client, this.#server] : [this.#server, this.#client];
    const first = this.passed[direction];
    if (this.#trickle(direction, bytes, from, to)) return;
    const {
      flip,
      split,
      delayMs = 0,
      dropFrom = Number.POSITIVE_INFINITY,
      cutAt = Number.POSITIVE_INFINITY,
    } = this.#faults[direction] ?? {};
    const end = Math.min(bytes.length, Math.max(Math.min(dropFrom, cutAt) - first, 0));
    const passing = Buffer.from(bytes.subarray(0, end));
    this.passed[direction] += bytes.length;
    if (flip !== undefined && flip.offset >= first && flip.offset < first + end) {
      passing[flip.offset - first] = (passing[flip.offset - first] as number) ^ (1 << flip.bit);
    }
    const write = (): void => {
      if (to.destroyed) return;
      for (let at = 0, turn = 0; at < passing.length; turn++) {
        const count = split?.[turn % split.length] ?? passing.length;
        to.write(passing.subarray(at, at + count));
        at += count;
      }
      if (first + bytes.length > cutAt) this.cut();
      else if (to.writableLength > HIGH_BYTES) {
        from.pause();
        to.once("drain", () => from.resume());
      }
    };
    if (delayMs === 0) write();
    else setTimeout(write, delayMs);
  }
}

const TRICKLE_MS = 1_000;
/** More than this unwritten and the proxy reads no further, as a network would. */
const HIGH_BYTES = 64 * 1024;

export class Proxy {
  readonly endpoint: Endpoint;
  readonly lines: ProxyLine[] = [];
  /** For lines to come. */
  readonly planned: { matches: (preamble: Preamble) => boolean; direction: Direction; fault: Fault }[] = [];
  readonly #server: Server;
  /** What becomes of connections to come: passed on, refused, or taken without ever an answer. */
  network: "whole" | "cut" | "unplugged" = "whole";
  /** Came while the network was unplugged. */
  readonly unheard: Socket[] = [];

  constructor(server: Server, endpoint: Endpoint) {
    this.#server = server;
    this.endpoint = endpoint;
  }

  get control(): ProxyLine {
    return this.#find((preamble) => preamble.kind === "control", "a control connection");
  }

  /** The latest line of that lane. */
  lane(lane: number): ProxyLine {
    return this.#find((preamble) => preamble.kind === "lane" && preamble.lane === lane, `lane ${lane}`);
  }

  planLane(lane: number, direction: Direction, fault: Fault): void {
    this.planned.push({ matches: (preamble) => preamble.kind === "lane" && preamble.lane === lane, direction, fault });
  }

  planControl(direction: Direction, fault: Fault): void {
    this.planned.push({ matches: (preamble) => preamble.kind === "control", direction, fault });
  }

  /** Bytes that were read to be passed on, over all lines so far. */
  passed(direction: Direction): number {
    return this.lines.reduce((sum, line) => sum + line.passed[direction], 0);
  }

  /** Every connection is reset, and new ones are, until `mend`. */
  cut(): void {
    this.network = "cut";
    for (const line of this.lines) line.cut();
  }

  /** Nothing passes any more, and nobody is told, until `mend`; what there is of connections stays dead. */
  unplug(): void {
    this.network = "unplugged";
    for (const line of this.lines) line.unplug();
  }

  /** What there is of connections hears nothing more, and new ones work: a route has changed, an address translation was forgotten. */
  strand(): void {
    for (const line of this.lines) line.unplug();
  }

  mend(): void {
    this.network = "whole";
    for (const socket of this.unheard.splice(0)) socket.destroy();
  }

  async close(): Promise<void> {
    for (const line of this.lines) line.cut();
    for (const socket of this.unheard) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #find(matches: (preamble: Preamble) => boolean, what: string): ProxyLine {
    const line = this.lines.findLast(({ preamble }) => matches(preamble));
    if (line === undefined) throw new Error(`no ${what} has come through the proxy`);
    return line;
  }
}

/** Listens at `at`, a free port of this host unless it is said. */
export async function startProxy(target: Endpoint, tls?: TlsOptions, at: Endpoint = { host: "127.0.0.1", port: 0 }): Promise<Proxy> {
  const server = tls === undefined ? createServer({ noDelay: true }) : createTlsServer({ ...bareTls(tls), requestCert: true });
  await new Promise<void>((resolve) => {
    server.listen(at, resolve);
  });
  const proxy = new Proxy(server, { host: at.host, port: (server.address() as { port: number }).port });
  server.on(tls === undefined ? "connection" : "secureConnection", (client: Socket) => accept(proxy, client, target, tls));
  return proxy;
}

function accept(proxy: Proxy, client: Socket, target: Endpoint, tls: TlsOptions | undefined): void {
  let come: Uint8Array = new Uint8Array(0);
  client.on("error", () => {});
  if (proxy.network === "cut") return resetSocket(client);
  if (proxy.network === "unplugged") return void proxy.unheard.push(client.resume());
  const read = (bytes: Uint8Array): void => {
    come = Buffer.concat([come, bytes]);
    const preamble = decodePreamble(come);
    if (preamble === undefined) return;
    client.off("data", read);
    client.pause();
    const server = tls === undefined ? connect({ ...target, noDelay: true }) : tlsConnect({ ...target, ...bareTls(tls) });
    const line = new ProxyLine(preamble, client, server);
    for (const { matches, direction, fault } of proxy.planned) if (matches(preamble)) line.setFault(direction, fault);
    server.on(tls === undefined ? "connect" : "secureConnect", () => {
      proxy.lines.push(line);
      line.pump("out");
      line.pump("in");
      line.pass("out", come);
      client.resume();
    });
    server.on("error", () => client.destroy());
  };
  client.on("data", read);
}
