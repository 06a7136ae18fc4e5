/** Are the tokens of prompts whose KV came over the wire those of a plain run? */
import type { Figure } from "../suite-report.ts";
import { loads, loadsSince } from "./loads.ts";
import type { Pair } from "./pair.ts";
import type { Prompts } from "./prompts.ts";
import type { Completion } from "./vllm.ts";

const ANSWER_TOKENS = 32;
/** 24 prompts from 60 to 2,048 tokens, then two long ones. */
export const LENGTHS = [...Array.from({ length: 24 }, (_, at) => Math.round(60 * (2048 / 60) ** (at / 23))), 4000, 4000];

/**
 * So many tokens to a step, and prompts of one token more than whole steps: a plain run then computes the last token alone, as an engine does to which
 * the KV of all tokens has come. bf16 rounds a token that is computed alone otherwise than the same token in a batch.
 */
export const STEP_TOKENS = 64;

export function aloneLengths(lengths: readonly number[]): number[] {
  return lengths.map((tokens) => STEP_TOKENS * Math.round((tokens - 1) / STEP_TOKENS) + 1);
}

type Answer = Pick<Completion, "tokens" | "leads">;
type Run = (prompt: readonly number[]) => Promise<Answer>;

export async function parityFigures(
  pair: Pair,
  prompts: Prompts,
  lengths: readonly number[],
  concurrencies: readonly number[],
  say: (line: string) => void,
): Promise<Figure[]> {
  const asked = lengths.map((tokens) => prompts.take(tokens));
  const plain: Run = (prompt) => pair.decode.complete({ prompt, maxTokens: ANSWER_TOKENS });
  const handedOver: Run = async (prompt) => (await pair.handOver(prompt, ANSWER_TOKENS)).decode;
  const figures: Figure[] = [];
  const before = await loads(pair);
  for (const together of concurrencies) {
    say(`tokens at concurrency ${together}`);
    const first = await runAll(pair, asked, together, plain);
    const second = await runAll(pair, asked, together, plain);
    const ours = await runAll(pair, asked, together, handedOver);
    const [noise, differing] = [differences(first, second), differences(first, ours)];
    const ties =
      differing.length === 0 ? "" : `; where they part, the two best tokens were at most ${Math.max(...differing).toFixed(3)} nats apart`;
    figures.push({
      name: `greedy tokens of ${lengths.length} prompts (${Math.min(...lengths)} to ${Math.max(...lengths)} tokens), ${together} at once`,
      measured: `${lengths.length - differing.length} of ${lengths.length} as in a plain run${ties}; two plain runs: ${lengths.length - noise.length}`,
      wanted: together === 1 ? "all" : "as equal as two plain runs",
      met: together === 1 ? differing.length === 0 : differing.length <= noise.length + 1,
    });
  }
  const wanted = concurrencies.length * lengths.length;
  const { done, failed } = await loadsSince(pair, before, wanted);
  figures.push({
    name: "loads of these runs",
    measured: `${done} done, ${failed} failed`,
    wanted: `${wanted}, none failed`,
    met: done === wanted && failed === 0,
  });
  return figures;
}

async function runAll(pair: Pair, prompts: readonly (readonly number[])[], together: number, run: Run): Promise<readonly Answer[]> {
  await pair.forgetPrefixes();
  const results: Answer[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < prompts.length; at = next++) results[at] = await run(prompts[at]!);
  };
  await Promise.all(Array.from({ length: together }, worker));
  return results;
}

/** Of the answers that differ, how near the choice was where they part. A token that is computed alone rounds otherwise than in a batch. */
function differences(one: readonly Answer[], other: readonly Answer[]): number[] {
  return one.flatMap(({ tokens, leads }, at) => {
    const there = other[at]!.tokens;
    const parts = Array.from({ length: ANSWER_TOKENS }, (_, place) => place).find((place) => tokens[place] !== there[place]);
    if (parts === undefined && tokens.length === ANSWER_TOKENS) return [];
    return [leads[parts ?? -1] ?? Number.POSITIVE_INFINITY];
  });
}
