/**
 * The whole way of an engine: real nodes with pools in shared memory, the real server and client, KV written to and read from the attached
 * memory by what the API said alone. Every byte is compared; then the sidecar goes away and comes back over the same pool.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test, type TestContext } from "node:test";
import { join } from "node:path";
import { type ClientFerry, connect } from "../../transport/api/client.ts";
import { type ApiServer, createApiServer } from "../../transport/api/server.ts";
import { configOf } from "../../transport/config.ts";
import { KvferryError } from "../../transport/errors.ts";
import { type LocalFerry, openFerry } from "../../transport/ferry/create.ts";
import type { FerryEvent, PoolInfo } from "../../transport/ferry/ferry.ts";
import { denseLayout } from "../../transport/kv/build.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { Region } from "../../transport/memory/region.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { temporaryFolder } from "./world.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const IDENTITY = { model: "tiny", revision: "1", element: "bf16", rope: "none", profile: "", extra: "" };
const BLOCK_TOKENS = 16;
const BLOCK_BYTES = 32_768;
const LAYERS = 4;

class Sidecar {
  readonly ferry: LocalFerry;
  readonly server: ApiServer;
  readonly socket: string;

  private constructor(ferry: LocalFerry, server: ApiServer, socket: string) {
    this.ferry = ferry;
    this.server = server;
    this.socket = socket;
  }

  /** The same folder and name find the same pool again. */
  static async open(t: TestContext, folder: string, name: string): Promise<Sidecar> {
    const pool = { bytes: "4MiB", blockBytes: BLOCK_BYTES, directory: folder };
    const ferry = await openFerry(configOf({ name, listen: "127.0.0.1:0", pool, allow: ["127.0.0.0/8"] }));
    const socket = join(folder, `${name}.sock`);
    const sidecar = new Sidecar(ferry, await createApiServer({ host: ferry.host, socket }), socket);
    t.after(() => sidecar.close());
    return sidecar;
  }

  get peer(): string {
    return `127.0.0.1:${this.ferry.address!.port}`;
  }

  async close(): Promise<void> {
    await this.server.close();
    await this.ferry.close();
  }
}

/** An engine as one would write it: it knows the API and the memory, and nothing of the node. */
class Engine {
  readonly api: ClientFerry;
  readonly pool: PoolInfo;
  readonly region: Region;
  readonly model: number;
  readonly events: FerryEvent[] = [];

  private constructor(api: ClientFerry, pool: PoolInfo, region: Region, model: number) {
    this.api = api;
    this.pool = pool;
    this.region = region;
    this.model = model;
    api.on((event) => this.events.push(event));
  }

  static async start(t: TestContext, socket: string): Promise<Engine> {
    const api = await connect(socket);
    t.after(() => api.close());
    const pool = await api.pool();
    const { blockCount } = pool;
    const dense = {
      layers: LAYERS,
      kvHeads: 2,
      headDim: 64,
      blockTokens: BLOCK_TOKENS,
      element: "bf16",
      order: "NHD",
      kv: "split",
    } as const;
    const { model } = await api.registerModel(IDENTITY, denseLayout({ ...dense, form: "block-contiguous", blockCount }));
    const region = await api.attach();
    t.after(() => region.close());
    return new Engine(api, pool, region, model);
  }

  bytesOf(block: number): Uint8Array {
    const from = this.pool.dataOffset + block * BLOCK_BYTES;
    return this.region.view.subarray(from, from + BLOCK_BYTES);
  }

  /** Writes random KV and returns it. */
  fill({ ids }: Blocks): Buffer {
    const content = randomBytes(ids.length * BLOCK_BYTES);
    for (const [at, block] of ids.entries()) this.bytesOf(block).set(content.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES));
    return content;
  }

  read({ ids }: Blocks): Buffer {
    return Buffer.concat([...ids].map((block) => this.bytesOf(block)));
  }
}

function group(blocks: Blocks) {
  return [{ group: 0, blocks, tokens: blocks.ids.length * BLOCK_TOKENS }];
}

function code(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof KvferryError && error.code === wanted;
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

interface Pair {
  readonly prefill: Engine;
  readonly decode: Engine;
  readonly prefillSide: Sidecar;
  readonly decodeSide: Sidecar;
}

async function layerByLayer({ prefill, decode, prefillSide }: Pair): Promise<void> {
  const source = await prefill.api.alloc(10);
  const content = prefill.fill(source);
  const handle = await prefill.api.offer({ model: prefill.model, groups: group(source), ready: false });
  const target = await decode.api.alloc(10);
  const request = { peer: prefillSide.peer, model: decode.model, source: { handle }, into: group(target), layers: true };
  const transfer = await decode.api.fetch(request);
  for (let layer = 0; layer < LAYERS; layer++) await prefill.api.ready(handle, layer);
  const report = await transfer.done;
  assert.equal(report.bytes, content.length);
  assert.equal(report.transfer, transfer.transfer);
  assert.equal(Buffer.compare(decode.read(target), content), 0);
  const layers = decode.events.filter((event) => event.kind === "layer" && event.transfer === transfer.transfer);
  assert.equal(layers.length, LAYERS);
  await until(() => prefill.events.some((event) => event.kind === "offerEnded" && event.handle === handle && event.ok));
  await prefill.api.free(source);
  await decode.api.free(target);
  await assert.rejects((await decode.api.fetch({ ...request, into: group(await decode.api.alloc(10)) })).done, code("handle_unknown"));
}

async function byKey({ prefill, decode, prefillSide }: Pair): Promise<void> {
  const tokens = Uint32Array.from({ length: 5 * BLOCK_TOKENS }, (_, at) => at * 3);
  const keys = await prefill.api.keys(prefill.model, 0, tokens);
  assert.equal(Buffer.compare(keys, await decode.api.keys(decode.model, 0, tokens)), 0);
  const source = await prefill.api.alloc(5);
  const content = prefill.fill(source);
  await prefill.api.publish(prefill.model, 0, source, keys);
  const places = await decode.api.lookup(decode.model, 0, keys, [prefillSide.peer]);
  assert.deepEqual(
    places.map(({ matched }) => matched),
    [0, 5],
  );
  const target = await decode.api.alloc(5);
  const fetch = { source: { keys, group: 0, tokens: tokens.length }, into: group(target) };
  await (await decode.api.fetch({ peer: prefillSide.peer, model: decode.model, ...fetch })).done;
  assert.equal(Buffer.compare(decode.read(target), content), 0);
  const leased = await prefill.api.lease(prefill.model, 0, keys, true);
  assert.deepEqual(leased.ids, source.ids);
  await prefill.api.release(leased);
  await decode.api.free(target);
}

async function pushed({ prefill, decode, decodeSide }: Pair): Promise<void> {
  const tokens = Uint32Array.from({ length: 3 * BLOCK_TOKENS }, (_, at) => at * 5 + 1);
  const keys = await prefill.api.keys(prefill.model, 0, tokens);
  const source = await prefill.api.alloc(3);
  const content = prefill.fill(source);
  const push = { peer: decodeSide.peer, model: prefill.model, group: 0, blocks: source, tokens: tokens.length, keys };
  await (await prefill.api.push(push)).done;
  await until(() => decode.events.some((event) => event.kind === "published" && Buffer.compare(event.keys, keys) === 0));
  const leased = await decode.api.lease(decode.model, 0, keys);
  assert.equal(Buffer.compare(decode.read(leased), content), 0);
  await decode.api.release(leased);
  await prefill.api.free(source);
}

async function buffers({ prefill, decode, prefillSide }: Pair): Promise<void> {
  const here = await decode.api.createBuffer(64 * 1024);
  const there = await prefill.api.createBuffer(256 * 1024);
  const content = randomBytes(256 * 1024);
  there.region.view.set(content);
  const ranges = [{ local: 4096, remote: 8192, bytes: 20_000 }];
  await (await decode.api.read({ peer: prefillSide.peer, remote: there.handle, local: here.handle, ranges })).done;
  assert.equal(Buffer.compare(here.region.view.subarray(4096, 24_096), content.subarray(8192, 28_192)), 0);
  const back = [{ local: 4096, remote: 0, bytes: 20_000 }];
  await (await decode.api.write({ peer: prefillSide.peer, remote: there.handle, local: here.handle, ranges: back })).done;
  assert.equal(Buffer.compare(there.region.view.subarray(0, 20_000), content.subarray(8192, 28_192)), 0);
  const beyond = [{ local: 0, remote: 256 * 1024 - 1, bytes: 2 }];
  const outside = decode.api.read({ peer: prefillSide.peer, remote: there.handle, local: here.handle, ranges: beyond });
  await assert.rejects(
    outside.then((transfer) => transfer.done),
    code("range_invalid"),
  );
  await here.close();
  await there.close();
  await assert.rejects(here.close(), code("handle_unknown"));
}

test("prefill here, decode there: layer by layer under a handle, by key, and pushed", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const prefillSide = await Sidecar.open(t, folder, "prefill");
  const decodeSide = await Sidecar.open(t, folder, "decode");
  const prefill = await Engine.start(t, prefillSide.socket);
  const decode = await Engine.start(t, decodeSide.socket);
  const pair: Pair = { prefill, decode, prefillSide, decodeSide };
  await t.test("layers follow as they are ready", () => layerByLayer(pair));
  await t.test("published blocks are found and fetched by key", () => byKey(pair));
  await t.test("a push is published on the other side, which is told", () => pushed(pair));
  await t.test("buffers of engines, read and written", () => buffers(pair));

  await prefill.api.close();
  await decode.api.close();
  await until(() => prefillSide.ferry.node.pool.stats().held + decodeSide.ferry.node.pool.stats().held === 0);
});

test("a sidecar comes back over its pool: what was published is there, what was held is safe", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const first = await Sidecar.open(t, folder, "phoenix");
  const engine = await Engine.start(t, first.socket);
  const tokens = Uint32Array.from({ length: 2 * BLOCK_TOKENS }, (_, at) => at);
  const keys = await engine.api.keys(engine.model, 0, tokens);
  const published = await engine.api.alloc(2);
  const content = engine.fill(published);
  await engine.api.publish(engine.model, 0, published, keys);
  const held = await engine.api.alloc(3);
  const handle = await engine.api.offer({ model: engine.model, groups: group(held) });
  const before = engine.api.incarnation;
  await first.close();
  await until(() => engine.events.some((event) => event.kind === "lost"));
  await assert.rejects(engine.api.alloc(1), code("connection_lost"));

  const second = await Sidecar.open(t, folder, "phoenix");
  // This process is alive, so what its engine held is kept from everybody until the engine says that it has let go.
  const { livingHolders, published: kept, quarantined } = second.ferry.node.pool.adopted;
  assert.deepEqual({ kept, quarantined, livingHolders }, { kept: 2, quarantined: 3, livingHolders: 1 });
  const stranger = await connect(second.socket);
  t.after(() => stranger.close());
  const others = await stranger.alloc(second.ferry.node.pool.stats().free);
  assert.ok([...held.ids].every((block) => !others.ids.includes(block)));
  await stranger.free(others);

  assert.deepEqual(await engine.api.reconnect(), { resumed: false, incarnationChanged: true });
  assert.notEqual(engine.api.incarnation, before);
  assert.equal(second.ferry.node.pool.stats().quarantined, 0);
  await assert.rejects(engine.api.withdraw(handle), code("incarnation_mismatch"));
  await assert.rejects(engine.api.free(held), code("generation_mismatch"));

  const again = await Engine.start(t, second.socket);
  const leased = await again.api.lease(again.model, 0, keys);
  assert.deepEqual(leased.ids, published.ids);
  assert.equal(Buffer.compare(again.read(leased), content), 0);
});
