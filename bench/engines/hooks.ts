/** What the connector's hooks take from the model runner, when it carries KV and when it has nothing to do. */
import type { Figure } from "../suite-report.ts";
import type { Pair } from "./pair.ts";
import type { Prompts } from "./prompts.ts";

const PROMPT_TOKENS = 2_048;
const DECODE_TOKENS = 128;

export async function hookFigures(pair: Pair, prompts: Prompts): Promise<Figure[]> {
  const seconds = (): Promise<number> => pair.prefill.metric("vllm:kvferry_hook_seconds_total");
  await pair.forgetPrefixes();
  const before = await seconds();
  const { totalMs } = await pair.prefill.prefill({ prompt: prompts.take(PROMPT_TOKENS) });
  const saving = (await settledValue(seconds, before)) - before;
  const idleBefore = await seconds();
  const plain = await pair.prefill.complete({ prompt: prompts.take(16), maxTokens: DECODE_TOKENS });
  const idle = (await settledValue(seconds, idleBefore)) - idleBefore;
  const decodeMs = plain.totalMs - plain.firstMs;
  return [
    {
      name: `hooks in a prefill of ${PROMPT_TOKENS} tokens whose KV is saved`,
      measured: `${(1e3 * saving).toFixed(1)} ms of ${totalMs.toFixed(0)} ms: ${((100 * 1e3 * saving) / totalMs).toFixed(2)} %`,
      wanted: "at most 2 %",
      met: (1e3 * saving) / totalMs <= 0.02,
    },
    {
      name: "hooks in a decode step that moves nothing",
      measured: `${((1e6 * idle) / DECODE_TOKENS).toFixed(0)} us of ${(decodeMs / DECODE_TOKENS).toFixed(1)} ms: ${((100 * 1e3 * idle) / decodeMs).toFixed(2)} %`,
      wanted: "under 1 %",
      met: (1e3 * idle) / decodeMs < 0.01,
    },
  ];
}

/** vLLM passes statistics on with some delay. */
async function settledValue(read: () => Promise<number>, before: number): Promise<number> {
  let last = before;
  for (let quiet = 0, waited = 0; quiet < 3 && waited < 40; waited++) {
    await new Promise((resolve) => setTimeout(resolve, 250));
    const now = await read();
    quiet = now === last && now > before ? quiet + 1 : 0;
    last = now;
  }
  return last;
}
