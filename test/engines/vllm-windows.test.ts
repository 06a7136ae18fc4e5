/**
 * The connector for vLLM and a model with sliding windows beside full attention, in three cache groups. Method: hand-over.ts. Runs where `npm
 * run engines:install` has put vLLM.
 */
import assert from "node:assert/strict";
import { handOver, pieceStarts, starts } from "./hand-over.ts";
import { engineTest } from "./in-process.ts";

engineTest("sliding windows beside full attention: the blocks that windows still need arrive, and no others", async (place, folder) => {
  // The window of the last token begins with the last token of a block, which vLLM lets go of once it takes that token for computed.
  const promptTokens = 639;
  const { loaded, handedOver, plain } = await handOver(place, folder, { model: "windows", promptTokens, stepTokens: 319 });
  assert.deepEqual(
    loaded.map(({ window }) => window),
    [128, 128, null],
  );
  for (const { window, tokens, pieces } of loaded) {
    const firstNeeded = window === null ? 0 : promptTokens - window;
    const expected = pieceStarts(Math.floor(firstNeeded / tokens) * tokens, promptTokens - 1, tokens);
    assert.deepEqual(starts(pieces), expected);
    assert.ok(window === null || (expected[0] ?? 0) > 0, "the prompt is not longer than the window");
  }
  // Both compute the last token alone, so not even rounding differs.
  assert.deepEqual(handedOver.logprobs, plain.logprobs);
});
