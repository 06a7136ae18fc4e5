/** Two ends that are connected, with lanes, and memory on both sides: what most tests begin with. */
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { ERRORS, type ErrorCode } from "../../../transport/errors.ts";
import type { ConnectionId, Endpoint, LaneOptions, PlacementId, PlacementSpec, Rank } from "../../../transport/link/link.ts";
import type { LinkLimits } from "../../../transport/link/native-link.ts";
import type { TlsOptions } from "../../../transport/tls/options.ts";
import { startProxy, type Proxy } from "../proxy.ts";
import { End, type MakeLink } from "./end.ts";
import { Memory } from "./memory.ts";
import type { Shape } from "./shapes.ts";

export interface Suite {
  readonly make: MakeLink;
  /** The end that listens, where it is of another kind. */
  readonly makeListener: MakeLink;
  /** TCP sockets that a proxy or a hostile peer can be put at; else the two ends meet in one process. */
  readonly hasWire: boolean;
  readonly listenAt: () => Endpoint;
  /** Over TLS: what bare peers and the proxy show and believe. */
  readonly tls?: TlsOptions | undefined;
}

export const LANE: LaneOptions = { paceBytesPerSecond: 0, notSentLowBytes: 0, congestionControl: "" };
export const TOKEN = Uint8Array.from({ length: 16 }, (_, at) => 0xa0 + at);
export const numberOf = (code: ErrorCode): number => ERRORS[code].number;

export interface PairOptions {
  readonly lanes?: number;
  readonly limits?: Partial<LinkLimits>;
  readonly proxy?: boolean;
  readonly lane?: LaneOptions;
}

/** A dialled B. */
export interface Pair {
  readonly a: End;
  readonly b: End;
  readonly atA: ConnectionId;
  readonly atB: ConnectionId;
  readonly endpoint: Endpoint;
  /** Between the two, if asked for. */
  readonly proxy: Proxy;
}

export async function openListener(
  t: TestContext,
  suite: Suite,
  limits: Partial<LinkLimits> = {},
): Promise<{ b: End; endpoint: Endpoint }> {
  const b = await End.open("listener", suite.makeListener, limits);
  t.after(() => b.link.close());
  return { b, endpoint: await b.link.listen(suite.listenAt()) };
}

export async function openPair(t: TestContext, suite: Suite, options: PairOptions = {}): Promise<Pair> {
  const { b, endpoint } = await openListener(t, suite, options.limits);
  const a = await End.open("dialler", suite.make, options.limits);
  t.after(() => a.link.close());
  const proxy = options.proxy === true ? await startProxy(endpoint, suite.tls) : undefined;
  t.after(() => proxy?.close());
  const atA = a.link.dial(proxy?.endpoint ?? endpoint, 5_000);
  await a.event("connected", { connection: atA });
  const { connection: atB } = await b.event("accepted");
  b.link.admitLanes(atB, TOKEN);
  const pair = { a, b, atA, atB, endpoint, proxy: proxy as Proxy };
  for (let lane = 0; lane < (options.lanes ?? 1); lane++) await openLane(pair, lane, options.lane);
  return pair;
}

export async function openLane({ a, b, atA, atB }: Pair, lane: number, options: LaneOptions = LANE): Promise<void> {
  const before = [a.all("laneUp", { lane }).length, b.all("laneUp", { lane }).length] as const;
  a.link.openLane(atA, lane, TOKEN, options);
  await a.eventCount(before[0] + 1, "laneUp", { connection: atA, lane });
  await b.eventCount(before[1] + 1, "laneUp", { connection: atB, lane });
}

export interface TransferOptions {
  readonly grant?: number;
  readonly generation?: number;
  readonly standing?: boolean;
  readonly checksum?: boolean;
  readonly committed?: readonly number[];
  readonly rank?: Rank;
  /** The listener sends; else the dialler does. */
  readonly backwards?: boolean;
}

/** Memory and placements of one transfer at both ends. */
export interface Transfer {
  readonly shape: Shape;
  readonly from: End;
  readonly to: End;
  readonly source: Memory;
  readonly target: Memory;
  readonly out: PlacementId;
  readonly into: PlacementId;
  readonly outSpec: PlacementSpec;
  readonly inSpec: PlacementSpec;
}

let grants = 1_000_000;

export function placeBoth({ a, b, atA, atB }: Pair, shape: Shape, options: TransferOptions = {}): Transfer {
  const { grant = ++grants, generation = 1, standing = false, checksum = true, committed = [], backwards = false, rank = 1 } = options;
  const source = new Memory(shape.bytes, grant);
  const target = new Memory(shape.bytes, grant + 7);
  const [from, to] = backwards ? [b, a] : [a, b];
  const common = { grant, generation, chunks: shape.chunks, checksum };
  const outSpec: PlacementSpec = {
    ...common,
    ...shape.sender,
    direction: "out",
    connection: backwards ? atB : atA,
    region: source.region,
    rank,
  };
  const inSpec: PlacementSpec = {
    ...common,
    ...shape.receiver,
    direction: "in",
    connection: backwards ? atA : atB,
    region: target.region,
    standing,
    committed,
  };
  return { shape, from, to, source, target, out: from.place(outSpec), into: to.place(inSpec), outSpec, inSpec };
}

/** Sends chunks and waits until they are acknowledged and committed; the target then expects their content. */
export async function send(transfer: Transfer, chunks: readonly number[] = everyChunk(transfer.shape), sequence = 1): Promise<void> {
  const { from, to, out, into } = transfer;
  const before = to.all("committed", { placement: into }).length;
  from.submit(out, chunks, sequence);
  await from.eventCount(chunks.length, "acked", { placement: out, sequence });
  await to.eventCount(before + chunks.length, "committed", { placement: into });
  expectChunks(transfer, chunks);
}

export function expectChunks({ shape, source, target }: Transfer, chunks: readonly number[]): void {
  for (const chunk of chunks) {
    const span = shape.chunks[chunk];
    assert.ok(span !== undefined, "the shape has the chunk");
    target.expectChunk(span, shape.receiver, source, shape.sender);
  }
}

export function everyChunk(shape: Shape): number[] {
  return shape.chunks.map((_, chunk) => chunk);
}

/** Every byte is where it should be and nowhere else; both placements come back; no end saw anything that link.ts forbids. */
export async function finish({ a, b }: Pair, transfers: readonly Transfer[]): Promise<void> {
  for (const { from, to, source, target, out, into } of transfers) {
    await from.revoke(out);
    await to.revoke(into);
    source.check("the sender's memory");
    target.check("the receiver's memory");
  }
  a.check();
  b.check();
}
