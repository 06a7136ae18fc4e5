/** A peer made of a bare socket: it says any bytes, well formed or not, and reads frames. */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { connect as tlsConnect, createServer as createTlsServer, TLSSocket } from "node:tls";
import { limits } from "../../transport/limits.ts";
import {
  ControlParser,
  decodeHeader,
  decodePreamble,
  decodeTrailer,
  encodeHeader,
  encodePreamble,
  type FrameHeader,
  type Preamble,
  type Trailer,
  writeTrailer,
} from "../../transport/link/frame.ts";
import { crc32c } from "../../transport/kv/crc32c.ts";
import type { Endpoint } from "../../transport/link/link.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";
import { bareTls } from "./certificates.ts";
import { WAIT_MS } from "./conformance/end.ts";

export interface Frame {
  readonly header: FrameHeader;
  readonly payload: Uint8Array;
  readonly trailer: Trailer | undefined;
}

export class RawPeer {
  readonly socket: Socket;
  /** All that came, less what was taken. */
  #pieces: Uint8Array[] = [];
  #heldBytes = 0;
  #comeBytes = 0;
  #isClosed = false;
  #isSecured: boolean;
  #waiters: (() => void)[] = [];

  constructor(socket: Socket) {
    this.socket = socket;
    this.#isSecured = !(socket instanceof TLSSocket);
    socket.once("secureConnect", () => {
      this.#isSecured = true;
      this.#tell();
    });
    socket.on("data", (bytes) => {
      this.#pieces.push(bytes);
      this.#heldBytes += bytes.length;
      this.#comeBytes += bytes.length;
      this.#tell();
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#isClosed = true;
      this.#tell();
    });
    // Half-closed by the other end is as good as closed.
    socket.on("end", () => socket.destroy());
  }

  /** All bytes that have come so far. */
  get comeBytes(): number {
    return this.#comeBytes;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  say(...parts: readonly Uint8Array[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(parts));
  }

  /** Without a farewell. */
  reset(): void {
    resetSocket(this.socket);
  }

  /** Its TLS handshake is through, where there is one: what it says then is on its way before anything that is said or dialled later. */
  async secured(): Promise<void> {
    await this.#until(() => this.#isSecured || this.#isClosed, "the handshake");
  }

  async closed(): Promise<void> {
    await this.#until(() => this.#isClosed, "the connection to be closed");
  }

  async until(isDone: () => boolean, what: string): Promise<void> {
    await this.#until(isDone, what);
  }

  /** The next frame; rejects if the connection closes first. */
  async frame(): Promise<Frame> {
    const header = decodeHeader(await this.#take(limits.frameHeaderBytes), limits.chunkBytesMax) as FrameHeader;
    const payload = await this.#take(header.bytes);
    const trailer = header.type === "chunk" ? decodeTrailer(await this.#take(limits.frameTrailerBytes)) : undefined;
    return { header, payload, trailer };
  }

  async preamble(): Promise<Preamble> {
    return decodePreamble(await this.#take(limits.preambleBytes)) as Preamble;
  }

  async message(): Promise<Uint8Array> {
    const parser = new ControlParser();
    for (;;) {
      parser.push(await this.#take(1));
      const message = parser.next();
      if (message !== undefined) return message;
    }
  }

  async #take(bytes: number): Promise<Uint8Array> {
    await this.#until(() => this.#heldBytes >= bytes || this.#isClosed, `${bytes} bytes`);
    if (this.#heldBytes < bytes) throw new Error(`the connection closed before ${bytes} bytes had come`);
    const held = Buffer.concat(this.#pieces);
    this.#pieces = [held.subarray(bytes)];
    this.#heldBytes -= bytes;
    return held.subarray(0, bytes);
  }

  async #until(isDone: () => boolean, what: string): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`a raw peer waited for ${what}; ${this.#comeBytes} bytes came`)), WAIT_MS);
    });
    while (!isDone()) await Promise.race([new Promise<void>((resolve) => this.#waiters.push(resolve)), late]).catch(fail(timer));
    clearTimeout(timer);
  }

  #tell(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}

function fail(timer: NodeJS.Timeout | undefined): (error: unknown) => never {
  return (error) => {
    clearTimeout(timer);
    throw error;
  };
}

/** Node resets bare sockets only. */
export function resetSocket(socket: Socket): void {
  if (socket instanceof TLSSocket) socket.destroy();
  else socket.resetAndDestroy();
}

/** `tls`: it speaks over TLS; `from`: an address of this host. Resolves when the socket is there, before any handshake. */
export async function dialRaw(t: TestContext, endpoint: Endpoint, tls?: TlsOptions, from = "127.0.0.1"): Promise<RawPeer> {
  const to = { ...endpoint, localAddress: from };
  const socket = tls === undefined ? connect({ ...to, noDelay: true }) : tlsConnect({ ...to, ...bareTls(tls) });
  t.after(() => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", reject);
  });
  return new RawPeer(socket);
}

export async function dialRawControl(t: TestContext, endpoint: Endpoint, tls?: TlsOptions): Promise<RawPeer> {
  const peer = await dialRaw(t, endpoint, tls);
  peer.say(encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) }));
  return peer;
}

/** A lane that was confirmed. */
export async function dialRawLane(t: TestContext, endpoint: Endpoint, token: Uint8Array, lane: number, tls?: TlsOptions): Promise<RawPeer> {
  const peer = await dialRaw(t, endpoint, tls);
  peer.say(encodePreamble({ version: 1, kind: "lane", lane, token }));
  const { header } = await peer.frame();
  if (header.type !== "pong" || header.grant !== 0) throw new Error(`a lane was greeted with ${JSON.stringify(header)}`);
  return peer;
}

export interface RawListener {
  readonly endpoint: Endpoint;
  /** The next connection, its preamble read. */
  accept(): Promise<{ readonly peer: RawPeer; readonly preamble: Preamble }>;
}

export async function listenRaw(t: TestContext, tls?: TlsOptions): Promise<RawListener> {
  const waiting: ((socket: Socket) => void)[] = [];
  const come: Socket[] = [];
  const all = new Set<Socket>();
  const take = (socket: Socket): void => {
    all.add(socket);
    const waiter = waiting.shift();
    if (waiter === undefined) come.push(socket);
    else waiter(socket);
  };
  const server: Server =
    tls === undefined ? createServer({ noDelay: true }, take) : createTlsServer({ ...bareTls(tls), requestCert: true }, take);
  await new Promise<void>((resolve) => {
    server.listen({ host: "127.0.0.1", port: 0 }, resolve);
  });
  t.after(() => {
    for (const socket of all) socket.destroy();
    server.close();
  });
  const next = (): Promise<Socket> => {
    const socket = come.shift();
    return socket === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(socket);
  };
  return {
    endpoint: { host: "127.0.0.1", port: (server.address() as { port: number }).port },
    accept: async () => {
      const peer = new RawPeer(await next());
      return { peer, preamble: await peer.preamble() };
    },
  };
}

const ZERO: FrameHeader = { type: "ping", checksum: false, grant: 0, generation: 0, chunk: 0, bytes: 0, sequence: 0, status: 0 };

export function headerOf(fields: Partial<FrameHeader>): Uint8Array {
  return encodeHeader({ ...ZERO, ...fields });
}

export function trailerOf(crc: number, verdict = 0): Uint8Array {
  const bytes = new Uint8Array(limits.frameTrailerBytes);
  writeTrailer({ crc, verdict }, bytes, 0);
  return bytes;
}

/** A whole CHUNK frame. */
export function chunkFrame(fields: Partial<FrameHeader>, payload: Uint8Array): Uint8Array {
  const header = headerOf({ type: "chunk", checksum: true, sequence: 1, bytes: payload.length, ...fields });
  return Buffer.concat([header, payload, trailerOf(crc32c(payload))]);
}
