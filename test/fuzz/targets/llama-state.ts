/** llama.cpp's state file: what parses is said by all of its bytes, so that written again it is the same. */
import assert from "node:assert/strict";
import { newState, parseState, type StateShape, writeState } from "../../../engines/llama/state.ts";
import { pureTarget, type Target } from "../target.ts";

const SHAPES: readonly StateShape[] = [
  { layers: 1, rowValues: 1, transposed: false, streams: 1 },
  { layers: 2, rowValues: 4, transposed: true, streams: 1 },
  { layers: 3, rowValues: 6, transposed: true, streams: 3 },
];

function seeds(): Uint8Array[] {
  return SHAPES.map(
    (shape, index) => newState({ shape, tokens: Uint32Array.of(1, 2, 3), stream: shape.streams - 1, sequence: index }).bytes,
  );
}

export const llamaTargets: readonly Target[] = [
  pureTarget("llama-state", "engines/llama/state.ts: the same bytes when written again, or a KvferryError", seeds, (input) => {
    const written = writeState(parseState(input));
    assert.ok(Buffer.compare(written, input) === 0, "a state is written as it was read");
  }),
];
