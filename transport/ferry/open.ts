/** Opens a node out of a configuration: memory, link, loop. With a policy it is a node for each tenant, over one link, one listener and one loop. */
import { rmSync } from "node:fs";
import type { Config } from "../config.ts";
import { formatAddress, parseAddress } from "../config/address.ts";
import type { TenantConfig } from "../config/policy-file.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { allowedCongestion } from "../link/congestion.ts";
import { createJsLink } from "../link/js.ts";
import type { Endpoint, Link, LinkKind } from "../link/link.ts";
import { SharedLink } from "../link/shared.ts";
import { createTcpLink } from "../link/tcp.ts";
import { createJobs, type Jobs } from "../memory/jobs.ts";
import { Pool } from "../memory/pool.ts";
import { attachBufferRegion, createPoolRegion, type PoolRegionOptions, privateRegion } from "../memory/region.ts";
import { native, nativeProblem } from "../native.ts";
import { Loop, type Runtime, SharedLoop } from "../runtime/runtime.ts";
import type { TlsOptions } from "../tls/options.ts";
import type { NodeObserver, NodeSettings } from "./context.ts";
import { FerryNode, type NodeOptions } from "./node.ts";
import { NodePolicy } from "./node-policy.ts";
import { NodeTls } from "./node-tls.ts";
import { openProfiles } from "./open-profiles.ts";
import type { Profiles } from "./profiles.ts";
import type { TenantHost } from "./tenant.ts";

export interface OpenOptions {
  readonly observer?: NodeObserver;
  /** A pool of this node's own, gone with it. Otherwise its file stays, and the next owner of that name adopts what is published in it. */
  readonly temporaryPool?: boolean;
}

/** All of what one tenant has here; without a policy there is one, and it is nobody's. */
export interface World {
  readonly node: FerryNode;
  readonly pool: TenantConfig["pool"];
  readonly tenant: TenantConfig | undefined;
}

export interface OpenNode {
  readonly worlds: readonly [World, ...World[]];
  /** Where peers reach it; undefined if it does not listen. */
  readonly address: Endpoint | undefined;
  readonly link: { readonly kind: LinkKind; readonly reason: string };
  /** What it shows and believes, as its files were read last; undefined without TLS. */
  readonly tls: NodeTls | undefined;
  readonly policy: NodePolicy | undefined;
  /** Of all worlds. */
  readonly transfers: number;
  /** Takes no new work and waits until what runs has ended, at most `timeoutMs`; true if all had. */
  drain(timeoutMs: number): Promise<boolean>;
  close(): Promise<void>;
}

/** Throws KvferryError: memory_unavailable, address_unavailable, unsupported, invalid_config (files of TLS, policy). */
export async function openNode(config: Config, options: OpenOptions = {}): Promise<OpenNode> {
  const { observer = {} } = options;
  const loop = new Loop();
  // What is open so far, newest first: closed in that order, at the end or when a later step fails.
  const open: (() => void | Promise<void>)[] = [];
  const unmake: (() => void)[] = [];
  const shut = async (): Promise<void> => {
    for (const close of open.splice(0)) await close();
  };
  try {
    // Before any memory: what is wrong with a file is quickly said.
    const tls = config.tls === undefined ? undefined : new NodeTls(config.tls, observer);
    const policy = config.policy === "" ? undefined : new NodePolicy({ file: config.policy, pool: config.pool, observer });
    const memory = new Map<TenantConfig | undefined, Pool>();
    for (const tenant of policy?.tenants ?? [undefined]) {
      memory.set(tenant, await openPool({ config, tenant, options, loop, open, unmake, evicted: (keys) => tell(tenant, keys) }));
    }
    const jobs = createJobs();
    open.unshift(() => jobs.close());
    const choice = chooseLink(config, loop, tls?.options);
    open.unshift(() => choice.link.close());
    if (tls !== undefined) open.unshift(() => tls.close());
    tls?.watch(choice.link);
    // Before anybody can connect: to read a calibration may take seconds.
    const profiles = await openProfiles(config, choice.kind, observer);
    const address = config.listen === undefined ? undefined : await choice.link.listen(config.listen);
    const settings = settingsOf(config, address);
    const parts = {
      settings,
      jobs,
      observer,
      profiles,
      ...reachOf(settings.advertise, address, tls),
    };
    const worlds =
      policy === undefined ? [openWorld(parts, memory, loop, choice.link)] : openWorlds(parts, memory, loop, choice.link, policy);
    const tell = (tenant: TenantConfig | undefined, keys: Uint8Array): void =>
      worlds.find((world) => world.tenant === tenant)?.node.broadcast({ kind: "evicted", keys });
    open.unshift(() => {
      policy?.close();
      for (const { node } of worlds) node.close();
      loop.stop();
    });
    loop.run();
    return new Opened(worlds as [World, ...World[]], address, choice, tls, policy, shut);
  } catch (error) {
    for (const undo of unmake) undo();
    await shut();
    throw error;
  }
}

interface Opening {
  readonly config: Config;
  readonly tenant: TenantConfig | undefined;
  readonly options: OpenOptions;
  readonly loop: Loop;
  readonly open: (() => void | Promise<void>)[];
  readonly unmake: (() => void)[];
  readonly evicted: (keys: Uint8Array) => void;
}

async function openPool({ config, tenant, options, loop, open, unmake, evicted }: Opening): Promise<Pool> {
  const { blockBytes, bytes } = tenant?.pool ?? config.pool;
  const name = tenant === undefined ? config.pool.name : `${config.pool.name}-${tenant.name}`;
  // Nobody can attach the pool of a tenant without engines here, and nothing in it is worth adopting.
  const isTemporary = options.temporaryPool === true || tenant?.socket === "";
  const region = await createPoolRegion({ ...poolOptions(config, name, isTemporary, loop), bytes });
  open.unshift(() => region.close());
  const random = (count: number): Uint8Array => loop.random(count);
  const pool = new Pool({ name, region, blockBytes, random, nowUs: () => loop.nowUs() }, { evicted });
  // A node that never came up leaves no pool that nobody asked for.
  if (pool.adopted.fresh && region.path !== "") unmake.push(() => rmSync(region.path, { force: true }));
  open.unshift(() => pool.close());
  return pool;
}

function poolOptions({ pool }: Config, name: string, temporary: boolean, loop: Loop): PoolRegionOptions {
  const { bytes, directory, hugePages, numaNode } = pool;
  const own = `${name.slice(0, 64)}-${process.pid}-${Buffer.from(loop.random(4)).toString("hex")}`;
  return { name: temporary ? own : name, bytes, directory, hugePages, numaNode, temporary };
}

interface Parts {
  readonly settings: NodeSettings;
  readonly jobs: Jobs;
  readonly observer: NodeObserver;
  readonly profiles: Profiles;
  readonly reach?: NonNullable<NodeOptions["reach"]>;
}

type Memory = ReadonlyMap<TenantConfig | undefined, Pool>;

/** Nobody can come to a node that does not listen, and nobody is told of it. */
function reachOf(advertise: string, listens: Endpoint | undefined, tls: NodeTls | undefined): Pick<Parts, "reach"> {
  const address = parseAddress(advertise);
  if (listens === undefined || address === undefined) return {};
  return { reach: { address, identity: tls?.certificate.identity } };
}

/** The loop is the node's own, and the link too. */
function openWorld(parts: Parts, memory: Memory, loop: Loop, link: Link): World {
  const world = newWorld(parts, memory, loop, link, undefined);
  loop.start((nowUs) => world.node.turn(nowUs));
  return world;
}

function openWorlds(parts: Parts, memory: Memory, loop: Loop, link: Link, policy: NodePolicy): World[] {
  const shared = new SharedLink(link);
  const turns = new SharedLoop(loop);
  const worlds: World[] = [];
  // Whoever dials us is met by the first.
  const { reach: _, ...others } = parts;
  const views = new Map<string, Link>();
  const nodeOf = (tenant: string): FerryNode => {
    const found = worlds.find((world) => world.tenant?.name === tenant);
    if (found === undefined) throw new KvferryError("internal", `no node of tenant ${tenant}`);
    return found.node;
  };
  const handOver: TenantHost["handOver"] = (connection, tenant) => {
    const view = views.get(tenant);
    if (view !== undefined) shared.handOver(connection, view);
  };
  for (const tenant of policy.tenants) {
    const view = shared.newView();
    views.set(tenant.name, view);
    const host: TenantHost = {
      name: tenant.name,
      get tenancy() {
        return policy.tenancy;
      },
      nodeOf,
      handOver,
    };
    const world = newWorld(
      worlds.length === 0 ? parts : others,
      memory,
      turns.newRuntime((nowUs) => world.node.turn(nowUs)),
      view,
      { tenant, host },
    );
    worlds.push(world);
  }
  turns.start(() => shared.pump(limits.eventsPerTurn) >= limits.eventsPerTurn);
  policy.watch(() => {
    for (const { node } of worlds) node.handlePolicy();
  });
  return worlds;
}

interface Tenanted {
  readonly tenant: TenantConfig;
  readonly host: TenantHost;
}

function newWorld(parts: Parts, memory: Memory, runtime: Runtime, link: Link, of: Tenanted | undefined): World {
  const pool = memory.get(of?.tenant) as Pool;
  const node = new FerryNode({
    ...parts,
    runtime,
    link,
    pool,
    bufferRegion: (buffer) => (buffer instanceof Uint8Array ? privateRegion(buffer) : attachBufferRegion(buffer.path, buffer.bytes)),
    ...(of === undefined ? {} : { tenant: of.host }),
  });
  return { node, pool: { bytes: pool.region.bytes, blockBytes: pool.blockBytes }, tenant: of?.tenant };
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
    hasTls: config.tls !== undefined,
  };
}

/** A wildcard is no address that anybody could dial: --advertise says which one to tell. */
function advertisedOf(address: Endpoint | undefined): string {
  return address === undefined || address.host === "0.0.0.0" || address.host === "::" ? "" : formatAddress(address);
}

class Opened implements OpenNode {
  readonly worlds: OpenNode["worlds"];
  readonly address: Endpoint | undefined;
  readonly link: OpenNode["link"];
  readonly tls: NodeTls | undefined;
  readonly policy: NodePolicy | undefined;
  readonly #shut: () => Promise<void>;
  #closing: Promise<void> | undefined;

  constructor(
    worlds: OpenNode["worlds"],
    address: Endpoint | undefined,
    { kind, reason }: Choice,
    tls: NodeTls | undefined,
    policy: NodePolicy | undefined,
    shut: () => Promise<void>,
  ) {
    this.worlds = worlds;
    this.address = address;
    this.link = { kind, reason };
    this.tls = tls;
    this.policy = policy;
    this.#shut = shut;
  }

  get transfers(): number {
    return this.worlds.reduce((sum, { node }) => sum + node.transfers, 0);
  }

  /** Looks ten times a second: draining is no hot path, and needs no listener of its own. */
  async drain(timeoutMs: number): Promise<boolean> {
    for (const { node } of this.worlds) node.drain("draining");
    const endMs = performance.now() + timeoutMs;
    while (this.transfers > 0 && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 100));
    return this.transfers === 0;
  }

  close(): Promise<void> {
    this.#closing ??= this.#shut();
    return this.#closing;
  }
}
