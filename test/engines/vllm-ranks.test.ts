/**
 * The connector for vLLM between engines of unequal tensor-parallel degree. Method: an engine whose two ranks hold a KV head each, beside a
 * sidecar each, and an engine that holds both; whichever prefills, the other's first token must be as likely as after its own prefill, and
 * otherwise likely after another prompt. Runs where `npm run engines:install` has put vLLM.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { SidecarProcess } from "../../engines/demo/processes.ts";
import { farthest, prompt, ROUNDING } from "./hand-over.ts";
import { type Answer, engineTest, InProcessEngine, startPooled, untilUnused } from "./in-process.ts";
import { writeCheckpoint } from "./models.ts";

const PROMPT_TOKENS = 300;
/** Four layers, K and V, 64 values of two bytes. */
const HEAD_BYTES = PROMPT_TOKENS * 4 * 2 * 64 * 2;
const RANKS = 2;

engineTest("a prompt's KV goes from two ranks to one, and from one to two", async (place, folder) => {
  const model = writeCheckpoint(place, folder, "dense");
  const start = (name: string): Promise<SidecarProcess> => startPooled(folder, name, { "pool-block-bytes": "64KiB" });
  const halves = [await start("rank-0"), await start("rank-1")];
  const whole = await start("whole");
  // Unpacked, because on processors with AMX a block of one head lies otherwise than one of two.
  const common = { model, stepTokens: PROMPT_TOKENS - 1, connector: { unpack: true } };
  const engine = (socket: string, ranks: number): InProcessEngine =>
    new InProcessEngine(place, {
      ...common,
      socket,
      engine: { skip_tokenizer_init: true, tensor_parallel_size: ranks, ...(ranks === 1 ? {} : { distributed_executor_backend: "mp" }) },
    });
  const engines = [engine(join(folder, "rank-{rank}.sock"), RANKS), engine(whole.socket, 1)] as const;
  const [cut, uncut] = (await Promise.all(engines.map((each) => each.ready()))) as [InProcessEngine, InProcessEngine];

  await handsOver(cut, uncut, 1);
  assert.equal((await whole.ferry.stats()).bytesReceived, RANKS * HEAD_BYTES);
  await handsOver(uncut, cut, 2);
  for (const half of halves) assert.equal((await half.ferry.stats()).bytesReceived, HEAD_BYTES);
  await Promise.all([...halves, whole].map(untilUnused));
});

async function handsOver(from: InProcessEngine, to: InProcessEngine, seed: number): Promise<void> {
  const ids = prompt(PROMPT_TOKENS, seed);
  const ask = (asked: readonly number[], params: Answer["params"]): Promise<Answer> =>
    to.ask({ ids: asked, count: 4, params, watch: true });
  const { params } = await from.prefill(ids);
  const handedOver = await ask(ids, params);
  const plain = await ask(ids, null);
  const other = await ask(prompt(PROMPT_TOKENS, seed + 10), null);
  assert.ok(handedOver.loads > 0 && other.loads === handedOver.loads, `nothing was loaded: ${to.words}`);
  assert.ok(farthest(handedOver, plain) < ROUNDING);
  assert.ok(farthest(other, plain) > 2 * ROUNDING, "another prompt with the same answer would prove nothing");
  assert.deepEqual([handedOver.free, other.free], [to.free, to.free]);
}
