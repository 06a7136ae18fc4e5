/**
 * The KLT of GPU codecs on the emulator: f16 factors of a tiled product, so blocks are not the oracle's bytes; they decode on it, and its on them.
 * Method: random specs as in codec.test.ts. Blocks of the emulator, decoded by the oracle, are as near as steps and f16 allow; blocks of the oracle decode to within
 * one step of bf16, at a row's largest value, of what the oracle makes of them.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { bytesOf, encode, make, randomMatrix, randomParts, rowsOf, widthOf } from "../codec/tiles.ts";
import { Random } from "../fuzz/random.ts";
import { DEVICES, device, makeCase, numbersOf, type Tile } from "./cases.ts";
import { makePaged, takeParts } from "./paged.ts";
import { randomProductSpec } from "./specs.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const SPECS = Number(process.env["KVFERRY_TEST_DEVICE_SPECS"] ?? 60);

const length = (values: ArrayLike<number>): number => Math.sqrt(Array.from(values).reduce((sum, value) => sum + value * value, 0));
const most = (values: ArrayLike<number>): number => Array.from(values).reduce((found, value) => Math.max(found, Math.abs(value)), 0);

test(`${SPECS} random specs with a KLT`, { skip }, () => {
  let coded = 0;
  for (let seed = 1; seed <= SPECS; seed++) {
    const { spec, tiles, paged, parts, expected } = makeCase(seed, randomProductSpec);
    const oracle = make({ ...spec, isa: "scalar" });
    const { mean = [], scale = [1] } = spec.transform ?? {};
    const scales = Array.from(scale, Math.abs);
    const [least, greatest] = [Math.min(...scales), Math.max(...scales)];
    const steps = spec.quantizer.kind === "step" ? length(spec.quantizer.steps) : 0;
    const made = DEVICES.map((name) => device(spec, name).encode(paged.memory, paged.numbers, paged.lists, numbersOf(tiles)));
    for (const [at, { tokens, position }] of tiles.entries()) {
      const block = made[0]?.[at]?.block as Uint8Array;
      assert.equal(Buffer.compare(made[1]?.[at]?.block as Uint8Array, block), 0, `seed ${seed}: whatever the order of threads`);
      coded += made[0]?.[at]?.stored === "" ? 1 : 0;
      const before = rowsOf(spec, parts[at] as Uint8Array[], tokens);
      const back = (parts[at] as Uint8Array[]).map((part) => new Uint8Array(part.length));
      oracle.decode(block, back, tokens, position);
      for (const [token, row] of rowsOf(spec, back, tokens).entries()) {
        const original = before[token] as Float32Array;
        const centered = (length(original) + length(mean)) * greatest;
        const allowed = (steps / 2 + centered * 2 ** -9) / least + (length(original) + length(mean)) * 2 ** -8;
        const error = length(row.map((value, column) => value - (original[column] as number)));
        assert.ok(error <= allowed, `seed ${seed}, tile ${at}, token ${token}: ${error} away, ${allowed} allowed`);
      }
    }
    for (const name of DEVICES) {
      paged.memory.fill(0x33);
      const problems = device(spec, name).decode(
        expected.map(({ block }) => block),
        paged.memory,
        paged.numbers,
        paged.lists,
        numbersOf(tiles),
      );
      assert.deepEqual(
        problems,
        tiles.map(() => ""),
      );
      for (const [at, { token, tokens, position }] of tiles.entries()) {
        const wanted = (parts[at] as Uint8Array[]).map((part) => new Uint8Array(part.length));
        oracle.decode((expected[at] as { block: Uint8Array }).block, wanted, tokens, position);
        const found = rowsOf(spec, takeParts(paged, token, tokens), tokens);
        for (const [index, row] of rowsOf(spec, wanted, tokens).entries()) {
          const step = ((most(row) + most(mean)) * 2 ** -7 * greatest) / least;
          const error = most(row.map((value, column) => value - ((found[index] as Float32Array)[column] as number)));
          assert.ok(error <= step, `seed ${seed}, tile ${at}, token ${index} of ${widthOf(spec)}: ${error} away, ${step} allowed`);
        }
      }
    }
  }
  assert.ok(coded > SPECS / 2, `${coded} tiles were coded`);
});

test("values that f16 does not hold are out of range, not clipped", { skip }, () => {
  let met = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const { spec, tiles, paged } = makeCase(seed, randomProductSpec);
    const at = tiles.findIndex(({ tokens, position }) => tokens > 0 && position >= 4);
    if (at < 0 || spec.element !== "bf16") continue;
    const { token, tokens, position, end } = tiles[at] as Tile;
    // About 1e20 everywhere.
    paged.memory.fill(0x61);
    const [made] = device(spec, "emulator").encode(paged.memory, paged.numbers, paged.lists, numbersOf([{ token, tokens, position, end }]));
    assert.equal(made?.stored, "out_of_range");
    met++;
  }
  assert.ok(met > 5);
});

test("a block of the CPU's whose values f16 does not hold is refused by name, and the one beside it decodes", { skip }, () => {
  const random = new Random(1);
  const shape = { element: "bf16", parts: 1, heads: 2, channels: 64, exempt: 0 } as const;
  const spec: NativeCodecSpec = {
    ...shape,
    transform: { klt: { block: 64, matrices: Float32Array.from([...randomMatrix(64, random), ...randomMatrix(64, random)]) } },
    quantizer: { kind: "step", steps: new Float32Array(128).fill(1) },
    codec: { kind: "rans-static", classes: new Uint8Array(128).fill(20) },
  };
  const oracle = make(spec);
  const tokens = 16;
  // One token of a million, which takes escapes and no more.
  const far = bytesOf("bf16", new Float32Array(128 * tokens).fill(1e6, 0, 128));
  const blocks = [[far], randomParts(spec, tokens, random)].map((parts, at) => encode(oracle, parts, tokens, at * tokens));
  assert.deepEqual(
    blocks.map(({ stored }) => stored),
    ["", ""],
  );
  const paged = makePaged(spec, 2 * tokens, random);
  const tiles = Float64Array.of(0, tokens, 0, 2 * tokens, tokens, tokens, tokens, 2 * tokens);
  for (const name of DEVICES) {
    const problems = device(spec, name).decode(
      blocks.map(({ block }) => block),
      paged.memory,
      paged.numbers,
      paged.lists,
      tiles,
    );
    assert.deepEqual(problems, ["the block's values are beyond f16, in which a device multiplies", ""]);
  }
});
