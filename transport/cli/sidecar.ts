/** A node with its engine API, logs and metrics around it: everything that `serve` runs. */
import { lstatSync, mkdirSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import type { Logger } from "pino";
import { createApiServer, type ApiServer } from "../api/server.ts";
import type { Config } from "../config.ts";
import { formatAddress, isLoopback } from "../config/address.ts";
import { formatSize } from "../config/units.ts";
import { codeOfNumber, ERRORS, KvferryError } from "../errors.ts";
import { type LocalFerry, openFerry } from "../ferry/create.ts";
import type { NodeObserver } from "../ferry/node.ts";
import { Metrics } from "../metrics.ts";
import type { Peer } from "../peer/peer.ts";
import { congestionControl } from "./checks/network.ts";
import { thisHost } from "./checks/host.ts";
import { packageVersion } from "./package.ts";
import { privateFolder } from "./runtime-folder.ts";

const REFUSAL_LINE_MS = 1_000;

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
  const ferry = await openFerry(config, { observer: observed(metrics, log) });
  try {
    const api = await openApi(config, ferry, metrics, log);
    tellLink(config, ferry, metrics, log);
    tellPool(ferry, log);
    observePool(config, ferry, api, metrics);
    tellTls(ferry, log);
    return new RunningSidecar(config, ferry, api);
  } catch (error) {
    await ferry.close();
    throw error;
  }
}

class RunningSidecar implements Sidecar {
  readonly #config: Config;
  readonly #ferry: LocalFerry;
  readonly #api: ApiServer;

  constructor(config: Config, ferry: LocalFerry, api: ApiServer) {
    this.#config = config;
    this.#ferry = ferry;
    this.#api = api;
  }

  get transfers(): number {
    return this.#ferry.node.transfers;
  }

  get reload(): (() => void) | undefined {
    const { tls } = this.#ferry;
    return tls === undefined ? undefined : () => tls.reload();
  }

  describe(): string[] {
    const { name, pool, socket, api } = this.#config;
    const { address, link } = this.#ferry;
    const { advertise } = this.#ferry.node.settings;
    const { blockCount, region } = this.#ferry.node.pool;
    const blocks = `${blockCount} blocks of ${formatSize(pool.blockBytes)}${region.path === "" ? "" : `, ${region.path}`}`;
    return [
      `kvferry ${packageVersion()} "${name}": pool of ${formatSize(pool.bytes)} (${blocks}), link ${link.kind} (${link.reason})`,
      `peers:    ${peersLine(name, address === undefined ? "" : formatAddress(address), advertise)}`,
      ...(socket === ""
        ? []
        : [`engines:  ${socket}   in Node: await connect("${socket}")`, `status:   curl --unix-socket ${socket} http://localhost/status`]),
      ...(api === undefined ? [] : [`engines:  http://${formatAddress({ host: api.host, port: this.#api.port })} with the token`]),
    ];
  }

  async stop(drainMs: number): Promise<boolean> {
    this.#api.drain();
    const drained = await this.#ferry.drain(drainMs);
    await this.#api.close();
    await this.#ferry.close();
    return drained;
  }
}

function peersLine(name: string, listens: string, advertise: string): string {
  if (listens === "") return "none can connect (no --listen)";
  if (advertise === "") return `${listens}; --advertise HOST:PORT is what they would be told to dial`;
  return `${advertise}   there: kvferry serve --peers ${name}=${advertise}`;
}

async function openApi(config: Config, ferry: LocalFerry, metrics: Metrics, log: Logger): Promise<ApiServer> {
  if (config.socket !== "" && dirname(config.socket) === privateFolder()) makePrivateFolder(privateFolder());
  return createApiServer({
    host: ferry.host,
    ...(config.socket === "" ? {} : { socket: config.socket }),
    ...(config.api === undefined ? {} : { listen: config.api }),
    log,
    metrics: () => metrics.scrape(),
    status: () => statusOf(config, ferry),
    observer: {
      request: (verb, result, seconds) => {
        metrics.apiRequests.inc({ verb, result });
        metrics.apiSeconds.observe({ verb }, seconds);
      },
    },
  });
}

/** /tmp belongs to everybody: a folder that somebody else made there under our name is refused. */
function makePrivateFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
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
    peer: (name, up, detail) => {
      counters.peer(name, up);
      log.info({ peer: name, up, detail }, up ? "peer up" : "peer down");
    },
    refused: refusalLog(log),
    denied: denialLog(log, counters.denied),
    certificate: (outcome) => {
      counters.certificate(outcome);
      if (outcome instanceof KvferryError) log.error({ error: outcome.message }, "CERTIFICATE NOT CHANGED: the one before stays in use");
      else log.info(outcome, "another certificate is in use for connections to come");
    },
  };
}

/** One line a second at most, however many knock; /metrics counts them all. */
function seldom(log: Logger, message: string): (fields: object) => void {
  let nextMs = 0;
  let untold = 0;
  return (fields) => {
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

function refusalLog(log: Logger): NonNullable<NodeObserver["refused"]> {
  const tell = seldom(log, "REFUSED: a stranger was turned away");
  return (reason, remote, detail) => tell({ reason, remote: formatAddress(remote), detail });
}

/** What may be had another time is no abuse, and only counted. */
function denialLog(log: Logger, count: NonNullable<NodeObserver["denied"]>): NonNullable<NodeObserver["denied"]> {
  const tell = seldom(log, "DENIED: a peer asked for what it does not get");
  return (what, remote, failure) => {
    count(what, remote, failure);
    if (ERRORS[failure.code].retry === "never") tell({ what, remote, code: failure.code, detail: failure.detail });
  };
}

function tellTls(ferry: LocalFerry, log: Logger): void {
  if (ferry.tls !== undefined) log.info({ ...ferry.tls.certificate }, "peer traffic is TLS 1.3");
}

/** A slower link than the host could have is said aloud: silent fallbacks have cost others a factor of 600. */
function tellLink(config: Config, ferry: LocalFerry, metrics: Metrics, log: Logger): void {
  metrics.describe({ version: packageVersion(), link: ferry.link.kind, node: config.name });
  if (config.congestionControl !== "") {
    const { status, found, remedy } = congestionControl(thisHost, config, { rttMs: 0, rateBytesPerSecond: 0 });
    if (status !== "OK") log.warn({ found, remedy }, "CONGESTION CONTROL NOT AVAILABLE: lanes keep the host's");
  }
  if (ferry.link.kind !== "js" || config.link === "js") return;
  metrics.downgrades.inc({ from: "tcp", to: "js", reason: "no addon" });
  log.warn({ link: "js", reason: ferry.link.reason }, "LINK DOWNGRADE: bytes pass through JavaScript; kvferry doctor says what is missing");
}

/** tmpfs, hugetlbfs (linux/magic.h). */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x0102_1994, 0x9584_58f6]);

/** What a former owner of the pool's file left there. */
function tellPool(ferry: LocalFerry, log: Logger): void {
  const { adopted, region } = ferry.node.pool;
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

function observePool(config: Config, ferry: LocalFerry, api: ApiServer, metrics: Metrics): void {
  const { node } = ferry;
  metrics.observe({
    pool: () => ({ bytes: config.pool.bytes, ...node.pool.stats() }),
    lanes: () => node.peers.all().map((peer) => ({ peer: peer.name, lanes: peer.lanes.up, info: peer.lanes.read() })),
    apiClients: () => api.clients,
    transfersRunning: () => node.transfers,
    refusals: () => node.link.refusals(),
    certificateEndsSeconds: () => (ferry.tls === undefined ? undefined : Date.parse(ferry.tls.certificate.notAfter) / 1000),
  });
}

function statusOf(config: Config, ferry: LocalFerry): object {
  const { node, link, address } = ferry;
  return {
    name: config.name,
    version: packageVersion(),
    process_id: process.pid,
    uptime_seconds: process.uptime(),
    resident_bytes: process.memoryUsage.rss(),
    incarnation: node.pool.incarnation,
    listen: address === undefined ? "" : formatAddress(address),
    advertise: node.settings.advertise,
    link: link.kind,
    link_reason: link.reason,
    draining: node.draining,
    transfers_running: node.transfers,
    bytes_sent: node.bytesSent,
    bytes_received: node.bytesReceived,
    pool: { path: node.pool.region.path, bytes: config.pool.bytes, block_bytes: config.pool.blockBytes, ...snakeCased(node.pool.stats()) },
    tls: ferry.tls === undefined ? null : snakeCased(ferry.tls.certificate),
    refusals: node.link.refusals(),
    peers: node.peers.all().map((peer) => peerStatus(peer, node.runtime.nowUs())),
  };
}

function snakeCased(stats: object): object {
  return Object.fromEntries(
    Object.entries(stats).map(([name, value]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), value]),
  );
}

function peerStatus(peer: Peer, nowUs: number): object {
  const { name, advertised, up, lanes } = peer;
  const lane_info = lanes.read().map((info) => ({
    lane: info.lane,
    rtt_us: info.rttUs,
    min_rtt_us: info.minRttUs,
    delivery_bytes_per_second: info.deliveryRateBytesPerSecond,
    retransmits: info.retransmits,
    not_sent_bytes: info.notSentBytes,
    bytes_sent: info.bytesSent,
    bytes_received: info.bytesReceived,
    congestion_control: info.congestionControl,
    tls: info.tls === undefined ? null : { protocol: info.tls.protocol, cipher: info.tls.cipher, resumed: info.tls.resumed },
  }));
  // Every lane is of whom the connection is.
  const identity = lanes.read()[0]?.tls?.identity ?? null;
  return { name, address: advertised, identity, up, lanes: lanes.up, lane_info, path: pathStatus(peer, nowUs) };
}

/** What is known of the path to the peer, and what was decided about it. */
function pathStatus({ path, lanes: { active }, congestion }: Peer, nowUs: number): object {
  const { goodputBytesPerSecond, confidence, rttUs, minRttUs, queueUs, lossRatio, limit, reason } = path.estimate(nowUs);
  const { lanes, pace } = path.decision;
  return {
    goodput_bytes_per_second: Math.round(goodputBytesPerSecond),
    confidence,
    reason,
    limit,
    rtt_us: rttUs,
    min_rtt_us: minRttUs,
    queue_us: queueUs,
    loss_ratio: lossRatio,
    lanes: { wanted: lanes.lanes, active, reason: lanes.reason },
    pace: { bytes_per_second: pace.bytesPerSecond, reason: pace.reason },
    congestion_control: congestion,
  };
}
