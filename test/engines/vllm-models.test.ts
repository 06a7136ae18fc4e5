/**
 * The connector for vLLM with models whose KV is of several kinds, or none of keys and values: sliding windows beside full attention, latent
 * KV, recurrent state. Method: the models' weights are made up, so their answers say little; what a decode engine's own cache holds after a
 * load is compared with what the prefill engine's cache holds, byte by byte, for every layer and cache group. Then the decode engine's first
 * token must be as likely as it is by itself, and otherwise likely after another prompt. Runs where `npm run engines:install` has put vLLM.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, test } from "node:test";
import { endAll } from "../../engines/demo/processes.ts";
import {
  type Answer,
  findOrWhy,
  type HeldGroup,
  InProcessEngine,
  type Seen,
  scratchFolder,
  startSidecars,
  untilUnused,
} from "./in-process.ts";
import { VOCABULARY, writeModel } from "./models.ts";

const WINDOW_TOKENS = 128;
/** Logarithms of probabilities that differ by less than this differ by the rounding of sums in bfloat16. */
const ROUNDING = 0.1;
const COUNT = 4;
/** Tokens that end both prompts. */
const SAME_TOKENS = 4;
const TIMEOUT_MS = 170_000;

const folder = scratchFolder();
after(() => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});

const found = findOrWhy();
const skip = typeof found === "string" ? found : false;

interface Case {
  readonly model: Parameters<typeof writeModel>[1];
  readonly promptTokens: number;
  readonly stepTokens: number;
  /** Further arguments of vLLM's, for both engines and for the decode engine alone. */
  readonly engine?: Readonly<Record<string, unknown>>;
  readonly decode?: Readonly<Record<string, unknown>>;
}

interface Result {
  readonly prefilled: Seen;
  readonly handedOver: Seen;
  readonly plain: Seen;
  readonly other: Seen;
}

test("sliding windows beside full attention: the blocks that windows still need arrive, and no others", {
  skip,
  timeout: TIMEOUT_MS,
}, async () => {
  // The window of the last token begins with the last token of a block, which vLLM lets go of once it takes that token for computed.
  const promptTokens = 639;
  const { prefilled, handedOver, plain } = await handOver({ model: "windows", promptTokens, stepTokens: 319 });
  const groups = handedOver.loaded!;
  assert.deepEqual(
    groups.map(({ window }) => window),
    [WINDOW_TOKENS, WINDOW_TOKENS, null],
  );
  for (const { window, tokens, pieces } of groups) {
    const firstNeeded = window === null ? 0 : promptTokens - window;
    const expected = pieceStarts(Math.floor(firstNeeded / tokens) * tokens, promptTokens - 1, tokens);
    assert.deepEqual(starts(pieces), expected);
    assert.ok(window === null || (expected[0] ?? 0) > 0, "the prompt is not longer than the window");
  }
  compareHeld(handedOver.loaded!, prefilled.computed);
  // Both compute the last token alone, so not even rounding differs.
  assert.deepEqual(handedOver.logprobs, plain.logprobs);
});

test("latent KV: arrives whole, in an engine whose blocks have another size where the processor allows for two", {
  skip,
  timeout: TIMEOUT_MS,
}, async () => {
  const promptTokens = 601;
  const { prefilled, handedOver } = await handOver({
    model: "latent",
    promptTokens,
    stepTokens: 200,
    // vLLM 0.32's own CPU kernel turns only the first token's queries where they are a part of a larger tensor, as they are here.
    engine: { compilation_config: { custom_ops: ["-rotary_embedding"] } },
    // With AMX the prefill engine has blocks of 128 tokens, this one always of 16.
    decode: { attention_config: { backend: "CPU_MLA" } },
  });
  const [group, ...more] = handedOver.loaded!;
  assert.deepEqual(more, []);
  assert.deepEqual(starts(group!.pieces), pieceStarts(0, promptTokens - 1, 16));
  compareHeld(handedOver.loaded!, prefilled.computed);
});

test("recurrent state: is handed over as it was before the token that the decode engine computes", {
  skip,
  timeout: TIMEOUT_MS,
}, async () => {
  const promptTokens = 601;
  const { prefilled, handedOver, plain } = await handOver({ model: "state", promptTokens, stepTokens: 200 });
  assert.equal(handedOver.loaded!.length, 2);
  const [state, attention] = handedOver.loaded!;
  assert.deepEqual(starts(state!.pieces), [0]);
  assert.deepEqual(starts(attention!.pieces), pieceStarts(0, promptTokens - 1, attention!.tokens));
  compareHeld(handedOver.loaded!, prefilled.computed);
  assert.notDeepEqual(handedOver.computed[0], state, "the last token must change the state");
  assert.deepEqual(handedOver.computed[0], plain.computed[0]);
  assert.deepEqual(handedOver.logprobs, plain.logprobs);
});

/** Also checks what is the same for every model. */
async function handOver({ model, promptTokens, stepTokens, engine = {}, decode = {} }: Case): Promise<Result> {
  assert.ok(typeof found !== "string");
  const place = found;
  const path = writeModel(folder, model);
  // Blocks of 16 tokens of latent KV are small.
  const [sender, receiver] = await startSidecars(path, { "pool-block-bytes": "64KiB" });
  const start = (socket: string, more: Readonly<Record<string, unknown>>): Promise<InProcessEngine> =>
    new InProcessEngine(place, {
      model: path,
      socket,
      stepTokens,
      made: true,
      engine: { ...engine, ...more },
    }).ready();
  const [first, second] = await Promise.all([start(sender.socket, {}), start(receiver.socket, decode)]);
  const ids = prompt(promptTokens, 1);
  const otherIds = [...prompt(promptTokens - SAME_TOKENS, 2), ...ids.slice(-SAME_TOKENS)];

  const prefilled = await first.prefill(ids, { watch: true });
  const ask = (asked: readonly number[], params: Answer["params"]): Promise<Answer> =>
    second.ask({ ids: asked, count: COUNT, params, watch: true });
  // In this order: what a plain run leaves behind in the cache must not pass for what was loaded.
  const handedOver = await ask(ids, prefilled.params);
  assert.equal(handedOver.loads, 1, `nothing was loaded: ${second.words}`);
  assert.ok(handedOver.seen!.loaded !== null);
  const plain = await ask(ids, null);
  const other = await ask(otherIds, null);
  assert.deepEqual(
    [handedOver, plain, other].map(({ seen }) => seen!.computedTokens),
    [1, promptTokens, promptTokens],
  );
  assert.equal(other.loads, 1);
  assert.deepEqual([handedOver.free, other.free], [second.free, second.free]);

  assert.equal(handedOver.seen!.logprobs.length, VOCABULARY);
  const distance = farthest(handedOver.seen!, plain.seen!);
  assert.ok(distance < ROUNDING, `the first token's logarithms differ by ${distance} from a plain run's`);
  assert.ok(farthest(other.seen!, plain.seen!) > 2 * ROUNDING, "another prompt with the same answer would prove nothing");
  await Promise.all([first.end(), second.end(), untilUnused(sender), untilUnused(receiver)]);
  await Promise.all([sender.end("SIGTERM"), receiver.end("SIGTERM")]);
  return { prefilled: prefilled.seen!, handedOver: handedOver.seen!, plain: plain.seen!, other: other.seen! };
}

/** Every piece that was loaded holds the prefill's bytes, and no two pieces or layers hold the same. */
function compareHeld(loaded: readonly HeldGroup[], prefilled: readonly HeldGroup[]): void {
  assert.equal(loaded.length, prefilled.length);
  const digests = loaded.flatMap(({ pieces }, group) =>
    Object.entries(pieces).flatMap(([start, layers]) => {
      assert.ok(layers.length > 0);
      assert.deepEqual(layers, prefilled[group]!.pieces[start], `group ${group} from token ${start} on`);
      return layers;
    }),
  );
  assert.equal(new Set(digests).size, digests.length, "what is the same everywhere cannot be told apart from what was not copied");
}

function starts(pieces: HeldGroup["pieces"]): number[] {
  return Object.keys(pieces).map(Number);
}

function pieceStarts(first: number, end: number, step: number): number[] {
  return Array.from({ length: Math.ceil((end - first) / step) }, (_, index) => first + index * step);
}

function farthest(one: Seen, two: Seen): number {
  return Math.max(...one.logprobs.map((value, token) => Math.abs(value - two.logprobs[token]!)));
}

/** Tokens without a pattern; the first three of the vocabulary mean something to vLLM. */
function prompt(tokens: number, seed: number): number[] {
  let state = seed;
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return 3 + ((state >>> 8) % (VOCABULARY - 3));
  });
}
