/**
 * A real model: its states are what state.ts says, and KV that went through blocks continues as KV that was computed, token for token. First
 * in one process, then between engine processes beside real sidecars: handed over whole, as a published prefix, for two sequences at once,
 * and after either sidecar was killed and came back. Runs where `npm run demo` has put node-llama-cpp and the model; about 130 tokens a time.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { endAll, freeAddress, type SidecarProcess, startSidecar } from "../../engines/demo/processes.ts";
import { hasLlama } from "../../engines/llama/demo/install.ts";
import { type EngineProcess, startEngine } from "../../engines/llama/demo/engine.ts";
import { blockTokensOf, copyFromBlocks, copyToBlocks, kvLayout } from "../../engines/llama/blocks.ts";
import { openRuntime, type RuntimeSequence } from "../../engines/llama/runtime.ts";
import type { Command, Decoded, Reused, Ticket } from "../../engines/llama/protocol.ts";
import { newState, writeState } from "../../engines/llama/state.ts";

type DecodeRequest = Partial<Extract<Command, { op: "decode" }>> & { readonly prompt: string };

const MODEL = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kvferry/models/SmolLM2-135M-Instruct.Q4_1.gguf");
const HARBOUR = readFileSync(join(import.meta.dirname, "../../engines/llama/prompts/harbour.txt"), "utf8");
const PROMPT = HARBOUR.slice(0, 600);
/** Begins as the other one does. */
const OTHER = `${HARBOUR.slice(0, 430)} The captain wrote a letter to his sister, and in it he said that`;
const NEW_TOKENS = 24;
/** 30 layers x K and V x 3 heads x 64 channels of f16. */
const TOKEN_BYTES = 23_040;
const FLAGS = { "pool-bytes": "24MiB", "pool-block-bytes": "360KiB", "pool-huge-pages": "off", "log-level": "warn" };

function reasonToSkip(): string | false {
  if (!hasLlama()) return "node-llama-cpp is not in engines/llama/node_modules (npm run demo puts it there)";
  return existsSync(MODEL) ? false : `there is no ${MODEL} (npm run demo puts it there)`;
}

const skip = reasonToSkip();
const folder = mkdtempSync(join(tmpdir(), "kvferry-llama-"));
after(() => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});

test("the demo's prompt is 1,024 tokens", { skip }, async () => {
  const runtime = await openRuntime({ modelPath: MODEL, contextTokens: 64, sequences: 1, log: () => undefined });
  assert.equal(runtime.tokenize(HARBOUR).length, 1_024);
  await runtime.close();
});

async function decoded(sequence: RuntimeSequence, last: number): Promise<number[]> {
  const made: number[] = [];
  await sequence.decode(last, NEW_TOKENS, (token) => made.push(token));
  return made;
}

test("a state that went through blocks is the same state, and continues on another sequence as on its own", {
  skip,
  timeout: 120_000,
}, async () => {
  const runtime = await openRuntime({ modelPath: MODEL, contextTokens: 256, sequences: 2, log: () => undefined });
  assert.deepEqual(runtime.kv, { layers: 30, heads: 3, channels: 64 });
  assert.deepEqual(runtime.stateShape, { layers: 30, rowValues: 192, transposed: true, streams: 2 });
  const [one, two] = runtime.sequences as [RuntimeSequence, RuntimeSequence];
  const tokens = runtime.tokenize(PROMPT);
  const last = tokens.pop() as number;
  await one.prefill(tokens);
  const state = await one.save();
  assert.equal(Buffer.compare(writeState(state), state.bytes), 0);
  assert.deepEqual([...state.tokens], tokens);
  const plain = await decoded(one, last);

  const pool = { path: "", bytes: 0, dataOffset: 64, blockBytes: 370_000, blockCount: 12, incarnation: "" };
  const layout = kvLayout(runtime.kv, pool);
  const place = { memory: new Uint8Array(pool.dataOffset + pool.blockBytes * pool.blockCount), pool, layout };
  const count = Math.ceil(tokens.length / blockTokensOf(layout));
  const blocks = { ids: Uint32Array.from({ length: count }, (_, at) => (at * 5 + 3) % 12), generations: new Uint32Array(count) };
  copyToBlocks(state, place, blocks);
  const whole = newState({ shape: state.shape, tokens: state.tokens });
  copyFromBlocks(whole, place, blocks);
  assert.equal(Buffer.compare(whole.bytes, state.bytes), 0);
  await two.resume(whole, tokens);
  const saved = await two.save();
  assert.deepEqual({ stream: saved.stream, positions: saved.positions }, { stream: 1, positions: state.positions });
  assert.deepEqual(saved.layers, state.layers);
  assert.deepEqual(await decoded(two, last), plain);

  // Of the same blocks the first pages: the rest is computed behind them.
  const pages = 4;
  const prefix = newState({ shape: state.shape, tokens: state.tokens.slice(0, pages * blockTokensOf(layout)) });
  copyFromBlocks(prefix, place, { ids: blocks.ids.slice(0, pages), generations: blocks.generations.slice(0, pages) });
  await two.resume(prefix, tokens);
  const grown = await two.save();
  assert.deepEqual(grown.positions, state.positions);
  assert.deepEqual(grown.layers[29]?.k.subarray(0, 64 * 192), state.layers[29]?.k.subarray(0, 64 * 192));
  assert.deepEqual(await decoded(two, last), plain);
  await assert.rejects(two.resume(prefix, tokens.slice(1)), { code: "invalid_argument" });
  await runtime.close();
});

interface World {
  readonly start: (name: "prefill" | "decode") => Promise<SidecarProcess>;
  readonly prefillSidecar: SidecarProcess;
  readonly decodeSidecar: SidecarProcess;
  readonly decodeEngine: EngineProcess;
  readonly prefill: (prompt: string) => Promise<Ticket>;
  readonly decode: (more: Pick<DecodeRequest, "prompt" | "sequence" | "reuse" | "from">) => Promise<Decoded>;
}

/** Two sidecars and two engines; the one that decodes has two sequences, and blocks of another size if wanted. */
async function openWorld(name: string, decodeBlockBytes: string): Promise<World> {
  const home = mkdtempSync(join(folder, name));
  const addresses = { prefill: await freeAddress(), decode: await freeAddress() };
  const start: World["start"] = (side) => {
    const decodeFlags = { peers: `prefill=${addresses.prefill}`, "pool-block-bytes": decodeBlockBytes };
    const own = { decode: decodeFlags, prefill: {} }[side];
    return startSidecar({ ...FLAGS, ...own, name: side, "pool-directory": home }, join(home, `${side}.sock`), addresses[side]);
  };
  const [prefillSidecar, decodeSidecar] = await Promise.all([start("prefill"), start("decode")]);
  const prefillEngine = await startEngine(prefillSidecar.socket, MODEL, 512);
  const decodeEngine = await startEngine(decodeSidecar.socket, MODEL, 512, 2);
  assert.equal(prefillEngine.ready.fingerprint, decodeEngine.ready.fingerprint);
  return {
    start,
    prefillSidecar,
    decodeSidecar,
    decodeEngine,
    prefill: async (prompt) => (await prefillEngine.ask("prefilled", { op: "prefill", prompt })).ticket,
    decode: (more) => decodeEngine.ask("decoded", { op: "decode", count: NEW_TOKENS, ...more }),
  };
}

const fromPrefill = (ticket: Ticket) => ({ peer: "prefill", ticket, deadlineMs: 4_000 });

test("between engine processes: with other blocks on each side: handed over whole, as a published prefix, two sequences at once", {
  skip,
  timeout: 170_000,
}, async () => {
  const { prefill, decode, decodeEngine, prefillSidecar, decodeSidecar } = await openWorld("whole-", "720KiB");
  const computed = await decode({ prompt: PROMPT });
  assert.equal(computed.tokens.length, NEW_TOKENS);
  const ticket = await prefill(PROMPT);
  assert.equal(ticket.bytes, (computed.promptTokens - 1) * TOKEN_BYTES);
  const ferried = await decode({ prompt: PROMPT, from: fromPrefill(ticket) });
  assert.equal(ferried.via, "ferried", ferried.failure?.message);
  assert.deepEqual({ blockTokens: decodeEngine.ready.blockTokens, bytes: ferried.report?.bytes }, { blockTokens: 32, bytes: ticket.bytes });
  assert.deepEqual(ferried.tokens, computed.tokens);

  // Another prompt that begins alike: its first pages are fetched by their keys, then found here.
  const computedOther = await decode({ prompt: OTHER });
  for (const isFetched of [true, false]) {
    const run = await decode({ prompt: OTHER, reuse: { peers: ["prefill"], deadlineMs: 4_000 } });
    assert.equal(run.via, "reused", run.failure?.message);
    const { tokens, fetchedTokens } = run.reused as Reused;
    assert.ok(tokens >= 64 && tokens < computedOther.promptTokens - 8 && tokens % decodeEngine.ready.blockTokens === 0, String(tokens));
    assert.equal(fetchedTokens, isFetched ? tokens : 0);
    assert.equal(run.report?.bytes, isFetched ? tokens * TOKEN_BYTES : undefined);
    assert.deepEqual(run.tokens, computedOther.tokens);
  }

  const both = [await prefill(PROMPT), await prefill(OTHER)] as const;
  const runs = await Promise.all([
    decode({ prompt: PROMPT, sequence: 1, from: fromPrefill(both[0]) }),
    decode({ prompt: OTHER, sequence: 0, from: fromPrefill(both[1]) }),
  ]);
  for (const [index, alone] of [computed, computedOther].entries()) {
    assert.equal(runs[index]?.via, "ferried", runs[index]?.failure?.message);
    assert.deepEqual(runs[index]?.tokens, alone.tokens);
  }
  for (const sidecar of [prefillSidecar, decodeSidecar]) {
    assert.equal((await sidecar.ferry.stats()).pool.leased, 0);
    assert.equal(await sidecar.end("SIGTERM"), 0);
  }
});

test("the same answer whatever happens to the sidecars", { skip, timeout: 170_000 }, async () => {
  const { start, prefill, decode, ...world } = await openWorld("killed-", FLAGS["pool-block-bytes"]);
  let { prefillSidecar, decodeSidecar } = world;
  const computed = await decode({ prompt: PROMPT });
  const expect = async (ticket: Ticket, via: Decoded["via"]): Promise<Decoded> => {
    const run = await decode({ prompt: PROMPT, from: fromPrefill(ticket) });
    assert.equal(run.via, via, run.failure?.message);
    assert.deepEqual(run.tokens, computed.tokens);
    return run;
  };
  const first = await prefill(PROMPT);
  assert.equal((await expect(first, "ferried")).report?.bytes, first.blocks * 16 * TOKEN_BYTES, "equal blocks move whole");
  assert.equal((await expect(first, "computed")).failure?.code, "handle_unknown", "a handle is spent once");

  // The receiver's own sidecar dies: no way to fetch, until it is back; the engine was never restarted.
  const second = await prefill(PROMPT);
  await decodeSidecar.end("SIGKILL");
  await expect(second, "computed");
  decodeSidecar = await start("decode");
  await expect(second, "ferried");

  // The sender's sidecar dies: what it offered is gone, and the next prefill works. What it had published is found again as soon as the
  // engine beside it has come back for a prompt, whichever that is.
  const third = await prefill(PROMPT);
  await prefillSidecar.end("SIGKILL");
  await expect(third, "computed");
  prefillSidecar = await start("prefill");
  await expect(third, "computed");
  await prefill(OTHER);
  const found = await decode({ prompt: PROMPT, reuse: { peers: ["prefill"], deadlineMs: 4_000 } });
  assert.equal(found.reused?.tokens, Math.floor((computed.promptTokens - 1) / 16) * 16, found.failure?.message);
  assert.deepEqual(found.tokens, computed.tokens);
  await expect(await prefill(PROMPT), "ferried");
  assert.equal(await prefillSidecar.end("SIGTERM"), 0);
  assert.equal(await decodeSidecar.end("SIGTERM"), 0);
});
