/**
 * A hand-over between two engines of vLLM with a made-up model. What the decode engine's own cache holds after the load is compared with what
 * the prefill engine's cache holds, byte by byte, for every layer and cache group; then its first token must be as likely as it is by itself,
 * and otherwise likely after another prompt.
 */
import assert from "node:assert/strict";
import type { VllmPlace } from "../../bench/engines/vllm.ts";
import { type Answer, type HeldGroup, InProcessEngine, startSidecars, untilUnused } from "./in-process.ts";
import { VOCABULARY, writeCheckpoint, writeModel } from "./models.ts";

/** Logarithms of probabilities that differ by less than this differ by the rounding of sums in bfloat16. */
export const ROUNDING = 0.1;
const COUNT = 4;
/** Tokens that end both prompts. */
const SAME_TOKENS = 4;

interface Case {
  readonly model: Parameters<typeof writeModel>[1];
  /** With weights in a file. */
  readonly checkpoint?: boolean;
  readonly promptTokens: number;
  readonly stepTokens: number;
  /** Further arguments of vLLM's, for both engines and for the decode engine alone. */
  readonly engine?: Readonly<Record<string, unknown>>;
  readonly decode?: Readonly<Record<string, unknown>>;
}

interface Result {
  readonly loaded: readonly HeldGroup[];
  readonly handedOver: Answer;
  readonly plain: Answer;
}

export async function handOver(
  place: VllmPlace,
  folder: string,
  { model, checkpoint = false, promptTokens, stepTokens, engine = {}, decode = {} }: Case,
): Promise<Result> {
  const path = checkpoint ? writeCheckpoint(place, folder, model) : writeModel(folder, model);
  // Blocks of 16 tokens of latent KV are small.
  const [sender, receiver] = await startSidecars(folder, { "pool-block-bytes": "64KiB" });
  const start = (socket: string, more: Readonly<Record<string, unknown>>): Promise<InProcessEngine> =>
    new InProcessEngine(place, {
      model: path,
      socket,
      stepTokens,
      made: !checkpoint,
      engine: { skip_tokenizer_init: true, ...engine, ...more },
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

  const distance = farthest(handedOver, plain);
  assert.ok(distance < ROUNDING, `the first token's logarithms differ by ${distance} from a plain run's`);
  assert.ok(farthest(other, plain) > 2 * ROUNDING, "another prompt with the same answer would prove nothing");
  await Promise.all([untilUnused(sender), untilUnused(receiver)]);
  compareHeld(handedOver.seen!.loaded, prefilled.seen!.computed);
  return { loaded: handedOver.seen!.loaded, handedOver, plain };
}

/** For models whose state is of a convolution and of a recurrence, in one or more groups, beside one group of attention. */
export async function handOverRecurrence(place: VllmPlace, folder: string, model: Case["model"]): Promise<void> {
  const promptTokens = 601;
  const { loaded } = await handOver(place, folder, { model, checkpoint: true, promptTokens, stepTokens: 200 });
  const states = loaded.filter(({ pieces }) => Object.keys(pieces).length === 1);
  const attention = loaded.filter((group) => !states.includes(group));
  assert.ok(states.length > 0 && attention.length === 1);
  for (const { pieces } of states) assert.deepEqual(starts(pieces), [0]);
  for (const { pieces, tokens } of attention) assert.deepEqual(starts(pieces), pieceStarts(0, promptTokens - 1, tokens));
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

/** The first tokens of pieces. */
export function starts(pieces: HeldGroup["pieces"]): number[] {
  return Object.keys(pieces).map(Number);
}

/** The same, of pieces of `step` tokens from token `first` to before token `end`. */
export function pieceStarts(first: number, end: number, step: number): number[] {
  return Array.from({ length: Math.ceil((end - first) / step) }, (_, index) => first + index * step);
}

/** How far the likelihoods of two answers' first tokens are apart. */
export function farthest(one: Answer, two: Answer): number {
  assert.deepEqual([one.logprobs.length, two.logprobs.length], [VOCABULARY, VOCABULARY]);
  return Math.max(...one.logprobs.map((value, token) => Math.abs(value - two.logprobs[token]!)));
}

/** Tokens without a pattern; the first three of the vocabulary mean something to vLLM. */
export function prompt(tokens: number, seed: number): number[] {
  let state = seed;
  return Array.from({ length: tokens }, () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return 3 + ((state >>> 8) % (VOCABULARY - 3));
  });
}
