/**
 * From profiles to what native does. Method: 10,000 random profiles that fit give a spec for every tile of a made model, which native takes; the numbers of single
 * columns are worked out by hand for the diagonal profile; what a model or a calibration does not fit is refused in words.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { nvcompOf } from "../../transport/codec/fit.ts";
import { GAUSSIAN_TABLES, gaussianClass } from "../../transport/codec/gaussian.ts";
import { mergingSpecOf } from "../../transport/codec/merge-spec.ts";
import { parseProfile } from "../../transport/codec/parse.ts";
import { PRESETS } from "../../transport/codec/presets.ts";
import { type ModelShape, specOf, tilesOf } from "../../transport/codec/spec.ts";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import { fittingProfile } from "./arbitrary.ts";
import { refused } from "../refusal.ts";
import { calibrationOf, plainSource, ROPE } from "./made.ts";

const SHAPE = { layers: 3, heads: 2, channels: 4, tokens: 64 };
const rope = ROPE(SHAPE.channels);
const source = { ...plainSource(SHAPE, rope), querySquare: Float32Array.from({ length: 24 }, (_, at) => 0.25 + at) };
const calibration = calibrationOf({ sources: [source], klt: [0, 1, 2, 3, 4] });
const model: ModelShape = { model: "made", element: "bf16", ...SHAPE, rope };
const K0 = { side: "k", firstLayer: 0, layers: 1 } as const;

const refusal = (run: () => unknown): string => refused(run, "invalid_argument").detail;

function isRefused(run: () => unknown, message: RegExp): boolean {
  try {
    run();
    return false;
  } catch (error) {
    return message.test(String(error));
  }
}

function numbersOf(spec: NativeCodecSpec): (ArrayLike<number> | undefined)[] {
  const { transform, quantizer, codec } = spec;
  const own = quantizer.kind === "step" ? quantizer.steps : undefined;
  return [transform?.mean, transform?.scale, transform?.signs, own, codec.kind === "rans-static" ? codec.classes : undefined];
}

test("10,000 profiles that fit give a spec for every tile, of the tile's width, and native takes it", () => {
  const codecs = native === undefined ? undefined : native.NativeCodec;
  fc.assert(
    fc.property(fittingProfile({ layers: SHAPE.layers, heads: SHAPE.heads, tileLayersMax: 4 }), (drawn) => {
      const given = parseProfile(drawn);
      assert.equal(given.merge === undefined, !isRefused(() => specOf(given, K0, model, calibration), /tokens are merged before/));
      if (given.merge !== undefined) {
        const [first] = tilesOf(given, SHAPE.layers);
        const merging = () => mergingSpecOf({ ...given, merge: given.merge! }, first!, model, calibration);
        const isLz4 = given.k.codec.kind === "lz4" || given.v.codec.kind === "lz4";
        if (isLz4 || given.merge.pivot === "attention") assert.match(refusal(merging), /lz4 is a yardstick|the attention that tokens got/);
        else if (codecs === undefined) merging();
        else if (nvcompOf(given) !== undefined) assert.throws(() => new codecs(merging()), /nvCOMP codes in/);
        else assert.doesNotThrow(() => new codecs(merging()));
      }
      const profile = parseProfile({ ...drawn, merge: undefined });
      let planes = 0;
      for (const tile of tilesOf(profile, SHAPE.layers)) {
        planes += tile.layers;
        if (profile[tile.side].codec.kind === "lz4") {
          assert.match(
            refusal(() => specOf(profile, tile, model, calibration)),
            /lz4 is a yardstick for files/,
          );
          continue;
        }
        const spec = specOf(profile, tile, model, calibration);
        const width = tile.layers * SHAPE.heads * SHAPE.channels;
        for (const numbers of numbersOf(spec)) if (numbers !== undefined) assert.equal(numbers.length, width);
        if (spec.transform?.klt !== undefined) assert.equal(spec.transform.klt.matrices.length, width * spec.transform.klt.block);
        if (codecs !== undefined && spec.codec.kind.startsWith("nvcomp")) assert.throws(() => new codecs(spec), /nvCOMP codes in/);
        else if (codecs !== undefined) assert.doesNotThrow(() => new codecs(spec));
      }
      assert.equal(planes, 2 * SHAPE.layers);
    }),
    { numRuns: 10_000 },
  );
});

test("a part of the heads has the numbers of these, unless a KLT joins them with others", () => {
  const second: ModelShape = { ...model, heads: 1, firstHead: 1 };
  let cut = 0;
  fc.assert(
    fc.property(fittingProfile({ layers: SHAPE.layers, heads: SHAPE.heads, tileLayersMax: 4 }), (drawn) => {
      const profile = parseProfile({ ...drawn, merge: undefined });
      for (const tile of tilesOf(profile, SHAPE.layers)) {
        const pipeline = profile[tile.side];
        if (pipeline.codec.kind === "lz4") continue;
        if (pipeline.transform.some((one) => one.kind === "klt" && one.block === "tile")) {
          assert.match(
            refusal(() => specOf(profile, tile, second, calibration)),
            /joins all 2 heads of a layer, and 1 are here/,
          );
          continue;
        }
        const [whole, part] = [specOf(profile, tile, model, calibration), specOf(profile, tile, second, calibration)];
        const [theirs, ours] = [whole, part].map(({ transform, quantizer, codec }) => ({
          columns: [transform?.mean, transform?.scale, stepsIn(quantizer), codec.kind === "rans-static" ? codec.classes : undefined],
          rows: transform?.klt?.matrices,
          levels: "levels" in quantizer && quantizer.kind === "group" ? quantizer.levels : undefined,
        }));
        const { channels } = SHAPE;
        for (const [at, numbers] of ours!.columns.entries()) assert.deepEqual(numbers, ofSecond(theirs!.columns[at], channels));
        assert.deepEqual(ours!.rows, ofSecond(theirs!.rows, channels * channels));
        assert.deepEqual(ours!.levels, ofSecond(theirs!.levels, 1));
        cut += 1;
      }
    }),
    { numRuns: 2_000 },
  );
  assert.ok(cut > 2_000);
});

function stepsIn(quantizer: NativeCodecSpec["quantizer"]): Float32Array | undefined {
  return quantizer.kind === "step" ? quantizer.steps : undefined;
}

/** Of the second of two heads, layer by layer. */
function ofSecond<Numbers extends Float32Array | Uint16Array | Uint8Array>(
  all: Numbers | undefined,
  headNumbers: number,
): Numbers | undefined {
  return all?.filter((_, at) => Math.floor(at / headNumbers) % SHAPE.heads === 1) as Numbers | undefined;
}

test("a part of the layers and heads is of the model that the calibration names, and of no other", () => {
  const near = PRESETS.get("cpu-near")!.profile;
  const part: ModelShape = { ...model, layers: 2, heads: 1, firstHead: 0 };
  assert.equal(specOf(near, K0, part, calibration).heads, 1);
  assert.deepEqual(specOf(near, K0, { ...part, heads: 2 }, calibration), specOf(near, K0, model, calibration));
  const refusedAs = (shape: ModelShape, its = calibration): string => refusal(() => specOf(near, K0, shape, its));
  assert.match(refusedAs({ ...part, firstHead: undefined }), /3 layers of 2 heads of 4 channels, and the model has 2 layers of 1 heads/);
  assert.match(refusedAs({ ...part, firstHead: 2 }), /3 layers of 2 heads/);
  assert.match(refusedAs({ ...part, layers: 4 }), /3 layers of 2 heads/);
  for (const name of ["", "made"]) assert.match(refusedAs({ ...part, model: name }, { ...calibration, model: "" }), /3 layers of 2 heads/);
  assert.equal(specOf(near, K0, { ...model, firstHead: 0 }, { ...calibration, model: "" }).heads, 2);
});

test("tiles of a KLT begin where the calibration's begin", () => {
  const five = { ...SHAPE, layers: 7 };
  const wide = calibrationOf({ sources: [plainSource(five, rope)], klt: [5] });
  const { profile } = PRESETS.get("gpu-near")!;
  const later: ModelShape = { ...model, layers: 7, firstHead: 0 };
  assert.equal(specOf(profile, { side: "k", firstLayer: 5, layers: 2 }, later, wide).parts, 2);
  assert.match(
    refusal(() => specOf(profile, { side: "k", firstLayer: 2, layers: 5 }, later, wide)),
    /joins 5 layers, and none of those begin with 2/,
  );
});

test("every preset gives a spec", () => {
  const five = { ...SHAPE, layers: 7 };
  const wide = calibrationOf({ sources: [plainSource(five, rope)], klt: [5] });
  for (const { profile } of PRESETS.values()) {
    const tiles = tilesOf(profile, five.layers).map((tile) => specOf(profile, tile, { ...model, layers: five.layers }, wide));
    assert.ok(tiles.every(({ parts }, at) => parts === (profile.layers === 1 ? 1 : at < 2 ? 5 : 2)));
  }
});

test("a channel's step is the profile's over its weight, and its table is that of its deviation in steps", () => {
  const profile = PRESETS.get("cpu-near")!.profile;
  const tile = { side: "k", firstLayer: 1, layers: 1 } as const;
  const { quantizer, codec, transform } = specOf(profile, tile, model, calibration);
  assert.ok(quantizer.kind === "step" && codec.kind === "rans-static" && transform?.mean !== undefined);
  for (let channel = 0; channel < 8; channel++) {
    const at = 8 + channel;
    const step = 0.25 / Math.sqrt(0.25 + at);
    assert.ok(Math.abs(quantizer.steps[channel]! / step - 1) < 1e-6);
    assert.equal(transform.mean[channel], calibration.k.plain.mean[at]);
    const wanted = Math.round(12 + 4 * Math.log2(calibration.k.plain.sigma[at]! / step));
    assert.equal(codec.classes[channel], Math.max(0, Math.min(40, wanted)));
  }
  const values = specOf(profile, { ...tile, side: "v" }, model, calibration);
  assert.ok(values.quantizer.kind === "step");
  const rms = Math.sqrt(
    [8, 9, 10, 11].reduce((sum, at) => sum + calibration.v.plain.mean[at]! ** 2 + calibration.v.plain.sigma[at]! ** 2, 0) / 4,
  );
  assert.ok(Math.abs(values.quantizer.steps[0]! / (0.1 * rms) - 1) < 1e-5);
});

test("scale puts the weight in front, and one step for all behind it", () => {
  const profile = parseProfile({
    k: {
      transform: [{ kind: "unrotate" }, { kind: "mean" }, { kind: "scale" }],
      quantizer: { kind: "step", step: 0.5, factors: [1, 2, 3] },
      codec: { kind: "rans" },
    },
    v: {},
  });
  const { quantizer, transform } = specOf(profile, { ...K0, firstLayer: 2 }, model, calibration);
  assert.ok(quantizer.kind === "step" && quantizer.steps.every((step) => step === 1.5));
  assert.deepEqual(transform?.scale, calibration.k.weight.slice(16, 24));
});

test("affine brings a channel's range, or a head's, to -1 to 1", () => {
  const { plain } = calibration.v;
  const range = (at: number): [low: number, high: number] => [
    plain.mean[at]! - 3 * plain.sigma[at]!,
    plain.mean[at]! + 3 * plain.sigma[at]!,
  ];
  for (const by of ["channel", "head"]) {
    for (const others of [[], ["mean"], ["mean", "scale"]]) {
      const transform = [...others.map((kind) => ({ kind })), { kind: "affine", by, deviations: 3 }];
      const quantizer = { kind: "step", step: 1 / 64 };
      const profile = parseProfile({ k: {}, v: { transform, quantizer, codec: { kind: "rans-static" } } });
      const spec = specOf(profile, { ...K0, side: "v" }, model, calibration);
      assert.ok(spec.quantizer.kind === "step" && spec.quantizer.steps.every((step) => step === 1 / 64));
      const bring = (at: number, value: number): number => (value - spec.transform!.mean![at]!) * spec.transform!.scale![at]!;
      for (let head = 0; head < 8; head += 4) {
        const ends = [0, 1, 2, 3].map((channel) => range(head + channel).map((end) => bring(head + channel, end)));
        assert.ok(
          ends.flat().every((end) => Math.abs(end) < 1 + 1e-5),
          String(ends),
        );
        if (by === "channel")
          assert.ok(
            ends.flat().every((end) => Math.abs(end) > 1 - 1e-5),
            String(ends),
          );
        assert.ok(Math.abs(Math.max(...ends.flat()) - 1) < 1e-5 && Math.abs(Math.min(...ends.flat()) + 1) < 1e-5, String(ends));
        if (others.length < 2 && by === "head") assert.equal(new Set(spec.transform!.scale!.slice(head, head + 4)).size, 1);
      }
      // Three deviations are 1, which is 64 steps.
      if (by === "channel")
        assert.ok(spec.codec.kind === "rans-static" && spec.codec.classes.every((one) => one === gaussianClass(64 / 3)));
    }
  }
});

test("affine leaves alone what never changes", () => {
  const still = calibrationOf({ sources: [plainSource({ ...SHAPE, tokens: 8 }, rope)] });
  const flat = { ...still, v: { ...still.v, plain: { mean: still.v.plain.mean, sigma: new Float32Array(24) } } };
  const profile = parseProfile({ k: {}, v: { transform: [{ kind: "affine" }], quantizer: { kind: "fp8" } } });
  const { transform } = specOf(profile, { ...K0, side: "v" }, model, flat);
  assert.deepEqual([transform?.mean, transform?.scale], [flat.v.plain.mean.slice(0, 8), new Float32Array(8).fill(1)]);
});

test("a delta goes to native, and its tables are for differences", () => {
  const one = (kinds: string[]): NativeCodecSpec => {
    const transform = kinds.map((kind) => ({ kind }));
    return specOf(
      parseProfile({ k: {}, v: { transform, quantizer: { kind: "step" }, codec: { kind: "rans-static" } } }),
      { ...K0, side: "v" },
      model,
      calibration,
    );
  };
  const [plain, delta] = [one(["mean"]), one(["mean", "delta"])];
  assert.deepEqual(delta.transform?.delta, { anchor: 10 });
  assert.ok(plain.codec.kind === "rans-static" && delta.codec.kind === "rans-static");
  assert.deepEqual(
    Array.from(delta.codec.classes),
    Array.from(plain.codec.classes, (table) => Math.min(40, table + 2)),
  );
});

test("keys that stay rotated are weighed by pairs, and around the mean of what is stored", () => {
  const profile = parseProfile({
    k: { transform: [{ kind: "mean" }], quantizer: { kind: "step", step: 1 }, codec: { kind: "rans" } },
    v: {},
  });
  const { quantizer, transform } = specOf(profile, K0, model, calibration);
  assert.ok(quantizer.kind === "step");
  const pair = Math.sqrt((0.25 + 2.25) / 2);
  assert.ok(Math.abs(quantizer.steps[0]! * pair - 1) < 1e-6 && quantizer.steps[0] === quantizer.steps[2]);
  assert.deepEqual(transform?.mean, calibration.k.stored.mean.slice(0, 8));
});

test("signs depend on seed, layer and head alone", () => {
  const signs = (seed: number, firstLayer: number, layers: number): number[] => {
    const quantizer = { kind: "group" };
    const profile = parseProfile({ k: {}, v: { transform: [{ kind: "hadamard", seed }], quantizer, codec: { kind: "pack" } }, layers });
    return Array.from(specOf(profile, { side: "v", firstLayer, layers }, model).transform?.signs ?? []);
  };
  assert.deepEqual(signs(1, 0, 3).slice(8, 16), signs(1, 1, 1));
  assert.notDeepEqual(signs(1, 0, 3), signs(2, 0, 3));
  assert.notDeepEqual(signs(1, 0, 1), signs(1, 1, 1));
});

test("levels are the layer's and the head's", () => {
  const levels = [
    [2, 3],
    [4, 5],
    [6, 7],
  ];
  const profile = parseProfile({ layers: 2, k: { quantizer: { kind: "group", levels }, codec: { kind: "pack" } }, v: {} });
  const found = tilesOf(profile, 3)
    .filter(({ side }) => side === "k")
    .map((tile) => specOf(profile, tile, model).quantizer);
  assert.deepEqual(
    found.map((one) => one.kind === "group" && Array.from(one.levels)),
    [
      [2, 3, 4, 5],
      [6, 7],
    ],
  );
});

test("tables are the nearest: every quarter of an octave, and the ends for what is beyond", () => {
  for (let quarter = -12; quarter <= 28; quarter++) {
    for (const off of [-0.49, 0, 0.49]) assert.equal(gaussianClass(2 ** ((quarter + off) / 4)), quarter + 12);
  }
  assert.deepEqual([0, -1, NaN, 1e-30, 1e30, Infinity].map(gaussianClass), [0, 0, 0, 0, GAUSSIAN_TABLES - 1, GAUSSIAN_TABLES - 1]);
});

test("what does not fit the model is refused", () => {
  const near = PRESETS.get("cpu-near")!.profile;
  assert.match(
    refusal(() => specOf(near, K0, model)),
    /needs a calibration: kvferry codec calibrate/,
  );
  assert.match(
    refusal(() => specOf(near, K0, { ...model, model: "other" }, calibration)),
    /of the model made, not of other/,
  );
  assert.match(
    refusal(() => specOf(near, K0, { ...model, heads: 3 }, calibration)),
    /2 heads of 4 channels, and the model has .* 3 heads/,
  );
  assert.match(
    refusal(() => specOf(near, K0, { ...model, rope: ROPE(4, "adjacent") }, calibration)),
    /rotary embedding is not the model's/,
  );
  const lossless = PRESETS.get("lossless")!.profile;
  assert.match(
    refusal(() => specOf(lossless, K0, { ...model, element: "f32" })),
    /for bf16 and f16/,
  );
  assert.match(
    refusal(() => specOf(lossless, K0, { ...model, channels: 65_536 })),
    /rows of 131072 values/,
  );
  const turbo = PRESETS.get("turbo4")!.profile;
  assert.match(
    refusal(() => specOf(turbo, K0, { ...model, channels: 6 })),
    /power of two, and the model has 6/,
  );
  const bare = { transform: [{ kind: "unrotate" }], quantizer: { kind: "fp8" }, codec: { kind: "none" } };
  assert.match(
    refusal(() => specOf(parseProfile({ k: bare, v: {} }), K0, { ...model, rope: undefined })),
    /frequencies and pairing, and nothing says/,
  );
  const group = (levels: unknown): unknown => ({ quantizer: { kind: "group", levels }, codec: { kind: "pack" } });
  assert.match(
    refusal(() => specOf(parseProfile({ k: group([2, 3]), v: {} }), K0, model)),
    /levels are of 2 layers/,
  );
  assert.match(
    refusal(() => specOf(parseProfile({ k: group([[2], [2], [2]]), v: {} }), K0, model)),
    /levels are of 1 heads/,
  );
  const wide = PRESETS.get("gpu-near")!.profile;
  assert.match(
    refusal(() => specOf(wide, { ...K0, layers: 3 }, model, calibration)),
    /has KLT matrices of each head, 1 layers, .*, not of 5 layers/,
  );
});
