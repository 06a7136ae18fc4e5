/** What /status answers: a node, or, where there are tenants, one of them to its own engines and all of them to the operator. */
import type { Config } from "../config.ts";
import { formatAddress } from "../config/address.ts";
import type { DenialCounts } from "../ferry/denials.ts";
import type { OpenNode, World } from "../ferry/open.ts";
import { limits } from "../limits.ts";
import type { PathFigures } from "../metrics.ts";
import type { Peer } from "../peer/peer.ts";
import type { ChunkSize } from "../policy/chunk-size.ts";
import type { CodecCounts } from "../policy/codec-speed.ts";
import type { Path } from "../policy/path.ts";
import { packageVersion } from "./package.ts";

/** `of`: one tenant's alone, of the others and of the node not a word. */
export function statusOf(config: Config, opened: OpenNode, of?: World): object {
  const { link, address, worlds } = opened;
  const [first] = worlds;
  const shown = of ?? (first.tenant === undefined ? first : undefined);
  return {
    name: config.name,
    version: packageVersion(),
    process_id: process.pid,
    uptime_seconds: process.uptime(),
    resident_bytes: process.memoryUsage.rss(),
    listen: address === undefined ? "" : formatAddress(address),
    advertise: first.node.settings.advertise,
    advertise_problem: first.node.reach?.problem ?? null,
    link: link.kind,
    link_reason: link.reason,
    draining: first.node.draining,
    tls: opened.tls === undefined ? null : snakeCased(opened.tls.certificate),
    refusals: of === undefined ? refusalsOf(opened) : of.node.denials.counts,
    ...(shown === undefined ? { tenants: worlds.map((world) => worldStatus(world)) } : worldStatus(shown)),
  };
}

/** Strangers that the link turned away, and what nodes refused, by cause. */
export function refusalsOf({ worlds }: OpenNode): Readonly<Record<string, number>> {
  const [first] = worlds;
  const denials = Object.keys(first.node.denials.counts) as (keyof DenialCounts)[];
  const sums = denials.map((cause) => [cause, worlds.reduce((sum, { node }) => sum + node.denials.counts[cause], 0)]);
  return { ...first.node.link.refusals(), ...Object.fromEntries(sums) };
}

function worldStatus({ node, pool, tenant }: World): object {
  return {
    ...(tenant === undefined ? {} : { tenant: tenant.name, socket: tenant.socket, rate_bytes_per_second: node.tenantShare.tenantCap }),
    incarnation: node.pool.incarnation,
    transfers_running: node.transfers,
    bytes_sent: node.bytesSent,
    bytes_received: node.bytesReceived,
    pool: { path: node.pool.region.path, bytes: pool.bytes, block_bytes: pool.blockBytes, ...snakeCased(node.pool.stats()) },
    codec: node.profiles.isNone ? null : codecStatus(node),
    peers: node.peers.all().map((peer) => ({ ...peerStatus(peer, node.runtime.nowUs()), sent_coded: node.choices.get(peer) ?? null })),
  };
}

/** What this node can code, and what that has spared so far. */
function codecStatus(node: World["node"]): object {
  const models = node.models.all().map(({ fingerprint, codecs }) => ({
    fingerprint,
    profiles: codecs.profiles.map(({ name, id, isLossless }) => ({
      ...{ name, id, lossless: isLossless },
      ...snakeCased(codecs.speedOf(id)),
      ...snakeCased(codecs.countsOf(id)),
    })),
    awaited: codecs.awaited,
    misfits: codecs.misfits,
  }));
  const { use, acceptsLossy } = node.profiles;
  return { use, accept_lossy: acceptsLossy, missing: node.profiles.missing ?? null, models };
}

/** For metrics: by profile, of all models together, and of those that were. */
export function codecFigures({ node }: World): readonly ({ readonly profile: string } & CodecCounts)[] {
  return [...node.models.codecCounts()].map(([profile, counts]) => ({ profile, ...counts }));
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
  const identity = peer.caller.identity || null;
  return { name, address: advertised, identity, up, lanes: lanes.up, lane_info, path: pathStatus(peer, nowUs) };
}

/** For metrics. */
export function pathFigures({ path, lanes: { active } }: Peer, nowUs: number): PathFigures {
  const { lanes, pace } = path.decision;
  return {
    ...path.estimate(nowUs),
    lanesWanted: lanes.lanes,
    lanesActive: active,
    chunkBytes: nextChunk(path, nowUs).bytes,
    windowBytes: path.newWindow().window().bytes,
    paceBytesPerSecond: pace.bytesPerSecond,
  };
}

/** Of a normal transfer that would begin now, and is large. */
function nextChunk(path: Path, nowUs: number): ChunkSize {
  return path.chunkSize(nowUs, "out", "normal", 0, limits.chunkBytesMax);
}

/** What is known of the path to the peer, and what was decided about it. */
function pathStatus({ path, lanes: { active }, congestion }: Peer, nowUs: number): object {
  const { goodputBytesPerSecond, confidence, rttUs, minRttUs, queueUs, lossRatio, limit, reason } = path.estimate(nowUs);
  const { lanes, pace } = path.decision;
  const window = path.newWindow().window();
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
    window: { bytes: window.bytes, reason: window.reason },
    chunk: nextChunk(path, nowUs),
    congestion_control: congestion,
  };
}
