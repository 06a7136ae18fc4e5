/** Are the tokens of prompts whose KV came over the wire those of a plain run? */
import type { Figure } from "../suite-report.ts";
import type { Pair } from "./pair.ts";
import type { Prompts } from "./prompts.ts";

const ANSWER_TOKENS = 32;
/** 24 prompts from 60 to 2,048 tokens, then two long ones. */
export const LENGTHS = [...Array.from({ length: 24 }, (_, at) => Math.round(60 * (2048 / 60) ** (at / 23))), 4000, 4000];

type Run = (prompt: readonly number[]) => Promise<readonly string[]>;

export async function parityFigures(
  pair: Pair,
  prompts: Prompts,
  lengths: readonly number[],
  say: (line: string) => void,
): Promise<Figure[]> {
  const asked = lengths.map((tokens) => prompts.take(tokens));
  const plain: Run = async (prompt) => (await pair.decode.complete({ prompt, maxTokens: ANSWER_TOKENS })).tokens;
  const handedOver: Run = async (prompt) => (await pair.handOver(prompt, ANSWER_TOKENS)).decode.tokens;
  const figures: Figure[] = [];
  const before = await loads(pair);
  for (const together of [1, 4, 16]) {
    say(`tokens at concurrency ${together}`);
    const first = await runAll(pair, asked, together, plain);
    const second = await runAll(pair, asked, together, plain);
    const ours = await runAll(pair, asked, together, handedOver);
    const [noise, differing] = [differences(first, second), differences(first, ours)];
    figures.push({
      name: `greedy tokens of ${lengths.length} prompts (${Math.min(...lengths)} to ${Math.max(...lengths)} tokens), ${together} at once`,
      measured: `${lengths.length - differing} of ${lengths.length} as in a plain run; two plain runs: ${lengths.length - noise}`,
      wanted: together === 1 ? "all" : "as equal as two plain runs",
      met: together === 1 ? differing === 0 : differing <= noise + 1,
    });
  }
  const after = await loadsOf(pair, before.done + 3 * lengths.length);
  const [done, failed] = [after.done - before.done, after.failed - before.failed];
  figures.push({
    name: "loads of these runs",
    measured: `${done} done, ${failed} failed`,
    wanted: `${3 * lengths.length}, none failed`,
    met: done === 3 * lengths.length && failed === 0,
  });
  return figures;
}

async function runAll(pair: Pair, prompts: readonly (readonly number[])[], together: number, run: Run): Promise<readonly string[][]> {
  await pair.forgetPrefixes();
  const results: string[][] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < prompts.length; at = next++) results[at] = [...(await run(prompts[at]!))];
  };
  await Promise.all(Array.from({ length: together }, worker));
  return results;
}

function differences(one: readonly (readonly string[])[], other: readonly (readonly string[])[]): number {
  return one.filter((tokens, at) => tokens.length !== ANSWER_TOKENS || tokens.join("\0") !== other[at]?.join("\0")).length;
}

export async function loads(pair: Pair): Promise<{ readonly done: number; readonly failed: number }> {
  return {
    done: await pair.decode.metric("vllm:kvferry_load_seconds_count"),
    failed: await pair.decode.metric("vllm:kvferry_failed_loads_total"),
  };
}

/** The same once so many are done: vLLM passes statistics on with some delay. */
export async function loadsOf(pair: Pair, done: number): Promise<{ readonly done: number; readonly failed: number }> {
  let counted = await loads(pair);
  for (let waited = 0; counted.done < done && waited < 20; waited++) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    counted = await loads(pair);
  }
  return counted;
}
