/** Nodes for tests: real link, real clock, small private or shared pools, in this process. */
import type { NodeObserver, NodeSettings } from "../../transport/ferry/node.ts";
import { FerryNode, type NodeOptions } from "../../transport/ferry/node.ts";
import type { FerrySession } from "../../transport/ferry/host.ts";
import type { FerryEvent } from "../../transport/ferry/ferry.ts";
import { limits } from "../../transport/limits.ts";
import type { Endpoint, Link } from "../../transport/link/link.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { createJobs } from "../../transport/memory/jobs.ts";
import { Pool } from "../../transport/memory/pool.ts";
import { attachBufferRegion, privateRegion } from "../../transport/memory/region.ts";
import { Loop } from "../../transport/runtime/runtime.ts";

export interface TestNode {
  readonly node: FerryNode;
  readonly ferry: FerrySession;
  readonly link: Link;
  readonly pool: Pool;
  readonly address: Endpoint;
  readonly events: FerryEvent[];
  close(): Promise<void>;
}

export interface TestNodeOptions {
  readonly name: string;
  readonly poolBytes?: number;
  readonly blockBytes?: number;
  readonly settings?: Partial<NodeSettings>;
  readonly observer?: NodeObserver;
  readonly makeLink?: (onWake: () => void) => Link;
  readonly port?: number;
  readonly host?: string;
  /** Of what only some nodes have. */
  readonly more?: (address: Endpoint) => Pick<NodeOptions, "tenant" | "reach" | "profiles">;
}

export async function openTestNode(options: TestNodeOptions): Promise<TestNode> {
  const loop = new Loop();
  const makeLink = options.makeLink ?? ((onWake: () => void) => createTcpLink({ onWake }));
  const link = makeLink(() => loop.run());
  const region = privateRegion(options.poolBytes ?? 8 << 20);
  const events: FerryEvent[] = [];
  const pool = new Pool(
    {
      name: options.name,
      region,
      blockBytes: options.blockBytes ?? 32_768,
      random: (count) => loop.random(count),
      nowUs: () => loop.nowUs(),
    },
    { evicted: (key) => node.broadcast({ kind: "evicted", keys: key }) },
  );
  const address = await link.listen({ host: options.host ?? "127.0.0.1", port: options.port ?? 0 });
  const jobs = createJobs();
  const settings: NodeSettings = {
    name: options.name,
    advertise: "",
    allow: ["127.0.0.0/8"],
    secret: "",
    peers: [],
    lanes: { least: 4, most: 4 },
    congestion: { configured: "", allowed: [] },
    chunkBytes: 65_536,
    rateBytesPerSecond: 0,
    hasTls: false,
    checksum: true,
    stallMs: limits.stallMs,
    heartbeatMs: limits.heartbeatMs,
    deadlines: { localMs: 10_000, remoteMs: 10_000 },
    transfersMax: 64,
    windowBytes: limits.windowBytesDefault,
    ...options.settings,
  };
  const bufferRegion = (memory: Uint8Array | { readonly path: string; readonly bytes: number }) =>
    memory instanceof Uint8Array ? privateRegion(memory) : attachBufferRegion(memory.path, memory.bytes);
  const { observer = {}, more = () => ({}) } = options;
  const node: FerryNode = new FerryNode({ settings, runtime: loop, link, pool, jobs, bufferRegion, observer, ...more(address) });
  loop.start((nowUs) => node.turn(nowUs));
  loop.run();
  const ferry = node.openSession({ client: "test", processId: 0 });
  ferry.on((event) => events.push(event));
  const close = async (): Promise<void> => {
    node.close();
    loop.stop();
    await link.close();
    await jobs.close();
    pool.close();
    region.close();
  };
  return { node, ferry, link, pool, address, events, close };
}
