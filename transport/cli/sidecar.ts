/** A node with its engine API, logs and metrics around it: everything that `serve` runs. */
import { lstatSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import type { Logger } from "pino";
import { type ApiServer, type ApiServerOptions, createApiServer } from "../api/server.ts";
import type { Config } from "../config.ts";
import { formatAddress, isLoopback } from "../config/address.ts";
import { formatSize } from "../config/units.ts";
import { codeOfNumber, type ErrorCode, ERRORS, KvferryError } from "../errors.ts";
import type { Denial } from "../ferry/denials.ts";
import type { FerryHost } from "../ferry/host.ts";
import type { NodeObserver } from "../ferry/node.ts";
import { type OpenNode, openNode, type World } from "../ferry/open.ts";
import { makeFolder } from "../folder.ts";
import { limits } from "../limits.ts";
import type { Pool } from "../memory/pool.ts";
import { Metrics } from "../metrics.ts";
import { missingCongestion } from "./checks/network.ts";
import { thisHost } from "./checks/host.ts";
import { packageVersion } from "./package.ts";
import { privateFolder } from "./runtime-folder.ts";
import { CODEC_REASONS } from "../policy/choose-codec.ts";
import { codecFigures, pathFigures, refusalsOf, statusOf } from "./status.ts";

const REFUSAL_LINE_MS = 1_000;
/** Of who had come in. */
const PEER_DENIALS: ReadonlySet<string> = new Set<Denial>(["no_rule", "namespace", "reader", "handle"]);
const TOLD_AS_REFUSALS: ReadonlySet<string> = new Set<ErrorCode>(["tenant_denied", "handle_unknown", "incarnation_mismatch"]);

export interface Sidecar {
  readonly transfers: number;
  /** What to tell people: where it listens, and how to reach it. */
  describe(): string[];
  /** Reads the files of TLS again; without TLS there is nothing to read. */
  readonly reload: (() => void) | undefined;
  /** Lets transfers end, at most `drainMs`; true if all had. Then closes everything. */
  stop(drainMs: number): Promise<boolean>;
}

export async function startSidecar(config: Config, log: Logger): Promise<Sidecar> {
  if (config.listen !== undefined && !isLoopback(config.listen.host) && config.tls === undefined) {
    log.warn(
      { listen: formatAddress(config.listen) },
      "INSECURE: peer traffic leaves this host without encryption; only for a network you trust",
    );
  }
  const metrics = new Metrics();
  const opened = await openNode(config, { observer: observed(metrics, log) });
  const apis: ApiServer[] = [];
  try {
    for (const api of apisOf(config, opened, metrics, log)) apis.push(await createApiServer(api));
    tellLink(config, opened, metrics, log);
    for (const { node } of opened.worlds) tellPool(node.pool, log);
    observeNode(opened, () => apis.reduce((sum, { clients }) => sum + clients, 0), metrics);
    if (opened.tls !== undefined) log.info({ ...opened.tls.certificate }, "peer traffic is TLS 1.3");
    if (opened.policy !== undefined) log.info({ tenants: opened.policy.tenancy.names }, "each tenant has a pool and a socket of its own");
    return new RunningSidecar(config, opened, apis);
  } catch (error) {
    for (const api of apis) await api.close();
    await opened.close();
    throw error;
  }
}

class RunningSidecar implements Sidecar {
  readonly #config: Config;
  readonly #opened: OpenNode;
  readonly #apis: readonly ApiServer[];

  constructor(config: Config, opened: OpenNode, apis: readonly ApiServer[]) {
    this.#config = config;
    this.#opened = opened;
    this.#apis = apis;
  }

  get transfers(): number {
    return this.#opened.transfers;
  }

  get reload(): (() => void) | undefined {
    const { tls, policy } = this.#opened;
    if (tls === undefined) return undefined;
    return () => {
      tls.reload();
      policy?.reload();
    };
  }

  describe(): string[] {
    const { name, socket, api } = this.#config;
    const { address, link, worlds } = this.#opened;
    const [first] = worlds;
    const { advertise } = first.node.settings;
    const what = first.tenant === undefined ? poolText(first) : `${worlds.length} tenants`;
    const port = this.#apis.find((server) => server.port > 0)?.port ?? 0;
    const serves = first.tenant === undefined ? "engines: " : "operator:";
    return [
      `kvferry ${packageVersion()} "${name}": ${what}, link ${link.kind} (${link.reason})`,
      `peers:    ${peersLine(name, address === undefined ? "" : formatAddress(address), advertise)}`,
      ...worlds.flatMap((world) => (world.tenant === undefined ? [] : [tenantLine(world)])),
      ...(socket === "" || first.tenant !== undefined ? [] : [`engines:  ${socket}   in Node: await connect("${socket}")`]),
      ...(socket === "" ? [] : [`status:   curl --unix-socket ${socket} http://localhost/status`]),
      ...(api === undefined ? [] : [`${serves} http://${formatAddress({ host: api.host, port })} with the token`]),
    ];
  }

  async stop(drainMs: number): Promise<boolean> {
    for (const api of this.#apis) api.drain();
    const drained = await this.#opened.drain(drainMs);
    for (const api of this.#apis) await api.close();
    await this.#opened.close();
    return drained;
  }
}

function poolText({ node, pool }: World): string {
  const { blockCount, region } = node.pool;
  const blocks = `${blockCount} blocks of ${formatSize(pool.blockBytes)}${region.path === "" ? "" : `, ${region.path}`}`;
  return `pool of ${formatSize(pool.bytes)} (${blocks})`;
}

function tenantLine(world: World): string {
  const { name = "", socket = "" } = world.tenant ?? {};
  return `tenant:   ${name}: ${socket === "" ? "no engines here" : `${poolText(world)}, engines at ${socket}`}`;
}

function peersLine(name: string, listens: string, advertise: string): string {
  if (listens === "") return "none can connect (no --listen)";
  if (advertise === "") return `${listens}; --advertise HOST:PORT is what they would be told to dial`;
  return `${advertise}   there: kvferry serve --peers ${name}=${advertise}`;
}

/** A tenant's engines come to its own socket and see nothing of others; with tenants the node's own socket is the operator's. */
function apisOf(config: Config, opened: OpenNode, metrics: Metrics, log: Logger): ApiServerOptions[] {
  if (config.socket !== "" && dirname(config.socket) === privateFolder()) makePrivateFolder(privateFolder());
  const observer: ApiServerOptions["observer"] = {
    request: (verb, result, seconds) => {
      metrics.apiRequests.inc({ verb, result });
      metrics.apiSeconds.observe({ verb }, seconds);
    },
  };
  const { worlds } = opened;
  const main: ApiServerOptions = {
    host: worlds[0].tenant === undefined ? worlds[0].node : operatorHost(worlds[0].node.incarnation),
    ...(config.socket === "" ? {} : { socket: config.socket }),
    ...(config.api === undefined ? {} : { listen: config.api }),
    log,
    metrics: () => metrics.scrape(),
    status: () => statusOf(config, opened),
    observer,
  };
  const own = worlds.flatMap((world): ApiServerOptions[] => {
    if (world.tenant === undefined || world.tenant.socket === "") return [];
    return [{ host: world.node, socket: world.tenant.socket, log, status: () => statusOf(config, opened, world), observer }];
  });
  const isAsked = worlds[0].tenant === undefined || config.socket !== "" || config.api !== undefined;
  return isAsked ? [...own, main] : own;
}

function operatorHost(incarnation: string): FerryHost {
  const openSession = (): never => {
    throw new KvferryError("tenant_denied", "this socket is the operator's: an engine connects to its tenant's");
  };
  return { incarnation, openSession };
}

/** /tmp belongs to everybody: a folder that somebody else made there under our name is refused. */
function makePrivateFolder(folder: string): void {
  makeFolder(folder, 0o700);
  const found = lstatSync(folder);
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o077) !== 0) {
    throw new KvferryError("address_unavailable", `${folder} is not a folder of this user alone; set --socket`);
  }
}

/** Counts everything, and says aloud what somebody should know about. */
function observed(metrics: Metrics, log: Logger): NodeObserver {
  const counters = metrics.observer(codeOfNumber);
  return {
    ...counters,
    transferEnded: (direction, ok, code, report, { peer, trace }) => {
      counters.transferEnded(direction, ok, code, report);
      const fields = {
        peer,
        ...(trace === "" ? {} : { trace }),
        direction,
        code,
        bytes: report.bytes,
        seconds: report.seconds,
        retries: report.retries,
        resumed: report.resumed,
      };
      if (ok) log.debug(fields, "transfer ended");
      else log.warn(fields, "transfer failed");
    },
    stalled: (direction) => {
      counters.stalled(direction);
      log.warn({ direction }, "a transfer makes no progress");
    },
    laneLost: (peer, lane, code) => {
      counters.laneLost(peer, lane, code);
      log.warn({ peer, lane, code }, "LANE LOST: its chunks go over the others");
    },
    peer: (name, up, detail, tenant) => {
      counters.peer(name, up);
      log.info({ peer: name, ...(tenant === "" ? {} : { tenant }), up, detail }, up ? "peer up" : "peer down");
    },
    coding: codingLog(log, counters.coding),
    profileMissing: (profile, model, why) =>
      log.warn({ profile, ...(model === "" ? {} : { model }), why }, "PROFILE NOT TO BE HAD: peers are not told of it"),
    refused: refusalLog(log),
    reach: (address, problem) => {
      if (problem === "") return log.info({ address }, "the address that peers are told leads here");
      const remedy = problem.startsWith("certificate_rejected")
        ? "this node's own certificate must pass its own tls.authorities and tls.denied, and name the host of that address (kvferry cert node --host)"
        : "set advertise to an address of this node that others reach, or ignore this where only those outside can reach it";
      log.warn({ address, problem, remedy }, "ADVERTISED ADDRESS NOT REACHED: peers that are told it will not find this node");
    },
    policy: (outcome) => {
      counters.policy(outcome);
      if (outcome instanceof KvferryError) log.error({ error: outcome.message }, "POLICY NOT CHANGED: the one before stays in force");
      else log.info(outcome, "the policy was read again, and is in force");
    },
    denied: denialLog(log, counters.denied),
    certificate: (outcome) => {
      counters.certificate(outcome);
      if (outcome instanceof KvferryError) log.error({ error: outcome.message }, "CERTIFICATE NOT CHANGED: the one before stays in use");
      else log.info(outcome, "certificate, authorities and deny-list were read again, for connections to come");
    },
  };
}

/** One line a second at most, however many knock; /metrics counts them all. */
function seldom(log: Logger): (fields: object, message: string) => void {
  let nextMs = 0;
  let untold = 0;
  return (fields, message) => {
    const nowMs = performance.now();
    if (nowMs < nextMs) {
      untold += 1;
      return;
    }
    log.warn({ ...fields, untold }, message);
    nextMs = nowMs + REFUSAL_LINE_MS;
    untold = 0;
  };
}

/** Once for each peer, profile and reason: how KV goes there. */
function codingLog(log: Logger, count: NonNullable<NodeObserver["coding"]>): NonNullable<NodeObserver["coding"]> {
  const told = new Set<string>();
  return (peer, choice) => {
    count(peer, choice);
    const { profile, reason } = choice;
    const key = `${peer} ${profile} ${reason}`;
    if (told.has(key)) return;
    // Names of peers that come and go are many.
    if (told.size >= limits.peersMax) told.clear();
    told.add(key);
    const why = CODEC_REASONS[reason];
    if (profile === "") log.info({ peer, reason, why }, "KV goes there as it is");
    else log.info({ peer, profile, reason, why }, "KV goes there by a profile");
  };
}

function refusalLog(log: Logger): NonNullable<NodeObserver["refused"]> {
  const tell = seldom(log);
  return (reason, remote, detail) => {
    const words = PEER_DENIALS.has(reason) ? "a peer asked for what it may not have" : "a stranger was turned away";
    tell({ reason, remote: formatAddress(remote), detail }, `REFUSED: ${words}`);
  };
}

/** What may be had another time is no abuse, and only counted; some of it is told as a refusal, by its cause, which the peer does not hear. */
function denialLog(log: Logger, count: NonNullable<NodeObserver["denied"]>): NonNullable<NodeObserver["denied"]> {
  const tell = seldom(log);
  return (what, remote, failure) => {
    count(what, remote, failure);
    const { code, detail } = failure;
    if (what === "hello" || TOLD_AS_REFUSALS.has(code) || ERRORS[code].retry !== "never") return;
    tell({ what, remote, code, detail }, "DENIED: a peer asked for what it does not get");
  };
}

/** A slower link than the host could have is said aloud: silent fallbacks have cost others a factor of 600. */
function tellLink(config: Config, { link }: OpenNode, metrics: Metrics, log: Logger): void {
  metrics.describe({ version: packageVersion(), link: link.kind, node: config.name });
  const remedy = missingCongestion(thisHost, config);
  if (remedy !== "") log.warn({ wanted: config.congestionControl, remedy }, "CONGESTION CONTROL NOT AVAILABLE: lanes keep the host's");
  if (link.kind !== "js" || config.link === "js") return;
  metrics.downgrades.inc({ from: "tcp", to: "js", reason: "no addon" });
  log.warn({ link: "js", reason: link.reason }, "LINK DOWNGRADE: bytes pass through JavaScript; kvferry doctor says what is missing");
}

/** tmpfs, hugetlbfs (linux/magic.h). */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x0102_1994, 0x9584_58f6]);

/** What a former owner of the pool's file left there. */
function tellPool({ adopted, region }: Pool, log: Logger): void {
  if (region.path !== "" && !MEMORY_FILE_SYSTEMS.has(statfsSync(region.path).type))
    log.warn({ path: region.path }, "THE POOL LIES ON A DISK: no memory file system had room; its pages are written out in the background");
  if (adopted.fresh) return;
  log.info({ path: region.path, ...adopted }, "pool adopted");
  if (adopted.damaged > 0) log.warn({ damaged: adopted.damaged }, "entries of the pool's table were damaged and have been dropped");
  if (adopted.lostHolders > 0) {
    log.warn(
      { lostHolders: adopted.lostHolders, path: region.path },
      "blocks of unknown writers stay out of use until this file is made anew",
    );
  }
}

function observeNode(opened: OpenNode, engines: () => number, metrics: Metrics): void {
  const { worlds } = opened;
  const tenantOf = ({ tenant }: World) => (tenant === undefined ? {} : { tenant: tenant.name });
  metrics.observe({
    pools: () => worlds.map((world) => ({ ...tenantOf(world), bytes: world.pool.bytes, ...world.node.pool.stats() })),
    lanes: () =>
      worlds.flatMap((world) =>
        world.node.peers.all().map((peer) => ({ ...tenantOf(world), peer: peer.name, lanes: peer.lanes.up, info: peer.lanes.read() })),
      ),
    codecs: () => worlds.flatMap((world) => codecFigures(world).map((one) => ({ ...tenantOf(world), ...one }))),
    paths: () =>
      worlds.flatMap((world) =>
        world.node.peers.all().map((peer) => ({ ...tenantOf(world), peer: peer.name, ...pathFigures(peer, world.node.runtime.nowUs()) })),
      ),
    apiClients: engines,
    transfersRunning: () => opened.transfers,
    refusals: () => refusalsOf(opened),
    certificateEndsSeconds: () => (opened.tls === undefined ? undefined : Date.parse(opened.tls.certificate.notAfter) / 1000),
  });
}
