/**
 * The connector for vLLM and a model whose KV is latent (MLA). Method: hand-over.ts. Runs where `npm run engines:install` has put vLLM.
 */
import assert from "node:assert/strict";
import { handOver, pieceStarts, starts } from "./hand-over.ts";
import { engineTest } from "./in-process.ts";

engineTest(
  "latent KV: arrives whole, in an engine whose blocks have another size where the processor allows for two",
  async (place, folder) => {
    const promptTokens = 601;
    const { loaded } = await handOver(place, folder, {
      model: "latent",
      promptTokens,
      stepTokens: 200,
      // vLLM 0.32's own CPU kernel turns only the first token's queries where they are a part of a larger tensor, as they are here.
      engine: { compilation_config: { custom_ops: ["-rotary_embedding"] } },
      // With AMX the prefill engine has blocks of 128 tokens, this one always of 16.
      decode: { attention_config: { backend: "CPU_MLA" } },
    });
    const [group, ...more] = loaded;
    assert.deepEqual(more, []);
    assert.deepEqual(starts(group!.pieces), pieceStarts(0, promptTokens - 1, 16));
  },
);
