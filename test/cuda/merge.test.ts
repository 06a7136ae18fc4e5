/**
 * Token merging on the emulator: what native/codec/merge.h makes of the same sets.
 * Method: random keys in paged KV, so alike that they merge; sets as they are made on CPUs, of each head; all of both results compared, bit for bit.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { mergeHeads } from "../codec/merged.ts";
import { bytesOf, floatsOf, gaussian } from "../codec/tiles.ts";
import { Random } from "../fuzz/random.ts";
import { DEVICES } from "./cases.ts";
import { makePaged, putParts } from "./paged.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;

/** Keys that wander slowly, and values, as bf16; with them one head's share of the same. */
function randomKv(random: Random, tokens: number, heads: number, channels: number) {
  const row = heads * channels;
  const walk = Float32Array.from({ length: row }, () => gaussian(random));
  const keys = new Float32Array(tokens * row);
  for (let at = 0; at < keys.length; at++) {
    if (at % row === 0 && random.chance(1, 3)) for (let column = 0; column < row; column++) walk[column] = gaussian(random) * 3;
    keys[at] = (walk[at % row] as number) + 0.05 * gaussian(random);
  }
  const parts = [keys, Float32Array.from(keys, () => gaussian(random))].map((floats) => bytesOf("bf16", floats));
  const ofHead = (part: number, head: number): Float32Array =>
    floatsOf("bf16", parts[part] as Uint8Array).filter((_, at) => Math.floor((at % row) / channels) === head);
  return { parts, ofHead };
}

test("sets of any size, pivots, weights and scaled values", { skip }, () => {
  assert.ok(native !== undefined, "there is an addon");
  let merged = 0;
  for (let seed = 1; seed <= 80; seed++) {
    const random = new Random(seed);
    const [tokens, heads, channels] = [random.between(1, 60), random.between(1, 3), random.pick([8, 64, 72])];
    const spec: NativeCodecSpec = { element: "bf16", parts: 2, heads, channels, quantizer: { kind: "none" }, codec: { kind: "none" } };
    const { parts, ofHead } = randomKv(random, tokens, heads, channels);
    const paged = makePaged(spec, tokens, random);
    putParts(paged, parts, 0, tokens);
    const attention = Float32Array.from({ length: heads * tokens }, () => random.below(20) / 4);
    const weights = { sigma: random.pick([0.5, 5, Number.POSITIVE_INFINITY]), isSum: random.chance(1, 2), byLayer: false };
    const kept = { budget: random.pick([0.35, 0.5, 0.8]), sinks: 4, recent: 0.1, heavy: 0.1, members: random.pick([4, 64]) };
    // As floats of 32 bits nothing is rounded that the device does not round.
    const planes = [0, 1].map((part) => bytesOf("f32", Array.from({ length: heads }, (_, head) => [...ofHead(part, head)]).flat()));
    const perHead = mergeHeads({ ...weights, ...kept }, { element: "f32", heads, tokens, channels }, [planes[0]!, planes[1]!], attention)!;
    const sets = perHead.flatMap(({ sets: ofOne }) => ofOne);
    const begins = Uint32Array.from([0, ...sets.map(({ length }) => length)]);
    for (let at = 1; at < begins.length; at++) begins[at] = (begins[at] as number) + (begins[at - 1] as number);
    const members = Uint32Array.from(sets.flat());
    const headOf = Uint32Array.from(perHead.flatMap(({ sets: ofOne }, head) => ofOne.map(() => head)));
    merged += sets.filter(({ length }) => length > 1).length;
    for (const name of DEVICES) {
      const found = native.mergeTokens(
        ...([name, heads, channels, paged.memory, paged.numbers, paged.lists, Float64Array.of(0, tokens, 0, 0)] as const),
        ...([begins, members, headOf, attention, weights.sigma, weights.isSum] as const),
      );
      const join = (pick: (one: (typeof perHead)[number]) => ArrayLike<number>) => perHead.flatMap((one) => Array.from(pick(one)));
      for (const [what, ours, theirs] of [
        ["pivots", found.pivots, join(({ pivots }) => pivots)],
        ["keys", found.keys, join(({ keys }) => floatsOf("f32", keys))],
        ["values", found.values, join(({ values }) => floatsOf("f32", values))],
      ] as const)
        assert.deepEqual(Array.from(ours), theirs, `${what} of seed ${seed}`);
    }
  }
  assert.ok(merged > 100, `${merged} sets had several members`);
});

test("sets that make no sense are refused", { skip }, () => {
  assert.ok(native !== undefined, "there is an addon");
  const paged = makePaged(
    { element: "bf16", parts: 2, heads: 1, channels: 8, quantizer: { kind: "none" }, codec: { kind: "none" } },
    4,
    new Random(1),
  );
  const merge = (begins: readonly number[], members: readonly number[], sigma = 5) =>
    native?.mergeTokens(
      ...(["emulator", 1, 8, paged.memory, paged.numbers, paged.lists, Float64Array.of(0, 4, 0, 0)] as const),
      ...([
        Uint32Array.from(begins),
        Uint32Array.from(members),
        new Uint32Array(begins.length - 1),
        new Float32Array(4),
        sigma,
        false,
      ] as const),
    );
  assert.equal(merge([0, 2, 4], [0, 1, 2, 3])?.pivots.length, 2);
  assert.throws(() => merge([0, 0, 4], [0, 1, 2, 3]), /at least one token/);
  assert.throws(() => merge([0, 2, 4], [0, 1, 2, 4]), /within the tile/);
  assert.throws(() => merge([0, 2, 5], [0, 1, 2, 3]), /at least one token/);
  assert.throws(() => merge([0, 4], [0, 1, 2, 3], 0), /sigma/);
});
