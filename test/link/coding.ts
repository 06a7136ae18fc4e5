/** Chunks that are coded over two links: layouts, plans, and what lies where. */
import type { TestContext } from "node:test";
import type { PlacementSpec } from "../../transport/link/link.ts";
import { denseLayout } from "../../transport/kv/build.ts";
import { planTransfer, type TransferPlan } from "../../transport/kv/plan.ts";
import { createFakeLink } from "../../transport/link/fake.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { privateRegion, type Region } from "../../transport/memory/region.ts";
import type { NativeCodec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { addressOf, copyChunk } from "../kv/copier.ts";
import { LANE, openListener, type Pair, type Suite, TOKEN } from "./conformance/pair.ts";
import { dialRawControl, dialRawLane, type RawPeer } from "./raw.ts";

export const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const LAYERS = 4;
export const JOINED = 2;
export const HEADS = 3;
export const CHANNELS = 16;
export const TOKENS = 150;
export const FIRST = 32;
const model = { layers: LAYERS, kvHeads: HEADS, headDim: CHANNELS, element: "bf16", blockCount: 12, form: "layer-major" } as const;
const [there, here] = [
  denseLayout({ ...model, blockTokens: 16, order: "NHD", kv: "split" }),
  denseLayout({ ...model, blockTokens: 32, order: "HND", kv: "joined" }),
];
const MANIFEST = { fingerprint: "", groups: [{ group: 0, tokens: TOKENS }], firstHead: 0, heads: HEADS };
const CHUNK_BYTES = 20_000;
/** Layers that chunks join; `joinsSides`: K and V, too. */
export const planOf = (joinsSides: boolean): TransferPlan =>
  planTransfer(there, here, MANIFEST, CHUNK_BYTES, { layers: JOINED, joinsSides });

export const SUITES: readonly (Suite & { readonly name: string })[] = [
  {
    name: "tcp",
    make: async (options) => createTcpLink(options),
    makeListener: async (options) => createTcpLink(options),
    hasWire: true,
    listenAt: () => ({ host: "127.0.0.1", port: 0 }),
  },
  {
    name: "fake",
    make: async (options) => createFakeLink(options),
    makeListener: async (options) => createFakeLink(options),
    hasWire: false,
    listenAt: () => ({ host: "fake", port: 0 }),
  },
];

/** bf16 values of a few exponents; every eighth region of 4 KiB is noise, if asked for. */
function fill(region: Region, noisy: boolean): void {
  const values = new Uint16Array(region.view.buffer, region.view.byteOffset, region.view.length >> 1);
  let state = 1;
  for (let at = 0; at < values.length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    const isNoise = noisy && (at >> 11) % 8 === 0;
    // Exponents 124 to 127: 0.125 to 2, of either sign. Noise has no value that is not finite.
    values[at] = isNoise
      ? (state >>> 16) & 0xbfff
      : (((state >>> 31) << 15) | ((124 + ((state >>> 29) & 3)) << 7) | ((state >>> 20) & 0x7f)) & 0xffff;
  }
}

export interface Ends {
  readonly plan: TransferPlan;
  readonly source: Region;
  readonly target: Region;
  readonly out: PlacementSpec;
  readonly into: PlacementSpec;
}

export function endsOf(
  { atA, atB }: Pair,
  plan: TransferPlan,
  codec: NativeCodec,
  noisy: boolean,
  positions: readonly [number, number] = [FIRST, FIRST],
): Ends {
  const bytes = 2 << 20;
  const [source, target] = [privateRegion(bytes), privateRegion(bytes)];
  fill(source, noisy);
  const { chunks, senderPlanes, receiverPlanes } = plan;
  const [from, to] = [Uint32Array.from(plan.senderBlocks[0] === 10 ? [3, 1, 4, 0, 5, 9, 2, 6, 8, 7] : []), Uint32Array.of(4, 2, 0, 3, 1)];
  const common = { grant: 77, generation: 1, chunks, checksum: true };
  const codecs = codecsOf(plan, codec);
  return {
    plan,
    source,
    target,
    out: {
      ...common,
      direction: "out",
      connection: atA,
      region: source,
      planes: senderPlanes,
      blockLists: [from],
      coding: { codecs, position: positions[0] },
    },
    into: {
      ...common,
      direction: "in",
      connection: atB,
      region: target,
      planes: receiverPlanes,
      blockLists: [to],
      coding: { codecs, position: positions[1] },
    },
  };
}

/** What lies at the receiver if every chunk came as it was. */
export function expectedOf({ plan, source, target, out, into }: Ends): Uint8Array {
  const memory = target.view.slice();
  const to = { memory, planes: into.planes, blockLists: into.blockLists };
  const from = { memory: source.view, planes: out.planes, blockLists: out.blockLists };
  for (const { plane, start, bytes } of out.chunks) {
    const parts = partsOf(plan, plane);
    for (let part = 0; part < parts; part++) copyChunk(from, to, { plane: plane + part, start, bytes: bytes / parts });
  }
  return memory;
}

/** Whether each token of each plane is the same in both memories. */
export function sameTokens({ into }: Ends, one: Uint8Array, other: Uint8Array): boolean[][] {
  const tokenBytes = 2 * HEADS * CHANNELS;
  return into.planes.map((plane) =>
    Array.from({ length: TOKENS }, (_, token) =>
      Array.from({ length: tokenBytes }, (_, byte) => addressOf(plane, into.blockLists[0]!, token * tokenBytes + byte)).every(
        (at) => one[at] === other[at],
      ),
    ),
  );
}

/** Planes that chunks of this one join. */
export function partsOf({ coded }: TransferPlan, plane: number): number {
  return JOINED * (coded[plane]?.component === "kv" ? 2 : 1);
}

function codecsOf({ coded }: TransferPlan, codec: NativeCodec): (NativeCodec | undefined)[] {
  return coded.map((about) => (about === undefined ? undefined : codec));
}

export async function move(pair: Pair, ends: Ends): Promise<readonly { readonly chunk: number; readonly bytes: number }[]> {
  const { chunks } = ends.plan;
  const expected = chunks.length;
  const [out, into] = [pair.a.place(ends.out), pair.b.place(ends.into)];
  pair.a.submit(out, [...chunks.keys()], 1);
  await pair.a.eventCount(expected, "acked", { placement: out });
  await pair.b.eventCount(expected, "committed", { placement: into });
  const committed = pair.b.all("committed", { placement: into });
  await pair.a.revoke(out);
  await pair.b.revoke(into);
  return committed;
}

/** A link that has granted memory, and a peer made of a bare socket. */
export interface RawStage {
  readonly b: Awaited<ReturnType<typeof openListener>>["b"];
  readonly lane: RawPeer;
  readonly target: Region;
}

/** @param codec undefined: nothing is coded */
export async function rawStage(t: TestContext, plan: TransferPlan, codec: NativeCodec | undefined): Promise<RawStage> {
  const suite = SUITES[0]!;
  const { b, endpoint } = await openListener(t, suite);
  await dialRawControl(t, endpoint);
  const { connection } = await b.event("accepted");
  b.link.admitLanes(connection, TOKEN);
  const lane = await dialRawLane(t, endpoint, TOKEN, LANE.notSentLowBytes);
  const target = privateRegion(2 << 20);
  const blockLists = [Uint32Array.of(4, 2, 0, 3, 1)];
  const { chunks, receiverPlanes: planes } = plan;
  const common = { direction: "in", connection, grant: 77, generation: 1, checksum: true } as const;
  b.place({
    ...common,
    region: target,
    planes,
    blockLists,
    ...(codec === undefined
      ? { chunks: [{ plane: 0, start: 0, bytes: 4_096 }] }
      : { chunks, coding: { codecs: codecsOf(plan, codec), position: FIRST } }),
  });
  return { b, lane, target };
}
