/** What a document says in `start`: the machine, the flags, the lanes and what carries them. */
import { readFileSync } from "node:fs";
import { availableParallelism, networkInterfaces, release, type } from "node:os";
import type { LaneInfo } from "../transport/link/link.ts";
import type { BenchDocument } from "./document.ts";
import type { BenchOptions } from "./options.ts";

type Start = BenchDocument["start"];

export interface StartContext {
  readonly version: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** Variables that change what is measured; others may hold secrets. */
const RECORDED = /^(?:KVFERRY_(?!.*(?:SECRET|TOKEN)).*|NODE_OPTIONS|UV_THREADPOOL_SIZE|OMP_NUM_THREADS|CUDA_VISIBLE_DEVICES)$/;

/** Before anything is connected. */
export function startOf(options: BenchOptions, context: StartContext): Start {
  const now = Date.now();
  const recorded = Object.entries(context.environment).flatMap(([name, value]) =>
    RECORDED.test(name) && value !== undefined ? [[name, value]] : [],
  );
  return {
    version: context.version,
    system_info: `${type()} ${release()} ${process.arch}, ${availableParallelism()} CPUs, Node ${process.version}`,
    remote_system_info: "",
    timestamp: { time: new Date(now).toUTCString(), timesecs: Math.floor(now / 1000), timemillisecs: now },
    args: [...context.args],
    env: Object.fromEntries(recorded) as Record<string, string>,
    connecting_to: { host: options.host, port: options.port },
    connected: [],
    tls: null,
    sock_bufsize: options.windowBytes,
    devices: [],
    test_start: testStartOf(options),
  };
}

/** What the lanes tell once they are up. */
export function connectedOf(lanes: readonly LaneInfo[]): Pick<Start, "connected" | "devices" | "tls" | "sndbuf_actual" | "rcvbuf_actual"> {
  const connected = lanes.flatMap(({ lane, local, remote }) =>
    local === undefined || remote === undefined
      ? []
      : [{ socket: lane, local_host: local.host, local_port: local.port, remote_host: remote.host, remote_port: remote.port }],
  );
  const socket = lanes[0]?.socket;
  const interfaces = new Set(connected.flatMap(({ local_host: host }) => interfaceOf(host) ?? []));
  const tls = lanes[0]?.tls;
  const resumed = lanes.filter((lane) => lane.tls?.resumed === true).length;
  return {
    connected,
    tls: tls === undefined ? null : { protocol: tls.protocol, cipher: tls.cipher, resumed },
    devices: [...interfaces].map((nic) => ({ nic, numa: numaNodeOf(nic), gid_index: null, gpu: null, gpudirect: "none" as const })),
    ...(socket === undefined ? {} : { sndbuf_actual: socket.sendBufferBytes, rcvbuf_actual: socket.receiveBufferBytes }),
  };
}

function testStartOf(options: BenchOptions): Start["test_start"] {
  return {
    transport: options.link,
    op: options.reverse ? "read" : options.op,
    src_mem: "dram",
    dst_mem: "dram",
    num_streams: options.lanes,
    chunk_bytes: options.chunkBytes,
    pool_bytes: options.poolBytes,
    depth: options.depth,
    duration_s: options.seconds ?? null,
    bytes: options.bytes ?? null,
    iterations: options.iterations ?? null,
    omit_s: options.omitSeconds,
    warmup: options.warmup,
    reverse: options.reverse,
    bidir: options.bidirectional,
    compression: "none",
    checksum: options.checksum,
    verify: options.verify,
    data: options.data.kind === "random" ? "random" : `kv:${options.data.files.join()}`,
    rate_bytes_per_second: options.rateBytesPerSecond,
    congestion_control: options.congestionControl,
    window_bytes: options.windowBytes,
    dscp: options.dscp,
  };
}

function interfaceOf(host: string): string | undefined {
  const all = Object.entries(networkInterfaces());
  const found = all.find(([, addresses]) => addresses?.some(({ address }) => address === host))?.[0];
  // All of 127/8 is loopback's, whatever address it shows.
  return found ?? (host.startsWith("127.") ? all.find(([, addresses]) => addresses?.some(({ internal }) => internal))?.[0] : undefined);
}

function numaNodeOf(nic: string): number | null {
  try {
    const node = Number(readFileSync(`/sys/class/net/${nic}/device/numa_node`, "utf8"));
    return Number.isInteger(node) && node >= 0 ? node : null;
  } catch {
    return null;
  }
}
