/**
 * The connector for vLLM and a model with recurrent state beside attention. Method: hand-over.ts. Runs where `npm run engines:install` has put
 * vLLM.
 */
import assert from "node:assert/strict";
import { handOver, pieceStarts, starts } from "./hand-over.ts";
import { engineTest } from "./in-process.ts";

engineTest("recurrent state: is handed over as it was before the token that the decode engine computes", async (place, folder) => {
  const promptTokens = 601;
  const { loaded, handedOver, plain } = await handOver(place, folder, { model: "state", promptTokens, stepTokens: 200 });
  assert.equal(loaded.length, 2);
  const [state, attention] = loaded;
  assert.deepEqual(starts(state!.pieces), [0]);
  assert.deepEqual(starts(attention!.pieces), pieceStarts(0, promptTokens - 1, attention!.tokens));
  assert.notDeepEqual(handedOver.seen!.computed[0], state, "the last token must change the state");
  assert.deepEqual(handedOver.seen!.computed[0], plain.seen!.computed[0]);
  assert.deepEqual(handedOver.logprobs, plain.logprobs);
});
