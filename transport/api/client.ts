/** A sidecar's client: the Ferry interface over the engine API, the pool's memory attached on demand. */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import type {
  BufferInfo,
  FerryBuffer,
  FerryEvent,
  FerryStats,
  FetchRequest,
  KeySeed,
  LookupPlace,
  ModelIdentity,
  ModelInfo,
  NodeInfo,
  OfferRequest,
  PoolInfo,
  PrewarmRequest,
  PushRequest,
  RangeRequest,
  Transfer,
  UserFerry,
} from "../ferry/ferry.ts";
import type { Layout } from "../kv/layout.ts";
import { limits } from "../limits.ts";
import type { Blocks } from "../memory/pool.ts";
import type { Region } from "../memory/region.ts";
import { type Channel, openChannel, type Target } from "./channel.ts";
import { ClientTransfers } from "./client-transfers.ts";
import type { Message } from "./codec.ts";
import { eventOf, replies, type Welcome } from "./replies.ts";
import { checkSocketPath } from "./socket-file.ts";

export interface ConnectOptions {
  /** This client's name in the sidecar's log. */
  readonly client?: string;
  /** For a TCP target. */
  readonly token?: string;
  /** false: a client that only asks and never attaches memory (a router in another PID namespace). */
  readonly attaches?: boolean;
  /** How long an answer may take; the end of a transfer has its own deadline. */
  readonly requestTimeoutMs?: number;
}

export interface Reconnected {
  /** What this client held is still its own. */
  readonly resumed: boolean;
  /** The sidecar has restarted: handles, blocks and the attached memory are void; attach again. */
  readonly incarnationChanged: boolean;
}

/** A sidecar's client. */
export interface ClientFerry extends UserFerry {
  /** After a `lost` event. Says hello with the token of the lost session. */
  reconnect(): Promise<Reconnected>;
}

/**
 * @param target path of a unix socket, or ws://HOST:PORT on this host.
 * Rejects with invalid_argument, connect_failed, connect_timeout, peer_not_allowed, or what hello is refused with.
 */
export async function connect(target: string, options: ConnectOptions = {}): Promise<ClientFerry> {
  if (options.requestTimeoutMs !== undefined) integer(options.requestTimeoutMs, "requestTimeoutMs", 1, limits.deadlineMaxMs);
  const client = new Client(parseTarget(target, options.token ?? ""), options);
  await client.reconnect();
  return client;
}

function parseTarget(target: string, token: string): Target {
  if (typeof target !== "string" || target === "") throw expected("a socket's path or ws://HOST:PORT", "target", target);
  if (!target.startsWith("ws://")) return { path: checkSocketPath(target), url: "ws://localhost/", token: "" };
  if (!URL.canParse(target)) throw expected("ws://HOST:PORT", "target", target);
  return { path: "", url: new URL("/", target).href, token };
}

class Client implements ClientFerry {
  readonly #target: Target;
  readonly #options: ConnectOptions;
  readonly #listeners = new Set<(event: FerryEvent) => void>();
  readonly #transfers = new ClientTransfers((transfer) => this.#cancel(transfer));
  #channel: Channel | undefined;
  #welcome: Welcome | undefined;
  #reconnecting: Promise<Reconnected> | undefined;
  #closed = false;

  constructor(target: Target, options: ConnectOptions) {
    this.#target = target;
    this.#options = options;
  }

  get incarnation(): string {
    return this.#welcome?.incarnation ?? "";
  }

  reconnect(): Promise<Reconnected> {
    this.#reconnecting ??= this.#connect().finally(() => {
      this.#reconnecting = undefined;
    });
    return this.#reconnecting;
  }

  async #connect(): Promise<Reconnected> {
    if (this.#closed) throw new KvferryError("closed");
    const before = this.#welcome;
    const former = this.#channel;
    await former?.close();
    this.#transfers.failAll("connection_lost", "reconnecting");
    const { requestTimeoutMs = limits.apiRequestTimeoutMs } = this.#options;
    const handlers = { event: (message: Message) => this.#handleEvent(message), lost: (detail: string) => this.#handleLost(detail) };
    const channel = await openChannel(this.#target, handlers, { requestTimeoutMs });
    try {
      const hello = {
        version: limits.apiVersion,
        minVersion: limits.apiVersionMin,
        client: this.#options.client ?? `node ${process.pid}`,
        processId: this.#options.attaches === false ? 0 : process.pid,
        resume: before?.resume,
        unanswered: former?.unanswered,
      };
      this.#welcome = await channel.request("hello", hello, replies.hello);
    } catch (error) {
      await channel.close();
      throw error;
    }
    this.#channel = channel;
    const incarnationChanged = before !== undefined && before.incarnation !== this.#welcome.incarnation;
    return { resumed: this.#welcome.resumed, incarnationChanged };
  }

  pool(): Promise<PoolInfo> {
    return this.#request("pool", {}, replies.pool);
  }

  async attach(): Promise<Region> {
    const { path, bytes } = await this.pool();
    if (path === "") throw new KvferryError("attach_unavailable");
    const { attachRegion } = await import("../memory/region.ts");
    return attachRegion(path, bytes);
  }

  async createBuffer(bytes: number, namespace?: string): Promise<FerryBuffer> {
    const { path } = await this.pool();
    if (path === "") throw new KvferryError("attach_unavailable");
    const { createBufferRegion } = await import("../memory/region.ts");
    const region = await createBufferRegion(bytes);
    try {
      const info = await this.registerBuffer({ path: region.path, bytes }, namespace);
      const close = async (): Promise<void> => {
        try {
          await this.unregisterBuffer(info.handle);
        } finally {
          region.close();
        }
      };
      return { ...info, region, close };
    } catch (error) {
      region.close();
      throw error;
    }
  }

  info(): Promise<NodeInfo> {
    return this.#request("info", {}, replies.info);
  }

  registerModel(identity: ModelIdentity, layout: Layout, namespace?: string): Promise<ModelInfo> {
    return this.#request("registerModel", { identity, layout, namespace }, replies.model);
  }

  async keys(model: number, group: number, tokens: Uint32Array, seed?: KeySeed): Promise<Uint8Array> {
    return (await this.#request("keys", { model, group, tokens, seed }, replies.keys)).keys;
  }

  alloc(count: number): Promise<Blocks> {
    return this.#request("alloc", { count }, replies.blocks, (blocks) => this.free(blocks));
  }

  free(blocks: Blocks): Promise<void> {
    return this.#request("free", { blocks }, replies.nothing);
  }

  publish(model: number, group: number, blocks: Blocks, keys: Uint8Array): Promise<void> {
    return this.#request("publish", { model, group, blocks, keys }, replies.nothing);
  }

  async lookup(model: number, group: number, keys: Uint8Array, peers?: readonly string[]): Promise<LookupPlace[]> {
    return (await this.#request("lookup", { model, group, keys, peers }, replies.places)).places;
  }

  lease(model: number, group: number, keys: Uint8Array, prefix?: boolean): Promise<Blocks> {
    return this.#request("lease", { model, group, keys, prefix }, replies.blocks, (blocks) => this.release(blocks));
  }

  release(blocks: Blocks): Promise<void> {
    return this.#request("release", { blocks }, replies.nothing);
  }

  async offer(request: OfferRequest): Promise<string> {
    return (await this.#request("offer", { ...request }, replies.handle)).handle;
  }

  ready(handle: string, layer: number): Promise<void> {
    return this.#request("ready", { handle, layer }, replies.nothing);
  }

  withdraw(handle: string): Promise<void> {
    return this.#request("withdraw", { handle }, replies.nothing);
  }

  prewarm(request: PrewarmRequest): Promise<void> {
    return this.#request("prewarm", { ...request }, replies.nothing);
  }

  discard(peer: string, handle: string): Promise<void> {
    return this.#request("discard", { peer, handle }, replies.nothing);
  }

  fetch(request: FetchRequest): Promise<Transfer> {
    return this.#start("fetch", request);
  }

  push(request: PushRequest): Promise<Transfer> {
    return this.#start("push", request);
  }

  async registerBuffer(memory: Uint8Array | { readonly path: string; readonly bytes: number }, namespace?: string): Promise<BufferInfo> {
    if (memory instanceof Uint8Array) throw new KvferryError("unsupported", "over a socket a buffer is memory that both map: createBuffer");
    const { path, bytes } = memory;
    return this.#request("registerBuffer", { path, bytes, namespace }, replies.buffer, ({ handle }) => this.unregisterBuffer(handle));
  }

  unregisterBuffer(handle: string): Promise<void> {
    return this.#request("unregisterBuffer", { handle }, replies.nothing);
  }

  read(request: RangeRequest): Promise<Transfer> {
    return this.#start("read", request);
  }

  write(request: RangeRequest): Promise<Transfer> {
    return this.#start("write", request);
  }

  on(listener: (event: FerryEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  stats(): Promise<FerryStats> {
    return this.#request("stats", {}, replies.stats);
  }

  /** Gives everything back and ends the connection. Never rejects: what cannot be said to a lost server need not be said. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const channel = this.#channel;
    this.#channel = undefined;
    if (channel?.open) await channel.request("close", {}, replies.nothing).catch(() => {});
    await channel?.close();
    this.#transfers.failAll("closed", "the client is closed");
    this.#listeners.clear();
  }

  /** @param undo gives back what an answer brings for which nobody waits any more */
  #request<Result>(
    op: string,
    fields: Message,
    take: (result: Message) => Result,
    undo?: (result: Result) => Promise<void>,
  ): Promise<Result> {
    // What cannot be given back now is named in the next hello.
    const late = undo === undefined ? undefined : (result: Message) => void undo(take(result)).catch(() => {});
    if (this.#channel !== undefined) return this.#channel.request(op, fields, take, late);
    return Promise.reject(new KvferryError(this.#closed ? "closed" : "connection_lost"));
  }

  #start(op: string, request: FetchRequest | PushRequest | RangeRequest): Promise<Transfer> {
    const timeoutMs = (request.deadlineMs ?? limits.deadlineMaxMs) + limits.apiRequestTimeoutMs;
    return this.#request(op, { ...request }, (result) => this.#transfers.add(replies.transfer(result).transfer, timeoutMs));
  }

  #cancel(transfer: number): void {
    this.#request("cancel", { transfer }, replies.nothing).catch(() => {});
  }

  #handleEvent(message: Message): void {
    const event = eventOf(message);
    if (event === undefined) return;
    if (event.kind === "done" || event.kind === "failed") this.#transfers.end(event);
    this.#tell(event);
  }

  #handleLost(detail: string): void {
    this.#transfers.failAll("connection_lost", detail);
    this.#tell({ kind: "lost", detail });
  }

  #tell(event: FerryEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}
