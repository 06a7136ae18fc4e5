/**
 * A hostile client on a lane of a live link: chunks, answers and garbage. An input is one byte that says in what pieces to write, then the lane's
 * bytes. After each: the answers, the end of the lane and every byte of memory are what wire.md makes of the stream (oracle.ts).
 */
import assert from "node:assert/strict";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import { encodePreamble } from "../../../transport/link/frame.ts";
import type { ChunkSpan, ConnectionId, Endpoint, LinkEvent, PlacementCoding, PlacementId, Plane } from "../../../transport/link/link.ts";
import { readGolden } from "../../golden/golden.ts";
import { Memory, type Side } from "../../link/conformance/memory.ts";
import { chunkFrame, headerOf, trailerOf } from "../../link/raw.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { checkAnswers, Client, type Kind, KINDS, pieceBytes, Polled } from "./live.ts";
import { judge, type OracleGrant } from "./oracle.ts";

const TOKEN = new Uint8Array(16).fill(0x5c);
const LANES = 64;
const CHUNK_BYTES = [1, 16, 48, 100, 1_000, 4_096, 20_000, 70_000];
/** Planes that a codec joins. */
export const PARTS = 2;
/** So often everything is taken back and placed anew. */
const ROUND = 64;

const flat = { tokens: 1, tokenStride: 0, heads: 1, headStride: 0, channels: 1, channelStride: 0, firstToken: 0 };
const STREAM_BYTES = CHUNK_BYTES.reduce((sum, bytes) => sum + bytes, 0);
/** Blocks of 1,000 bytes with gaps; tokens that lie across their channels. */
const PLANES: readonly Plane[] = [
  { ...flat, blockList: 0, offset: 40, blockStride: 1_100, elementBytes: 1_000 },
  { ...flat, blockList: 0, offset: 40, blockStride: 1_100, tokens: 10, tokenStride: 2, channels: 50, channelStride: 20, elementBytes: 2 },
];
const BLOCKS = Uint32Array.from({ length: Math.ceil(STREAM_BYTES / 1_000) }, (_, at) => at ^ 1);
const REGION_BYTES = 40 + 1_100 * (BLOCKS.length + 2);

const CHUNKS: readonly ChunkSpan[] = CHUNK_BYTES.map((bytes, chunk) => ({
  plane: 0,
  start: CHUNK_BYTES.slice(0, chunk).reduce((sum, before) => sum + before, 0),
  bytes,
}));

/** 1 standing, 2 once and unchecked; 4 has another generation, 5 was revoked, 6 is another connection's. */
const GRANTS = [1, 2, 3, 4, 5, 6] as const;

/** What grants are of. */
export interface Ground {
  readonly regionBytes: number;
  readonly blocks: Uint32Array;
  planes(grant: number): readonly Plane[];
  chunks(grant: number): readonly ChunkSpan[];
  readonly coding?: PlacementCoding;
  readonly decoders?: NonNullable<OracleGrant["decoders"]>;
}

/** Grant 3 is transposed. */
const PLAIN: Ground = {
  regionBytes: REGION_BYTES,
  blocks: BLOCKS,
  planes: (grant) => [PLANES[grant === 3 ? 1 : 0] as Plane],
  chunks: (grant) => (grant === 3 ? CHUNKS.filter(({ bytes }) => bytes <= 4_096) : CHUNKS),
};

interface Placed {
  readonly placement: PlacementId;
  readonly memory: Memory;
  readonly side: Side;
  readonly oracle: OracleGrant;
}

export class LaneSession implements Session {
  readonly #polled: Polled;
  readonly #ground: Ground;
  #endpoint: Endpoint = { host: "", port: 0 };
  readonly #accepted: ConnectionId[] = [];
  readonly #revoked = new Set<PlacementId>();
  readonly #placed = new Map<number, Placed>();
  readonly #controls: Client[] = [];
  #committed = 0;
  #committedExpected = 0;
  #lanesDown = 0;
  #lanesMade = 0;
  #lane: Client | undefined;
  #inputs = 0;
  readonly #unexpected: LinkEvent[] = [];

  constructor(kind: Kind, ground: Ground = PLAIN) {
    this.#ground = ground;
    this.#polled = new Polled(kind, (event) => this.#handle(event));
  }

  async open(): Promise<this> {
    this.#endpoint = await this.#polled.link.listen({ host: "127.0.0.1", port: 0 });
    for (let at = 0; at < 2; at++) {
      const control = await Client.dial(this.#endpoint);
      control.say(encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) }));
      this.#controls.push(control);
      await this.#polled.until(() => this.#accepted.length > at);
    }
    this.#polled.link.admitLanes(this.#accepted[0] as number, TOKEN);
    return this;
  }

  async run(input: Uint8Array): Promise<void> {
    if (this.#inputs++ % ROUND === 0) await this.#renew();
    this.#lane ??= await this.#dial();
    const lane = this.#lane;
    const stream = input.subarray(1);
    const dirty = new Map<string, readonly [number, number]>();
    const verdict = judge(stream, new Map([...this.#placed].map(([grant, { oracle }]) => [grant, oracle])), {
      handleCommit: (grant, chunk, payload) => {
        const { memory, side } = this.#placed.get(grant) as Placed;
        const spans = this.#spansOf(grant, chunk);
        const each = payload.length / spans.length;
        spans.forEach((span, part) => memory.expectPayload(span, side, payload.subarray(part * each, (part + 1) * each)));
        dirty.delete(`${grant}.${chunk}`);
        this.#committedExpected += 1;
      },
      handleDirty: (grant, chunk) => dirty.set(`${grant}.${chunk}`, [grant, chunk]),
      handleAnswer: () => false,
    });
    lane.say(stream, pieceBytes(input));
    const expected = [...verdict.answers];
    if (verdict.end === "whole") {
      lane.say(headerOf({ type: "ping", sequence: 0xfeed }));
      expected.push(headerOf({ type: "pong", sequence: 0xfeed }));
    }
    if (verdict.end === "closed") checkAnswers(await lane.rest(), expected, false);
    else {
      checkAnswers(await lane.take(48 * expected.length), expected, true);
      assert.equal(lane.isClosed, false, "the lane is open");
    }
    if (verdict.end !== "whole") await this.#drop();
    for (const [grant, chunk] of dirty.values()) {
      const { memory, side } = this.#placed.get(grant) as Placed;
      for (const span of this.#spansOf(grant, chunk)) memory.acceptChunk(span, side);
    }
    for (const [grant, { memory }] of this.#placed) memory.check(`grant ${grant}`);
    assert.deepEqual(this.#unexpected, []);
  }

  async close(): Promise<void> {
    await this.#takeBack();
    this.#lane?.reset();
    for (const control of this.#controls) {
      assert.equal(control.isClosed, false, "control connections outlive what happens on lanes");
      control.reset();
    }
    await this.#polled.link.close();
  }

  #handle(event: LinkEvent): void {
    if (event.kind === "accepted") this.#accepted.push(event.connection);
    else if (event.kind === "laneDown") this.#lanesDown += 1;
    else if (event.kind === "committed") this.#committed += 1;
    else if (event.kind === "revoked") this.#revoked.add(event.placement);
    else if (event.kind !== "laneUp" && event.kind !== "rejected") this.#unexpected.push(event);
  }

  async #dial(): Promise<Client> {
    // An index is free again when its last lane is known to be down.
    await this.#polled.until(() => this.#lanesDown === this.#lanesMade);
    const client = await Client.dial(this.#endpoint);
    client.say(encodePreamble({ version: 1, kind: "lane", lane: this.#lanesMade++ % LANES, token: TOKEN }));
    checkAnswers(await client.take(48), [headerOf({ type: "pong" })], true);
    return client;
  }

  async #drop(): Promise<void> {
    this.#lane?.reset();
    this.#lane = undefined;
    await this.#polled.until(() => this.#lanesDown === this.#lanesMade);
  }

  async #renew(): Promise<void> {
    await this.#takeBack();
    const [connection, other] = this.#accepted as [ConnectionId, ConnectionId];
    for (const grant of GRANTS) this.#place(grant, grant === 6 ? other : connection, grant === 4 ? 2 : 1);
    await this.#revoke(5);
  }

  #place(grant: number, connection: ConnectionId, generation: number): void {
    const { regionBytes, blocks, coding, decoders } = this.#ground;
    const memory = new Memory(regionBytes, grant);
    const side = { planes: this.#ground.planes(grant), blockLists: [blocks] };
    const [standing, checksum, chunks] = [grant === 1, grant !== 2, this.#ground.chunks(grant)];
    const common = { direction: "in", region: memory.region, ...side, ...(coding === undefined ? {} : { coding }) } as const;
    const placement = this.#polled.link.place({ ...common, connection, grant, generation, chunks, standing, checksum });
    assert.ok(placement !== "full");
    const isReachable = grant !== 5 && grant !== 6;
    const chunkBytes = chunks.map(({ bytes }) => bytes);
    const oracle = { generation: isReachable ? generation : -1, standing, checksum, chunkBytes, committed: new Map<number, number>() };
    this.#placed.set(grant, { placement, memory, side, oracle: decoders === undefined ? oracle : { ...oracle, decoders } });
  }

  /** Of each plane that a chunk is of. */
  #spansOf(grant: number, chunk: number): ChunkSpan[] {
    const { plane, start, bytes } = this.#ground.chunks(grant)[chunk] as ChunkSpan;
    const parts = this.#ground.coding?.codecs[plane] === undefined ? 1 : PARTS;
    return Array.from({ length: parts }, (_, part) => ({ plane: plane + part, start, bytes: bytes / parts }));
  }

  async #revoke(grant: number): Promise<void> {
    const { placement } = this.#placed.get(grant) as Placed;
    this.#polled.link.revoke(placement);
    await this.#polled.until(() => this.#revoked.delete(placement));
  }

  /** With the lane alive, in whatever state the last input left it. */
  async #takeBack(): Promise<void> {
    for (const [grant, { memory }] of this.#placed) {
      if (grant !== 5) await this.#revoke(grant);
      memory.check(`grant ${grant}, revoked`);
    }
    assert.equal(this.#committed, this.#committedExpected, "events of commits");
    this.#placed.clear();
  }
}

/** One frame, right or wrong in one of the ways that a peer can be. */
function frame(random: Random): Uint8Array {
  const grant = random.pick([1, 1, 1, 2, 3, 3, 4, 5, 6, 77]);
  const chunk = random.chance(1, 20) ? random.pick([8, 9, 2 ** 32 - 1]) : Math.min(random.below(8), random.below(10));
  const bytes = random.chance(1, 20) ? random.between(1, 100) : (CHUNK_BYTES[chunk] ?? 16);
  const fields = {
    grant,
    generation: random.chance(1, 12) ? random.below(4) : 1,
    chunk,
    sequence: random.chance(1, 30) ? random.pick([0, 2 ** 32 - 1]) : random.between(1, 300),
  };
  const payload = new Uint8Array(bytes).fill(random.below(256));
  const choice = random.below(20);
  if (choice === 0) return headerOf({ type: "ping", ...fields });
  if (choice === 1) return headerOf({ type: random.pick(["pong", "ack", "nack"]), ...fields, status: 0 });
  if (choice === 2) {
    const header = headerOf({ type: "chunk", checksum: true, ...fields, bytes });
    return Buffer.concat([header, payload, trailerOf(crc32c(payload), random.below(3))]);
  }
  const whole = chunkFrame({ ...fields, checksum: random.chance(14, 15) }, payload);
  if (choice <= 4) {
    // A header whose checksum is right over what was changed in it.
    whole.set(mutate(whole.subarray(4, 44), random, 1).subarray(0, 40), 4);
    new DataView(whole.buffer, whole.byteOffset).setUint32(44, crc32c(whole.subarray(0, 44)), true);
    return whole;
  }
  if (choice === 5) return whole.subarray(0, random.below(whole.length));
  if (choice === 6) return mutate(whole, random, 1);
  return whole;
}

function generate(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  return generateStream(random, pool, frame);
}

/** Some frames behind a byte, now and then changed as they stand. */
export function generateStream(random: Random, pool: readonly Uint8Array[], one: (random: Random) => Uint8Array): Uint8Array {
  if (random.chance(1, 8)) return mutate(random.pick(pool), random);
  const frames: Uint8Array[] = [];
  for (let left = random.between(1, 5); left > 0; left--) frames.push(one(random));
  const stream = Buffer.concat([Uint8Array.of(random.below(256)), ...frames]);
  return random.chance(1, 6) ? mutate(stream, random, 2) : stream;
}

function seeds(): Uint8Array[] {
  const frames = CHUNK_BYTES.slice(0, 6).map((bytes, chunk) =>
    chunkFrame({ grant: 1, generation: 1, chunk }, new Uint8Array(bytes).fill(chunk)),
  );
  const goldens = [...readGolden("header"), ...readGolden("frame")].map(({ bytes }) => bytes);
  return [...frames, ...goldens, Buffer.concat(frames)].map((bytes, at) => Uint8Array.of(at % 4 === 0 ? 2 : 255, ...bytes));
}

export const laneTargets: readonly Target[] = KINDS.map((kind) => ({
  name: `${kind.name}-lane`,
  corpus: "lane",
  about: "a hostile client on a lane of a live link: answers, ends and memory are wire.md's",
  skip: kind.skip,
  native: kind.native,
  seeds,
  generate,
  open: () => new LaneSession(kind).open(),
}));
