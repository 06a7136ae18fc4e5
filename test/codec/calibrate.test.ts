/**
 * Calibration. Method: data made with known means, deviations and eigenvectors, with and without a rotary embedding; what is found is compared with what it was
 * made of. The eigenproblem alone on matrices of known spectra, degenerate ones among them.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eigenOf } from "../../transport/codec/eigen.ts";
import { layerWeights } from "../../transport/codec/moments.ts";
import { KvferryError } from "../../transport/errors.ts";
import { calibrationOf, madeSource, noise, plainSource, ROPE } from "./made.ts";

function near(one: number, other: number, tolerance: number, what = ""): void {
  assert.ok(Math.abs(one - other) <= tolerance, `${what} ${one} is not ${other}`);
}

/** Rows of length 1 and at right angles, of random ones (Gram and Schmidt). */
function rightAngles(size: number, seed: number): number[][] {
  const next = noise(seed);
  const rows: number[][] = [];
  for (let i = 0; i < size; i++) {
    let row = Array.from({ length: size }, next);
    for (let round = 0; round < 2; round++) {
      for (const other of rows) {
        const along = other.reduce((sum, value, at) => sum + value * row[at]!, 0);
        row = row.map((value, at) => value - along * other[at]!);
      }
    }
    const length = Math.hypot(...row);
    rows.push(row.map((value) => value / length));
  }
  return rows;
}

function symmetric(vectors: readonly number[][], values: readonly number[]): Float64Array {
  const size = vectors.length;
  return Float64Array.from({ length: size * size }, (_, at) =>
    vectors.reduce((sum, vector, k) => sum + values[k]! * vector[Math.floor(at / size)]! * vector[at % size]!, 0),
  );
}

const SPECTRA: readonly (readonly [string, (at: number, size: number) => number])[] = [
  ["falling", (at) => 0.7 ** at],
  ["in pairs", (at) => 9 - Math.floor(at / 2)],
  ["of few directions", (at) => (at < 3 ? 5 - at : 0)],
  ["all the same", () => 2],
  ["nothing", () => 0],
  ["of both signs", (at, size) => size / 2 - at],
];

for (const [name, spectrum] of SPECTRA) {
  test(`eigenvectors of a spectrum ${name}`, () => {
    for (const size of [1, 2, 3, 8, 33]) {
      const values = Array.from({ length: size }, (_, at) => spectrum(at, size));
      const matrix = symmetric(rightAngles(size, size), values);
      const found = eigenOf(matrix.slice(), size);
      values
        .toSorted((one, other) => other - one)
        .forEach((value, at) => near(found.values[at]!, value, 1e-12 * size, `value ${at} of ${size}:`));
      for (let i = 0; i < size; i++) {
        const vector = found.vectors.subarray(i * size, (i + 1) * size);
        for (let j = 0; j < size; j++) {
          const along = vector.reduce((sum, value, at) => sum + value * found.vectors[j * size + at]!, 0);
          near(along, i === j ? 1 : 0, 1e-12 * size, "angle");
          const image = vector.reduce((sum, value, at) => sum + value * matrix[j * size + at]!, 0);
          near(image, found.values[i]! * vector[j]!, 1e-12 * size, "image");
        }
      }
    }
  });
}

const SHAPE = { layers: 3, heads: 2, channels: 4, tokens: 4_000 };

for (const pairing of ["half", "adjacent"] as const) {
  test(`means and deviations of channels, keys under a rotary embedding (${pairing})`, () => {
    const found = calibrationOf({ sources: [plainSource(SHAPE, ROPE(SHAPE.channels, pairing))] });
    for (const side of ["k", "v"] as const) {
      for (let layer = 0; layer < SHAPE.layers; layer++) {
        for (let at = 0; at < 8; at++) {
          const sigma = 0.1 + ((at * 5 + layer) % 11) / 4;
          near(found[side].plain.mean[layer * 8 + at]!, ((at % 7) - 3) / 2, 0.06 * sigma + 0.01, `mean ${side} ${layer} ${at}`);
          near(found[side].plain.sigma[layer * 8 + at]! / sigma, 1, 0.05, `sigma ${side} ${layer} ${at}`);
        }
      }
    }
    // The fastest pair turns once in six tokens: nothing is left of its mean.
    near(found.k.stored.mean[0]!, 0, 0.1);
    assert.equal(found.rope?.pairing, pairing);
    assert.equal(found.v.stored, found.v.plain);
  });
}

test("weights: queries for keys, 1 / RMS of the head for values, the root of sensitivity for both", () => {
  const querySquare = Float32Array.from({ length: 24 }, (_, at) => (at === 5 ? 0 : at + 1));
  const sensitivity = Float32Array.of(1, 4, 2, 1, 3, 1);
  const source = { ...plainSource(SHAPE), querySquare };
  const { k, v } = calibrationOf({ sources: [source], sensitivity });
  near(k.weight[2]!, Math.sqrt(3) * Math.sqrt(1 / 2), 1e-6);
  near(k.weight[23]!, Math.sqrt(24) * Math.sqrt(3 / 2), 1e-5);
  assert.ok(k.weight[5]! > 0 && k.weight[5]! < 0.01, "a channel that nothing reads has a step all the same");
  const square = [0, 1, 2, 3].reduce((sum, at) => sum + v.plain.mean[at]! ** 2 + v.plain.sigma[at]! ** 2, 0) / 4;
  near(v.weight[0]! * Math.sqrt(square), Math.sqrt(2), 1e-5);
  const own = calibrationOf({ sources: [{ ...source, querySquare: undefined }] });
  assert.deepEqual(own.k.weight[0], own.k.weight[3]);
});

test("sensitivities: the noise of all layers together stays, and none counts for less than a sixteenth", () => {
  const sensitivity = Float32Array.of(1, 2, 3, 0);
  const weights = layerWeights(sensitivity);
  near(weights[1]!, Math.sqrt(2 / 1.5), 1e-12);
  assert.equal(weights[3], 0.25);
  assert.deepEqual(layerWeights(new Float32Array(2)), Float64Array.of(1, 1));
});

test("a KLT over layers finds the directions that the data was made of", () => {
  const [tileLayers, row] = [2, 8];
  const vectors = rightAngles(tileLayers * row, 7);
  const deviations = vectors.map((_, at) => 4 * 0.75 ** at);
  const next = noise(3);
  let mixed: number[] = [];
  // Layers 0 and 1 share a draw for each token; the source asks for all tokens of a layer before the next.
  const draws = new Map<string, number[]>();
  const source = madeSource({ ...SHAPE, layers: 2 }, (side, layer, token) => {
    const key = `${side} ${token}`;
    mixed = draws.get(key) ?? vectors[0]!.map(() => 0);
    if (!draws.has(key)) {
      const factors = deviations.map((deviation) => deviation * next());
      mixed = mixed.map((_, at) => 1 + vectors.reduce((sum, vector, k) => sum + factors[k]! * vector[at]!, 0));
      draws.set(key, mixed);
    }
    return mixed.slice(layer * row, (layer + 1) * row);
  });
  const querySquare = new Float32Array(2 * row).fill(1);
  const found = calibrationOf({ sources: [{ ...source, querySquare }], klt: [2], exempt: 0 });
  const { matrices, sigma } = found.kltOf("k", 2, 0, 2);
  for (let k = 0; k < 6; k++) {
    near(sigma[k]! / deviations[k]!, 1, 0.05, `deviation ${k}`);
    const along = vectors[k]!.reduce((sum, value, at) => sum + value * matrices[k * 16 + at]!, 0);
    assert.ok(Math.abs(along) > 0.97, `direction ${k}: ${along}`);
  }
});

test("of each head, and of what is left at the end of a model", () => {
  const found = calibrationOf({ sources: [plainSource({ ...SHAPE, tokens: 64 })], klt: [0, 2] });
  assert.equal(found.kltOf("v", 2, 2, 1).matrices.length, 64);
  const heads = found.kltOf("k", 0, 1, 2);
  assert.deepEqual([heads.matrices.length, heads.sigma.length], [4 * 16, 16]);
  for (let at = 0; at < 16; at += 4)
    assert.deepEqual(
      heads.sigma.slice(at, at + 4),
      heads.sigma.slice(at, at + 4).toSorted((one, other) => other - one),
    );
  assert.throws(() => found.kltOf("k", 5, 0, 3), /has KLT matrices of each head, 2 layers, not of 5 layers/);
});

test("what cannot be calibrated is refused by name", () => {
  const source = plainSource({ ...SHAPE, tokens: 16 });
  const refused = (message: RegExp, sources: Parameters<typeof calibrationOf>[0]["sources"], sensitivity?: Float32Array): void => {
    assert.throws(
      () => calibrationOf({ sources, sensitivity }),
      (error) => error instanceof KvferryError && message.test(error.message),
    );
  };
  refused(/at least one dump/, []);
  refused(/3, as made has for layers of other/, [source, { ...source, name: "other", layers: 2 }]);
  refused(/another rotary embedding than made/, [source, { ...source, name: "other", rope: ROPE(4) }]);
  refused(/more than 4 tokens for short/, [{ ...source, name: "short", tokens: 4 }]);
  refused(/\[3, 2\] numbers for sensitivity/, [source], new Float32Array(4));
  const plane = new Uint16Array(2 * 16 * 4).fill(0x7f80, 100);
  refused(/no numbers, or as good as infinite, in K of layer 0/, [{ ...source, plane: () => plane }]);
});
