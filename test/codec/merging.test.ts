/**
 * Codecs that merge tokens: a tile of keys and values in, a map and two blocks out. Method: random specs and tiles; where nothing else is lost each token gets what
 * `mergeLayer` makes of its set, bit for bit; then chunks in the middle of a sequence, values that are no numbers, and chunks that are none.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NativeCodec, NativeMergingSpec } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import { Random } from "../fuzz/random.ts";
import {
  JOINED,
  KEPT,
  mapBytes,
  mapOf,
  mapsBytes,
  MERGED_HEAD_BYTES,
  mergeHeads,
  nibblesOf,
  PLAIN,
  randomMergingSpec,
  readMap,
  reseal,
  setsOf,
  skip,
  tileOf,
  wanderingParts,
} from "./merged.ts";
import { decode, elementBytes, emptyParts, encode, floatsOf, make } from "./tiles.ts";

const hasZstd = native?.codecCoders.zstd().problem === "";
const NONE = { quantizer: { kind: "none" }, codec: { kind: "none" } } as const;
const SHAPE = { element: "bf16", parts: 2, heads: 3, channels: 16 } as const;
const EXACT: NativeMergingSpec = {
  merge: { ...PLAIN, budget: 0.5, sigma: 5 },
  skipped: Uint8Array.of(0, 0),
  k: { ...SHAPE, ...NONE },
  v: { ...SHAPE, ...NONE },
};

/** [tokens, heads, channels] as [heads, tokens, channels], or the other way round. */
function turned(part: Uint8Array, outer: number, inner: number, bytes: number): Uint8Array {
  const out = new Uint8Array(part.length);
  for (let one = 0; one < outer; one++)
    for (let other = 0; other < inner; other++)
      out.set(part.subarray((one * inner + other) * bytes, (one * inner + other + 1) * bytes), (other * outer + one) * bytes);
  return out;
}

/** What comes back where merging alone loses something. */
function expanded({ merge, skipped, k }: NativeMergingSpec, parts: readonly Uint8Array[], tokens: number): Uint8Array[] {
  const { element, heads, channels } = k;
  const rowBytes = channels * elementBytes(element);
  const out = parts.map((part) => new Uint8Array(part.length));
  for (let layer = 0; layer < k.parts; layer++) {
    const planes = [layer, k.parts + layer].map((part) => turned(parts[part]!, tokens, heads, rowBytes));
    const merged = mergeHeads(merge, { element, heads, tokens, channels }, [planes[0]!, planes[1]!], undefined, skipped[layer] === 1)!;
    for (const [part, rowsOf] of [
      [layer, "keys"],
      [k.parts + layer, "values"],
    ] as const) {
      const plane = new Uint8Array(parts[part]!.length);
      merged.forEach((head, at) =>
        head.setOf.forEach((set, token) =>
          plane.set(head[rowsOf].subarray(set * rowBytes, (set + 1) * rowBytes), (at * tokens + token) * rowBytes),
        ),
      );
      out[part]!.set(turned(plane, heads, tokens, rowBytes));
    }
  }
  return out;
}

/** Rows of each head of each layer, as the chunk's map says. */
function rowsOf(spec: NativeMergingSpec, chunk: Uint8Array, tokens: number): number[] {
  return mapsOf(spec, chunk, tokens).map((map) => readMap(map, tokens).sizes.length);
}

function mapsOf({ k }: NativeMergingSpec, chunk: Uint8Array, tokens: number): Uint8Array[] {
  const each = mapBytes(tokens);
  return Array.from({ length: k.parts * k.heads }, (_, head) => {
    const at = MERGED_HEAD_BYTES + head * each;
    return chunk.subarray(at, at + each);
  });
}

function refusal(codec: NativeCodec, spec: NativeMergingSpec, chunk: Uint8Array, tokens: number): string {
  const parts = emptyParts(tileOf(spec), tokens);
  try {
    codec.decode(Uint8Array.from(chunk), parts, tokens, 0);
  } catch (error) {
    assert.equal((error as { code?: string }).code, "codec_failed");
    return (error as Error).message;
  }
  return "";
}

test("each token gets what its set has, bit for bit where nothing else is lost", { skip }, () => {
  let merged = 0;
  for (let seed = 1; seed <= 300; seed++) {
    const random = new Random(seed);
    const spec = randomMergingSpec(random, hasZstd, true);
    const tokens = random.between(1, 70);
    const parts = wanderingParts(spec, tokens, random);
    const codec = make(spec);
    const { block, stored } = encode(codec, parts, tokens, 0);
    assert.equal(stored, "");
    assert.deepEqual(decode(codec, tileOf(spec), block, tokens, 0), expanded(spec, parts, tokens), `seed ${seed}`);
    merged += rowsOf(spec, block, tokens).filter((rows) => rows < tokens).length;
  }
  assert.ok(merged > 300, `${merged} heads had sets of several tokens`);
});

test("other losses come on top, and every instruction set makes the same chunk", { skip }, () => {
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed);
    const spec = randomMergingSpec(random, hasZstd, false);
    const tokens = random.between(1, 70);
    const [position, beyond] = [random.pick([0, 2, 500]), random.pick([0, 1, 900])];
    const parts = wanderingParts(spec, tokens, random);
    const codecs = native!.codecIsas.map((isa) => make({ ...spec, k: { ...spec.k, isa }, v: { ...spec.v, isa } }));
    const [first, ...others] = codecs.map((codec) => encode(codec, parts, tokens, position, position + tokens + beyond).block);
    for (const other of others) assert.deepEqual(other, first);
    const back = codecs.map((codec) => decode(codec, tileOf(spec), first!, tokens, position));
    for (const other of back) assert.deepEqual(other, back[0]);
    assert.ok(back[0]!.every((part) => floatsOf(spec.k.element, part).every(Number.isFinite)));
  }
});

test("a budget is hit in every head of every chunk; sinks are of the sequence's beginning, recent tokens of its end", { skip }, () => {
  const tokens = 40;
  const spec = { ...EXACT, merge: { ...EXACT.merge, budget: 0.25, sinks: 6, recent: 0.1 } };
  const codec = make(spec);
  const parts = wanderingParts(spec, tokens, new Random(1));
  for (const [position, end, first, last] of [
    [0, 40, 6, 4],
    [0, 100, 6, 0],
    [4, 400, 2, 0],
    [60, 100, 0, 10],
    [50, 100, 0, 0],
    [55, 100, 0, 5],
    [1_000, 1_040, 0, 40],
  ] as const) {
    const { block } = encode(codec, parts, tokens, position, end);
    for (const map of mapsOf(spec, block, tokens)) {
      const marks = nibblesOf(map, tokens).map((bits) => bits & 3);
      assert.deepEqual(
        [marks.slice(0, first), marks.slice(tokens - last)],
        [new Uint8Array(first).fill(KEPT), new Uint8Array(last).fill(KEPT)],
      );
      assert.ok(marks.slice(first, tokens - last).every((mark) => mark !== KEPT));
      assert.equal(setsOf(readMap(map, tokens)).length, Math.max(10, first + last + (first + last < tokens ? 1 : 0)));
    }
  }
});

test("layers that are skipped stay as they are, and a chunk has as many rows as its longest head", { skip }, () => {
  const spec = { ...EXACT, skipped: Uint8Array.of(0, 1) };
  const parts = wanderingParts(spec, 30, new Random(2));
  const { block } = encode(make(spec), parts, 30, 0);
  assert.deepEqual(rowsOf(spec, block, 30), [15, 15, 15, 30, 30, 30]);
  assert.equal(new DataView(block.buffer).getUint32(8, true), 30);
  const back = decode(make(spec), tileOf(spec), block, 30, 0);
  assert.deepEqual([back[1], back[3]], [parts[1], parts[3]]);
  assert.notDeepEqual(back[0], parts[0]);
});

test("where some value is no number nothing is merged", { skip }, () => {
  const codec = make(EXACT);
  for (const tokens of [1, 30, 31])
    for (let part = 0; part < 4; part++) {
      const parts = wanderingParts(EXACT, tokens, new Random(3));
      new DataView(parts[part]!.buffer).setUint16(2 * (tokens - 1), 0x7f80 + part, true);
      const { block, stored } = encode(codec, parts, tokens, 0);
      assert.equal(stored, "not_finite");
      assert.deepEqual(decode(codec, tileOf(EXACT), block, tokens, 0), parts);
    }
});

test("chunks that are none are refused, and no bytes outside are touched", { skip }, () => {
  const tokens = 21;
  const codec = make(EXACT);
  const parts = wanderingParts(EXACT, tokens, new Random(4));
  const { block } = encode(codec, parts, tokens, 0);
  const maps = mapsBytes(EXACT, tokens);
  assert.equal(refusal(codec, EXACT, block, tokens), "");
  for (let length = 0; length < block.length; length++) assert.notEqual(refusal(codec, EXACT, block.subarray(0, length), tokens), "");
  assert.notEqual(refusal(codec, EXACT, Buffer.concat([block, Uint8Array.of(0)]), tokens), "");
  const heads = MERGED_HEAD_BYTES + maps;
  for (let at = 0; at < heads; at++)
    assert.notEqual(
      refusal(
        codec,
        EXACT,
        block.map((byte, index) => (index === at ? byte ^ 4 : byte)),
        tokens,
      ),
      "",
    );
  const changed = (change: (chunk: Uint8Array, view: DataView) => void): string => {
    const chunk = Uint8Array.from(block);
    change(chunk, new DataView(chunk.buffer));
    reseal(chunk, maps);
    return refusal(codec, EXACT, chunk, tokens);
  };
  const put = (nibbles: ArrayLike<number>) => (chunk: Uint8Array) => chunk.set(mapOf(nibbles), MERGED_HEAD_BYTES);
  const kept = new Uint8Array(tokens).fill(KEPT | 4);
  for (const [change, message] of [
    [(chunk: Uint8Array) => void (chunk[0] = 0), /this is no merged chunk/],
    [(chunk: Uint8Array) => void (chunk[4] = 2), /another version/],
    [(chunk: Uint8Array) => void (chunk[7] = 1), /another version/],
    [(_: Uint8Array, view: DataView) => view.setUint32(12, 2 ** 32 - 1, true), /shorter than its keys/],
    [
      (_: Uint8Array, view: DataView) => view.setUint32(12, view.getUint32(12, true) + 1, true),
      /keys: the block is not as long as it says/,
    ],
    [(_: Uint8Array, view: DataView) => view.setUint32(8, 2 ** 32 - 1, true), /another number of rows/],
    [(_: Uint8Array, view: DataView) => view.setUint32(8, 12, true), /another number of rows/],
    // A map with more sets, and the rows that go with it: the blocks have fewer.
    [put(kept), /another number of rows/],
    [
      (chunk: Uint8Array, view: DataView) => {
        put(kept)(chunk);
        view.setUint32(8, tokens, true);
      },
      /keys: the block has \d+ tokens from position 0, expected 21/,
    ],
    [put([JOINED, ...kept.slice(1)]), /head 0: token 0 has 1/],
    [put([0, ...kept.slice(1)]), /head 0: the set of token 0 has not one pivot/],
  ] as const)
    assert.match(changed(change), message);
  assert.match(refusal(codec, EXACT, block, tokens - 1), /./);
  assert.match(
    refusal(make({ ...EXACT, v: { ...EXACT.v, codec: { kind: "exponent" } } }), EXACT, block, tokens),
    /values: the block is of spec/,
  );
});

test("specs that make no sense are refused", { skip }, () => {
  for (const [change, message] of [
    [{ skipped: Uint8Array.of(0) }, /as many flags as there are layers/],
    [{ v: { ...EXACT.v, heads: 2 } }, /one shape/],
    [{ v: { ...EXACT.v, element: "f16" } }, /one shape/],
    [{ merge: { ...EXACT.merge, members: 0 } }, /merge\.members/],
    [{ merge: { ...EXACT.merge, sinks: -1 } }, /merge\.sinks/],
    [{ k: { ...EXACT.k, channels: 0 } }, /channels/],
  ] as const)
    assert.throws(() => make({ ...EXACT, ...(change as Partial<NativeMergingSpec>) }), message);
});
