/** Builds a node out of a configuration: memory, link, loop. What the library's user holds and the sidecar serves. */
import { rmSync } from "node:fs";
import type { Config } from "../config.ts";
import { formatAddress, parseAddress } from "../config/address.ts";
import { KvferryError } from "../errors.ts";
import type { Endpoint, Link, LinkKind } from "../link/link.ts";
import { allowedCongestion } from "../link/congestion.ts";
import { createJsLink } from "../link/js.ts";
import { createTcpLink } from "../link/tcp.ts";
import { createJobs } from "../memory/jobs.ts";
import { Pool } from "../memory/pool.ts";
import { attachBufferRegion, createPoolRegion, newMemory, type PoolRegionOptions, privateRegion, type Region } from "../memory/region.ts";
import { native, nativeProblem } from "../native.ts";
import { Loop } from "../runtime/runtime.ts";
import type { TlsOptions } from "../tls/options.ts";
import type { FerryBuffer, UserFerry } from "./ferry.ts";
import type { FerryHost } from "./host.ts";
import type { NodeObserver, NodeSettings } from "./context.ts";
import { FerryNode } from "./node.ts";
import { NodeTls } from "./node-tls.ts";
import { Session } from "./session.ts";

/** A node in this process. As a Ferry it is its own first client. */
export interface LocalFerry extends UserFerry {
  /** For an API server: a Ferry for each of its clients. */
  readonly host: FerryHost;
  /** Where peers reach it; undefined if it does not listen. */
  readonly address: Endpoint | undefined;
  readonly link: { readonly kind: LinkKind; readonly reason: string };
  readonly node: FerryNode;
  /** What it shows and believes, as its files were read last; undefined without TLS. */
  readonly tls: NodeTls | undefined;
  /** Takes no new work and waits until what runs has ended, at most `timeoutMs`; true if all had. */
  drain(timeoutMs: number): Promise<boolean>;
}

export interface OpenOptions {
  readonly observer?: NodeObserver;
  /** A pool of this node's own, gone with it. Otherwise its file stays, and the next owner of that name adopts what is published in it. */
  readonly temporaryPool?: boolean;
}

/** Throws KvferryError: memory_unavailable, address_unavailable, unsupported, invalid_config (files of TLS). */
export async function openFerry(config: Config, { observer = {}, temporaryPool = false }: OpenOptions = {}): Promise<LocalFerry> {
  const loop = new Loop();
  // What is open so far, newest first: closed in that order, at the end or when a later step fails.
  const open: (() => void | Promise<void>)[] = [];
  let unmake = (): void => {};
  const shut = async (): Promise<void> => {
    for (const close of open.splice(0)) await close();
  };
  try {
    // Before any memory: what is wrong with a file is quickly said.
    const tls = config.tls === undefined ? undefined : new NodeTls(config.tls, observer);
    const region = await createPoolRegion(poolOptions(config, temporaryPool, loop));
    open.unshift(() => region.close());
    const evicted = (keys: Uint8Array): void => node.broadcast({ kind: "evicted", keys });
    const random = (count: number): Uint8Array => loop.random(count);
    const poolOf = { name: config.pool.name, region, blockBytes: config.pool.blockBytes, random, nowUs: () => loop.nowUs() };
    const pool = new Pool(poolOf, { evicted });
    // A node that never came up leaves no pool that nobody asked for.
    if (pool.adopted.fresh && region.path !== "") unmake = () => rmSync(region.path, { force: true });
    open.unshift(() => pool.close());
    const jobs = createJobs();
    open.unshift(() => jobs.close());
    const choice = chooseLink(config, loop, tls?.options);
    open.unshift(() => choice.link.close());
    if (tls !== undefined) open.unshift(() => tls.close());
    tls?.watch(choice.link);
    const address = config.listen === undefined ? undefined : await choice.link.listen(config.listen);
    const node: FerryNode = new FerryNode({
      settings: settingsOf(config, address),
      runtime: loop,
      link: choice.link,
      pool,
      jobs,
      bufferRegion: (memory) => (memory instanceof Uint8Array ? privateRegion(memory) : attachBufferRegion(memory.path, memory.bytes)),
      observer,
    });
    open.unshift(() => {
      node.close();
      loop.stop();
    });
    loop.start((nowUs) => node.turn(nowUs));
    loop.run();
    return node.enroll(0, (holder) => new Library(node, holder, choice, address, tls, shut));
  } catch (error) {
    unmake();
    await shut();
    throw error;
  }
}

function poolOptions({ pool }: Config, temporary: boolean, loop: Loop): PoolRegionOptions {
  const { name, bytes, directory, hugePages, numaNode } = pool;
  const own = `${name}-${process.pid}-${Buffer.from(loop.random(4)).toString("hex")}`;
  return { name: temporary ? own : name, bytes, directory, hugePages, numaNode, temporary };
}

interface Choice {
  readonly link: Link;
  readonly kind: LinkKind;
  readonly reason: string;
}

function chooseLink(config: Config, loop: Loop, tls: TlsOptions | undefined): Choice {
  const options = { onWake: () => loop.run(), ioThreads: config.ioThreads, ...(tls === undefined ? {} : { tls }) };
  if (config.link === "js") return { link: createJsLink(options), kind: "js", reason: "asked for" };
  if (native !== undefined) {
    return { link: createTcpLink(options), kind: "tcp", reason: config.link === "tcp" ? "asked for" : "the addon is there" };
  }
  if (config.link === "tcp") throw new KvferryError("unsupported", `link tcp needs the addon: ${nativeProblem}`);
  return { link: createJsLink(options), kind: "js", reason: `no addon: ${nativeProblem}` };
}

function settingsOf(config: Config, address: Endpoint | undefined): NodeSettings {
  return {
    name: config.name,
    advertise: config.advertise || advertisedOf(address),
    allow: config.allow,
    secret: config.secret,
    peers: config.peers.map((peer) => {
      const endpoint = parseAddress(peer.address);
      if (endpoint === undefined) throw new KvferryError("invalid_config", `address of peer ${peer.name}`);
      const { name, secret, identity } = peer;
      return { name, address: endpoint, secret, ...(identity === "" ? {} : { identity }) };
    }),
    lanes: config.lanes === 0 ? { least: 1, most: config.lanesMax } : { least: config.lanes, most: config.lanes },
    congestion: { configured: config.congestionControl, allowed: allowedCongestion() },
    chunkBytes: config.chunkBytes,
    checksum: config.checksum,
    stallMs: config.stallMs,
    heartbeatMs: config.heartbeatMs,
    deadlines: config.deadlines,
    transfersMax: config.transfersMax,
    windowBytes: config.windowBytes,
    rateBytesPerSecond: config.rateBytesPerSecond,
  };
}

/** A wildcard is no address that anybody could dial: --advertise says which one to tell. */
function advertisedOf(address: Endpoint | undefined): string {
  return address === undefined || address.host === "0.0.0.0" || address.host === "::" ? "" : formatAddress(address);
}

/** The library user's own session, which is the node's as well: closing it closes the node. */
class Library extends Session implements LocalFerry {
  readonly host: FerryHost;
  readonly address: Endpoint | undefined;
  readonly link: LocalFerry["link"];
  readonly node: FerryNode;
  readonly tls: NodeTls | undefined;
  readonly #shut: () => Promise<void>;
  #closing: Promise<void> | undefined;

  constructor(
    node: FerryNode,
    holder: number,
    choice: Choice,
    address: Endpoint | undefined,
    tls: NodeTls | undefined,
    shut: () => Promise<void>,
  ) {
    super(node, holder, { client: "library", processId: 0 });
    this.host = node;
    this.node = node;
    this.address = address;
    this.tls = tls;
    this.link = { kind: choice.kind, reason: choice.reason };
    this.#shut = shut;
  }

  get incarnation(): string {
    return this.node.incarnation;
  }

  /** The node's own mapping: it lies in this process already, and goes with the node. */
  async attach(): Promise<Region> {
    await this.pool();
    return { ...this.node.pool.region, close: () => {} };
  }

  async createBuffer(bytes: number): Promise<FerryBuffer> {
    const memory = newMemory(bytes);
    const info = await this.registerBuffer(memory);
    return {
      ...info,
      // The link's right to it ends with the registration, and the memory with whoever holds it.
      region: { bytes, path: "", nativeId: -1, view: memory, close: () => {} },
      close: () => this.unregisterBuffer(info.handle),
    };
  }

  /** Looks ten times a second: draining is no hot path, and needs no listener of its own. */
  async drain(timeoutMs: number): Promise<boolean> {
    this.node.drain("draining");
    const endMs = performance.now() + timeoutMs;
    while (this.node.transfers > 0 && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 100));
    return this.node.transfers === 0;
  }

  override close(): Promise<void> {
    this.#closing ??= this.#shut();
    return this.#closing;
  }
}
