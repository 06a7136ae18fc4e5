/**
 * The connector for vLLM and a model with recurrent state beside attention. Method: hand-over.ts. Runs where `npm run engines:install` has put
 * vLLM.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { handOver, pieceStarts, starts } from "./hand-over.ts";
import { findOrWhy, scratchFolder } from "./in-process.ts";

const folder = scratchFolder();
const found = findOrWhy();
const skip = typeof found === "string" ? found : false;

test("recurrent state: is handed over as it was before the token that the decode engine computes", {
  skip,
  timeout: 170_000,
}, async () => {
  assert.ok(typeof found !== "string");
  const promptTokens = 601;
  const { loaded, handedOver, plain } = await handOver(found, folder, { model: "state", promptTokens, stepTokens: 200 });
  assert.equal(loaded.length, 2);
  const [state, attention] = loaded;
  assert.deepEqual(starts(state!.pieces), [0]);
  assert.deepEqual(starts(attention!.pieces), pieceStarts(0, promptTokens - 1, attention!.tokens));
  assert.notDeepEqual(handedOver.computed[0], state, "the last token must change the state");
  assert.deepEqual(handedOver.computed[0], plain.computed[0]);
  assert.deepEqual(handedOver.logprobs, plain.logprobs);
});
