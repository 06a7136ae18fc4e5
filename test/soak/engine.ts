/**
 * An engine for the soak: `engine.ts SOCKET offer` fills blocks and offers them, `engine.ts SOCKET fetch PEER` fetches and compares every byte.
 * Lines of JSON: orders on stdin, results on stdout. Content is a function of its seed (content.ts). Whatever is lost is made anew: connection,
 * session, memory.
 */
import { createInterface } from "node:readline";
import { type ClientFerry, connect } from "../../transport/api/client.ts";
import { KvferryError } from "../../transport/errors.ts";
import { denseLayout } from "../../transport/kv/build.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { Region } from "../../transport/memory/region.ts";
import { fill } from "./content.ts";

const [socket = "", role = "", peer = ""] = process.argv.slice(2);
const BLOCK_TOKENS = 16;
const IDENTITY = { model: "soak", revision: "1", element: "bf16", rope: "", profile: "", extra: "" };

interface Order {
  readonly seed: number;
  readonly blocks: number;
  readonly handle?: string;
}

interface Attached {
  readonly ferry: ClientFerry;
  readonly region: Region;
  readonly model: number;
  readonly dataOffset: number;
  readonly blockBytes: number;
}

/** One client for life: its token is what tells a restarted sidecar that this process writes no block of before any more. */
let client: ClientFerry | undefined;
let attached: Attached | undefined;
let attaching: Promise<Attached> | undefined;
/** Allocated and not known to be given back. */
const held = new Set<Blocks>();

function attach(): Promise<Attached> {
  if (attached !== undefined) return Promise.resolve(attached);
  attaching ??= attachAnew().finally(() => {
    attaching = undefined;
  });
  return attaching;
}

async function attachAnew(): Promise<Attached> {
  const ferry = client === undefined ? await open() : await again(client);
  const info = await ferry.pool();
  const region = await ferry.attach();
  const layout = denseLayout({
    layers: 8,
    kvHeads: 4,
    headDim: 64,
    blockTokens: BLOCK_TOKENS,
    element: "bf16",
    order: "NHD",
    form: "layer-major",
    kv: "split",
    blockCount: info.blockCount,
  });
  const { model } = await ferry.registerModel(IDENTITY, layout);
  attached = { ferry, region, model, dataOffset: info.dataOffset, blockBytes: info.blockBytes };
  return attached;
}

async function open(): Promise<ClientFerry> {
  const ferry = await connect(socket, { client: `soak-${role}` });
  ferry.on((event) => {
    if (event.kind === "lost") attached = undefined;
    if (event.kind === "offerEnded") ended.get(event.handle)?.(event.code);
  });
  client = ferry;
  return ferry;
}

/** Transfers and offers ended with the connection; what was held then is given back, or is void with its incarnation. */
async function again(ferry: ClientFerry): Promise<ClientFerry> {
  const before = [...held];
  held.clear();
  ended.clear();
  const { resumed } = await ferry.reconnect();
  if (resumed) for (const blocks of before) await ferry.free(blocks).catch(() => {});
  return ferry;
}

async function alloc(ferry: ClientFerry, count: number): Promise<Blocks> {
  const blocks = await ferry.alloc(count);
  held.add(blocks);
  return blocks;
}

async function free(ferry: ClientFerry, blocks: Blocks): Promise<void> {
  if (!held.has(blocks)) return;
  try {
    await ferry.free(blocks);
    held.delete(blocks);
  } catch {
    // The connection is gone: `again` gives them back.
  }
}

const ended = new Map<string, (code: string) => void>();

/** Layer-major: K and V of each layer are planes of all blocks. */
const PLANES = 16;
function* runsOf({ region, dataOffset, blockBytes }: Attached, blocks: Blocks, blockCount: number): Generator<Uint8Array> {
  const run = blockBytes / PLANES;
  for (const id of blocks.ids)
    for (let plane = 0; plane < PLANES; plane++) {
      const from = dataOffset + plane * run * blockCount + id * run;
      yield region.view.subarray(from, from + run);
    }
}

async function offer(order: Order): Promise<object> {
  const at = await attach();
  const info = await at.ferry.pool();
  const blocks = await alloc(at.ferry, order.blocks);
  let place = 0;
  for (const run of runsOf(at, blocks, info.blockCount)) fill(run, order.seed, place++);
  const handle = await at.ferry.offer({
    model: at.model,
    groups: [{ group: 0, blocks, tokens: order.blocks * BLOCK_TOKENS }],
    deadlineMs: 20_000,
  });
  ended.set(handle, () => {
    ended.delete(handle);
    void free(at.ferry, blocks);
  });
  return { handle };
}

async function fetch(order: Order): Promise<object> {
  const at = await attach();
  const info = await at.ferry.pool();
  const blocks = await alloc(at.ferry, order.blocks);
  try {
    // Whatever lay there must not pass for what was sent.
    for (const run of runsOf(at, blocks, info.blockCount)) run.fill(0xee);
    const into = [{ group: 0, blocks, tokens: order.blocks * BLOCK_TOKENS }];
    const source = { handle: order.handle ?? "" };
    const transfer = await at.ferry.fetch({ peer, model: at.model, source, into, deadlineMs: 8_000 });
    const report = await transfer.done;
    let place = 0;
    let wrong = 0;
    for (const run of runsOf(at, blocks, info.blockCount)) {
      const expected = new Uint8Array(run.byteLength);
      fill(expected, order.seed, place++);
      if (Buffer.compare(expected, run) !== 0) wrong += 1;
    }
    return { bytes: report.bytes, resumed: report.resumed, retries: report.retries, wrong };
  } finally {
    await free(at.ferry, blocks);
  }
}

createInterface({ input: process.stdin }).on("line", async (line) => {
  const order = JSON.parse(line) as Order;
  const startedMs = performance.now();
  let result: object;
  try {
    result = { ok: true, ...(await (role === "offer" ? offer(order) : fetch(order))) };
  } catch (error) {
    // An untyped error is a finding of its own: the supervisor counts it.
    const code = error instanceof KvferryError ? error.code : `UNTYPED ${String(error)}`;
    result = { ok: false, code, detail: String(error) };
    if (["connection_lost", "closed", "incarnation_mismatch", "not_owner", "generation_mismatch"].includes(code)) attached = undefined;
  }
  process.stdout.write(`${JSON.stringify({ seed: order.seed, ms: performance.now() - startedMs, ...result })}\n`);
});
