/**
 * The connector for vLLM inside vLLM's MultiConnector, beside vLLM's ExampleConnector, which keeps KV in files. Method: two real engines with a
 * real model; the prefill's KV must be in the other connector's files and, over two sidecars, in the decode engine, whose answer is its own
 * plain one, token for token. Runs where `npm run engines:install` has put vLLM and the model.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../engines/demo/processes.ts";
import { type Answer, engineTest, InProcessEngine, startSidecars, untilUnused } from "./in-process.ts";

const PROMPT_TOKENS = 512;
const LAYERS = 30;
const COUNT = 8;

engineTest("inside a MultiConnector KV is handed over, saved by the other connector as well, and counted", async (place, folder) => {
  const [sender, receiver] = await startSidecars(folder);
  const start = (socket: string): Promise<InProcessEngine> =>
    new InProcessEngine(place, { model: place.model, socket, stepTokens: PROMPT_TOKENS - 1, beside: `${socket}.files` }).ready();
  const [prefill, decode] = await Promise.all([start(sender.socket), start(receiver.socket)]);
  const { ids } = await decode.ask({ text: readFileSync(join(ROOT, "engines/llama/prompts/harbour.txt"), "utf8") });
  const prompt = ids.slice(0, PROMPT_TOKENS);
  const answer = (params: Answer["params"]): Promise<Answer> => decode.ask({ ids: prompt, count: COUNT, params });

  const { params } = await prefill.prefill(prompt);
  assert.deepEqual(filesIn(`${sender.socket}.files`).length, LAYERS, "the other connector has saved it, too");
  const handedOver = await answer(params);
  assert.equal(handedOver.loads, 1, `nothing was loaded: ${decode.words}`);
  assert.equal((await receiver.ferry.stats()).bytesReceived, PROMPT_TOKENS * LAYERS * 2 * 3 * 64 * 2);
  assert.equal(handedOver.free, decode.free);

  // What the other connector has kept of the first answer must not answer this one.
  rmSync(`${receiver.socket}.files`, { recursive: true });
  const plain = await answer(null);
  assert.equal(plain.loads, 1);
  assert.deepEqual(handedOver.tokens, plain.tokens);
  await Promise.all([untilUnused(sender), untilUnused(receiver)]);
});

/** Of every layer of every prompt, a file. */
function filesIn(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".safetensors"));
}
