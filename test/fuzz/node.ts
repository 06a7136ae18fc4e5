/**
 * A node whole in the hand, for the stateful targets: the product's own FerryNode and pool over a clock that is turned by the target, a link that
 * only remembers, and random numbers that count up, so that an input can know the handles and grants that will be given.
 */
import assert from "node:assert/strict";
import { FerryNode, type NodeOptions, type NodeSettings } from "../../transport/ferry/node.ts";
import { KvferryError } from "../../transport/errors.ts";
import { crc32c } from "../../transport/kv/crc32c.ts";
import { gather, planeFits, RunCursor, streamBytes } from "../../transport/kv/runs.ts";
import { limits } from "../../transport/limits.ts";
import type {
  ChunkSend,
  ConnectionId,
  Endpoint,
  LaneInfo,
  Link,
  LinkEvent,
  PlacementId,
  PlacementSpec,
} from "../../transport/link/link.ts";
import { type RefusalCounts, refusalCounts } from "../../transport/link/refusals.ts";
import type { ChecksumDone, Jobs } from "../../transport/memory/jobs.ts";
import { Pool } from "../../transport/memory/pool.ts";
import { type EntryRecord, PoolTable, tableShape } from "../../transport/memory/pool-table.ts";
import { attachRegion, type Region } from "../../transport/memory/region.ts";
import type { Runtime } from "../../transport/runtime/runtime.ts";
import type { Plane } from "../../transport/link/link.ts";
import { FakeProcesses, plainRegion } from "../memory/regions.ts";

/** A table and twelve blocks of 4 KiB: few enough to run out of. */
export const POOL_BYTES = 122_880;
/** What handles begin with. */
export const INCARNATION = "11111111";
/** The only path that a buffer can be had at. */
export const BUFFER_PATH = "/nowhere/buffer";
const BUFFER_BYTES_MAX = 65_536;

const SETTINGS: NodeSettings = {
  name: "fuzzed",
  advertise: "",
  allow: ["127.0.0.0/8"],
  secret: "",
  peers: [{ name: "b", address: { host: "127.0.0.1", port: 1 }, secret: "" }],
  lanes: { least: 2, most: 2 },
  congestion: { configured: "", allowed: [] },
  chunkBytes: 4_096,
  rateBytesPerSecond: 0,
  hasTls: false,
  checksum: true,
  stallMs: limits.stallMs,
  heartbeatMs: limits.heartbeatMs,
  deadlines: { localMs: 10_000, remoteMs: 10_000 },
  transfersMax: 16,
  windowBytes: 65_536,
};

export class HeldNode {
  readonly node: FerryNode;
  readonly pool: Pool;
  readonly link = new HeldLink();
  readonly processes = new FakeProcesses();
  readonly runtime = new HeldRuntime();
  readonly #table: PoolTable;

  /** @param region wiped: every input begins with a pool that is new. */
  constructor(region: Region, blockBytes: number, more: Pick<NodeOptions, "profiles"> = {}) {
    const { runtime, link, processes } = this;
    const shape = tableShape(region.bytes, blockBytes);
    region.view.fill(0, 0, shape.dataOffset);
    const random = (count: number): Uint8Array => new Uint8Array(count).fill(0x11);
    const evicted = (keys: Uint8Array): void => this.node.broadcast({ kind: "evicted", keys });
    this.pool = new Pool({ name: "fuzz", region, blockBytes, random, nowUs: () => runtime.nowUs(), processes }, { evicted });
    this.#table = new PoolTable(region.view, shape);
    const parts = { runtime, link, pool: this.pool, jobs: new HeldJobs(), bufferRegion };
    this.node = new FerryNode({ settings: SETTINGS, ...parts, observer: {}, ...more });
    runtime.turn = (nowUs) => this.node.turn(nowUs);
  }

  entry(block: number): EntryRecord {
    const entry: EntryRecord = { generation: 0, state: 0, holder: 0, group: 0, tokens: 0, checksum: 0, leases: 0 };
    assert.ok(this.#table.readEntry(block, entry), `the entry of block ${block} is whole`);
    return entry;
  }

  /** Runs what is due and what follows from it. */
  async settle(): Promise<void> {
    for (let idle = 0; idle < 3; idle++) {
      for (let step = 0; step < 8; step++) await undefined;
      if (this.link.pending > 0 || this.runtime.soon) idle = -1;
      this.runtime.run();
    }
  }

  /** Lets time pass, stopping wherever the node wants to be woken, though not for ever. */
  async advance(milliseconds: number): Promise<void> {
    const endUs = this.runtime.nowUs() + milliseconds * 1_000;
    for (let stop = 0; stop < 50 && this.runtime.wakeAtUs <= endUs; stop++) {
      this.runtime.set(Math.max(this.runtime.wakeAtUs, this.runtime.nowUs()));
      await this.settle();
    }
    this.runtime.set(endUs);
    await this.settle();
  }

  /** After every client and every peer has gone: nothing is in anybody's hand. */
  checkEmpty(): void {
    const { blockCount, free, published, held, leased, pinned, quarantined } = this.pool.stats();
    assert.deepEqual({ held, leased, pinned, quarantined, all: free + published }, { ...NOTHING, all: blockCount });
    assert.equal(this.node.transfers, 0, "no transfer is left");
    assert.equal(this.link.placements.size, 0, "no placement is left");
  }

  close(): void {
    this.node.close();
    this.pool.close();
  }
}

const NOTHING = { held: 0, leased: 0, pinned: 0, quarantined: 0 };

function bufferRegion(memory: Uint8Array | { readonly path: string; readonly bytes: number }): Region {
  if (memory instanceof Uint8Array) return plainRegion(memory.length);
  if (memory.path === BUFFER_PATH && memory.bytes > 0 && memory.bytes <= BUFFER_BYTES_MAX) return plainRegion(memory.bytes);
  return attachRegion(memory.path, memory.bytes);
}

class HeldRuntime implements Runtime {
  turn: (nowUs: number) => void = () => {};
  wakeAtUs = Number.POSITIVE_INFINITY;
  soon = false;
  #nowUs = 1_000_000;
  #drawn = 0;

  nowUs(): number {
    return this.#nowUs;
  }
  set(nowUs: number): void {
    this.#nowUs = Math.ceil(nowUs);
  }
  /** The n-th draw is the number n, in its second word from the left (which makes the n-th grant n) or, of 16 bytes, at the right. */
  random(count: number): Uint8Array {
    const bytes = new Uint8Array(count);
    this.#drawn += 1;
    new DataView(bytes.buffer).setUint32(count === 8 ? 4 : count - 4, this.#drawn, count === 8);
    return bytes;
  }
  wakeAt(atUs: number): void {
    this.wakeAtUs = atUs;
  }
  wakeSoon(): void {
    this.soon = true;
  }
  run(): void {
    this.soon = false;
    if (this.#nowUs >= this.wakeAtUs) this.wakeAtUs = Number.POSITIVE_INFINITY;
    this.turn(this.#nowUs);
  }
}

/** Checksums in a later callback of the same turn of the event loop. */
class HeldJobs implements Jobs {
  checksum(region: Region, planes: readonly Plane[], blocks: Uint32Array, done: ChecksumDone): boolean {
    for (const plane of planes)
      if (!planeFits(plane, blocks, region.bytes)) throw new KvferryError("invalid_argument", "planes leave the region");
    queueMicrotask(() =>
      done(
        undefined,
        Uint32Array.from(blocks, (block) => checksumOf(region, planes, Uint32Array.of(block))),
      ),
    );
    return true;
  }
  copy(): boolean {
    return assert.fail("nothing under fuzz copies");
  }
  async close(): Promise<void> {}
}

function checksumOf(region: Region, planes: readonly Plane[], blocks: Uint32Array): number {
  const pieces = planes.map((plane) => {
    const bytes = new Uint8Array(streamBytes(plane, 1));
    gather(bytes, 0, region.view, new RunCursor(plane, blocks, 0, bytes.length), bytes.length);
    return bytes;
  });
  return crc32c(Buffer.concat(pieces));
}

export interface Placed {
  readonly spec: PlacementSpec;
  /** Chunks that have landed. */
  readonly committed: Set<number>;
  revoked: boolean;
}

/** How many planes a chunk that begins in one is of. */
function partsOf({ planes, coding }: PlacementSpec, plane: number): number {
  if (coding?.codecs[plane] === undefined) return 1;
  const next = coding.codecs.findIndex((codec, at) => at > plane && codec !== undefined);
  return (next < 0 ? planes.length : next) - plane;
}

/** A link without a wire: whoever holds it says what comes, and sees what goes. It keeps the contract of transport/link/link.ts. */
export class HeldLink implements Link {
  readonly kind = "fake";
  readonly sent: { readonly connection: ConnectionId; readonly bytes: Uint8Array }[] = [];
  readonly live = new Set<ConnectionId>();
  readonly placements = new Map<PlacementId, Placed>();
  submitted: ChunkSend[] = [];
  /** What is said at once by whoever is dialled; undefined: nobody is there. */
  hello: Uint8Array | undefined;
  /** The last connection that was dialled so. */
  dialled: ConnectionId | undefined;
  /** Sees every placement before it is made. */
  onPlace: (spec: PlacementSpec) => void = () => {};
  #events: LinkEvent[] = [];
  #next = 1;

  get pending(): number {
    return this.#events.length;
  }

  tell(event: LinkEvent): void {
    this.#events.push(event);
  }

  async listen(endpoint: Endpoint): Promise<Endpoint> {
    return endpoint;
  }
  /** Nobody is there, unless there is a Hello to say. */
  dial(): ConnectionId {
    const connection = this.#next++;
    if (this.hello !== undefined) {
      this.live.add(connection);
      this.dialled = connection;
      this.tell({ kind: "connected", connection, remote: { host: "127.0.0.1", port: 1 } });
      this.tell({ kind: "message", connection, bytes: this.hello });
    } else this.tell({ kind: "disconnected", connection, code: 20, detail: "refused" });
    return connection;
  }
  accept(): ConnectionId {
    const connection = this.#next++;
    this.live.add(connection);
    this.tell({ kind: "accepted", connection, remote: { host: "127.0.0.1", port: 9 } });
    return connection;
  }
  admitLanes(_connection: ConnectionId, token: Uint8Array): void {
    assert.equal(token.length, 16);
  }
  openLane(): void {}
  setTls(): void {}
  refusals(): RefusalCounts {
    return refusalCounts(() => 0);
  }
  tuneLane(): void {}
  closeLane(): void {}
  restLane(): void {}
  padLane(): void {}
  setRank(): void {}
  send(connection: ConnectionId, bytes: Uint8Array): boolean {
    assert.ok(bytes.length > 0 && bytes.length <= limits.controlMessageBytes, "a message fits");
    if (!this.live.has(connection)) return false;
    this.sent.push({ connection, bytes });
    return true;
  }
  disconnect(connection: ConnectionId): void {
    this.end(connection, 5);
  }
  end(connection: ConnectionId, code: number): void {
    if (!this.live.delete(connection)) return;
    const gone = this.submitted.filter(({ placement }) => this.placements.get(placement)?.spec.connection === connection);
    this.#fail(gone, 23);
    this.tell({ kind: "disconnected", connection, code, detail: "" });
  }

  place(spec: PlacementSpec): PlacementId | "full" {
    if (!this.live.has(spec.connection)) throw new KvferryError("connection_lost");
    for (const plane of spec.planes) {
      const blocks = spec.blockLists[plane.blockList];
      assert.ok(blocks !== undefined && planeFits(plane, blocks, spec.region.bytes), "a plane lies inside its region");
    }
    for (const { plane, start, bytes } of spec.chunks) {
      const parts = partsOf(spec, plane);
      for (const placed of spec.planes.slice(plane, plane + parts)) {
        const length = streamBytes(placed, (spec.blockLists[placed.blockList] as Uint32Array).length);
        assert.ok(bytes > 0 && start >= 0 && start + bytes / parts <= length, "a chunk lies inside its planes");
      }
    }
    this.onPlace(spec);
    const placement = this.#next++;
    this.placements.set(placement, { spec, committed: new Set(spec.committed), revoked: false });
    return placement;
  }
  revoke(placement: PlacementId): void {
    const placed = this.placements.get(placement);
    if (placed === undefined || placed.revoked) return;
    placed.revoked = true;
    this.#fail(
      this.submitted.filter((chunk) => chunk.placement === placement),
      8,
    );
    this.placements.delete(placement);
    this.tell({ kind: "revoked", placement });
  }
  submit(batch: readonly ChunkSend[]): number {
    const taken = Math.min(batch.length, 64 - this.submitted.length);
    for (const { placement, chunk } of batch) {
      const spec = this.placements.get(placement)?.spec;
      assert.ok(spec?.direction === "out" && chunk < spec.chunks.length, "only chunks of a placement are sent");
    }
    this.submitted.push(...batch.slice(0, Math.max(taken, 0)));
    return Math.max(taken, 0);
  }
  /** The oldest submitted chunk is answered. */
  answer(code: number): void {
    const sent = this.submitted.shift();
    if (sent === undefined) return;
    const bytes = this.placements.get(sent.placement)?.spec.chunks[sent.chunk]?.bytes ?? 0;
    if (code === 0) this.tell({ kind: "acked", ...sent, lane: 0, bytes, durationUs: 100 });
    else this.tell({ kind: "failed", ...sent, lane: 0, code });
  }
  #fail(gone: readonly ChunkSend[], code: number): void {
    this.submitted = this.submitted.filter((chunk) => !gone.includes(chunk));
    for (const chunk of gone) this.tell({ kind: "failed", ...chunk, lane: 0, code });
  }
  poll(sink: (event: LinkEvent) => void, max: number): number {
    const events = this.#events.splice(0, max);
    for (const event of events) sink(event);
    return events.length;
  }
  laneInfo(): LaneInfo[] {
    return [];
  }
  async close(): Promise<void> {}
}
