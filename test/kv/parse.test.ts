/**
 * Layouts from outside. Method: round trips of what we build; a table of hostile values, each refused by a message
 * that names the field; and arbitrary JSON, also grown from a good layout by replacing one of its parts: never
 * anything but a Layout or invalid_argument.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import { denseLayout, opaqueLayout, vllmCpuLayout } from "../../transport/kv/build.ts";
import { parseLayout, parseLayoutJson, serializeLayout } from "../../transport/kv/parse.ts";
import { limits } from "../../transport/limits.ts";
import { fuzzLayout, LAYOUT_SEEDS } from "./fuzz.ts";
import { refused } from "../refusal.ts";

const options = {
  layers: 3,
  kvHeads: 4,
  headDim: 8,
  blockTokens: 16,
  element: "bf16",
  blockCount: 10,
  order: "NHD",
  form: "layer-major",
  kv: "split",
} as const;
const good = denseLayout(options);
const text = (value: unknown): Uint8Array => new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));

const many = (length: number, value: unknown): unknown[] => Array.from({ length }, () => value);
const holes = (length: number): unknown[] => Object.assign([], { length });

const refusal = (run: () => unknown): string => refused(run, "invalid_argument").message;

/** The good layout with the part at `path` replaced. */
function replaced(path: readonly (string | number)[], part: unknown, from: unknown = good): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return part;
  const copy = (Array.isArray(from) ? [...(from as unknown[])] : { ...(from as object) }) as Record<string | number, unknown>;
  copy[step] = replaced(rest, part, copy[step]);
  return copy;
}

test("what is written is read again, in one form", () => {
  for (const layout of [good, denseLayout({ ...options, kv: "joined", order: "HND" }), vllmCpuLayout(options), opaqueLayout(100, 3)]) {
    const bytes = serializeLayout(layout);
    assert.deepEqual(parseLayoutJson(bytes), layout);
    assert.deepEqual(serializeLayout(parseLayoutJson(bytes)), bytes);
  }
  const { groups, blockCount } = good;
  assert.deepEqual(serializeLayout({ groups, blockCount }), serializeLayout(good));
  assert.deepEqual(parseLayout(JSON.parse(JSON.stringify({ groups, blockCount }))), good);
});

test("a parsed layout is frozen, and apart from what it was parsed from", () => {
  const value = JSON.parse(JSON.stringify(good)) as { groups: { layers: number[]; components: { offsets: number[] }[] }[] };
  const layout = parseLayout(value);
  for (const part of [
    layout,
    layout.groups,
    layout.groups[0],
    layout.groups[0]?.layers,
    layout.groups[0]?.components,
    layout.groups[0]?.components[0]?.offsets,
  ]) {
    assert.ok(Object.isFrozen(part));
  }
  value.groups[0]?.components[0]?.offsets.fill(7);
  value.groups[0]?.layers.fill(7);
  assert.deepEqual(layout, good);
});

test("a layout has at most the blocks of its own pool", () => {
  const blockBytes = 3 * 2 * 16 * 4 * 8 * 2;
  assert.deepEqual(parseLayout(good, 10 * blockBytes, blockBytes), good);
  assert.deepEqual(parseLayout(good, 25 * blockBytes, 2 * blockBytes), good);
  assert.match(
    refusal(() => parseLayout(good, 10 * blockBytes, 2 * blockBytes)),
    /at most 5 \(blocks of the pool\) for blockCount but received 10/,
  );
  assert.match(
    refusal(() => parseLayout(good, 10 * blockBytes - 1)),
    /ends within/,
  );
  assert.match(
    refusal(() => parseLayout(good, 0)),
    /poolBytes/,
  );
});

const component = ["groups", 0, "components", 1] as const;
const NUMBERS: readonly (readonly (string | number)[])[] = [
  ["blockCount"],
  ["groups", 0, "blockTokens"],
  ["groups", 0, "layers", 2],
  [...component, "heads"],
  [...component, "firstHead"],
  [...component, "channels"],
  [...component, "offsets", 1],
  [...component, "blockStride"],
  [...component, "tokenStride"],
  [...component, "headStride"],
  [...component, "channelStride"],
];
const nameOf = (path: readonly (string | number)[]): string =>
  path.reduce<string>((name, step) => (typeof step === "number" ? `${name}[${step}]` : name === "" ? step : `${name}.${step}`), "");

test("every number is refused by name when it is none, or absurd", () => {
  for (const path of NUMBERS) {
    for (const value of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2 ** 64, "16", null, undefined, true, [], {}, 16n]) {
      const message = refusal(() => parseLayout(replaced(path, value)));
      assert.ok(message.includes(`for ${nameOf(path)} but received`), `${nameOf(path)} = ${String(value)}: ${message}`);
    }
    // The greatest integers there are, one at a time: refused, or harmless.
    try {
      parseLayout(replaced(path, 2 ** 42));
    } catch (error) {
      assert.ok(error instanceof KvferryError, String(error));
    }
  }
});

test("wrong shapes", () => {
  const inherited = Object.create(good) as object;
  const table: [unknown, RegExp][] = [
    [undefined, /an object for layout/],
    [null, /an object for layout/],
    [[], /an object for layout/],
    ["{}", /an object for layout/],
    [{}, /a value for layout\.blockCount/],
    [inherited, /a value for layout\.blockCount/],
    [replaced(["color"], 1), /only blockCount, groups for layout but received "color"/],
    [JSON.parse(JSON.stringify(good).replace("{", '{"__proto__":{"blockCount":1},')), /"__proto__"/],
    [replaced(["groups"], []), /an array of 1 to 64 for groups/],
    [replaced(["groups"], {}), /an array of 1 to 64 for groups/],
    [replaced(["groups"], holes(2)), /groups\[0\]/],
    [replaced(["groups"], many(65, good.groups[0])), /groups but received an array of 65/],
    [replaced(["groups", 0, "layers"], []), /groups\[0\]\.layers/],
    [replaced(["groups", 0, "layers"], [0, 1, 1]), /each layer once/],
    [
      replaced(
        ["groups", 0, "layers"],
        Array.from({ length: 1_025 }, (_, at) => at),
      ),
      /groups\[0\]\.layers but received an array of 1025/,
    ],
    [replaced(["groups", 0, "components"], []), /groups\[0\]\.components/],
    [replaced(["groups", 0, "components"], many(17, good.groups[0]?.components[0])), /an array of 17/],
    [replaced([...component, "name"], "k"), /K and V once/],
    [replaced([...component, "name"], "kv"), /K and V once/],
    [replaced([...component, "name"], "constructor"), /one of k, v, kv, latent, state/],
    [replaced([...component, "name"], "state"), /an integer from 1 to 1 for groups\[0\]\.components\[1\]\.heads/],
    [replaced([...component, "element"], "bf17"), /components\[1\]\.element but received "bf17"/],
    [replaced([...component, "element"], "toString"), /components\[1\]\.element/],
    [replaced([...component, "offsets"], [0, 1]), /an array of 3 for groups\[0\]\.components\[1\]\.offsets/],
    [replaced([...component, "offsets"], holes(3)), /offsets\[0\] but received undefined/],
    [replaced([...component, "heads"], limits.headsMax), /firstHead|overlap|headStride|tokenStride/],
    [replaced(["groups", 0, "blockTokens"], 0), /state alone/],
    [
      replaced(["groups"], [{ ...good.groups[0], components: [{ ...good.groups[0]?.components[0], name: "kv", channels: 7 }] }]),
      /an even number/,
    ],
    [
      {
        blockCount: 1,
        groups: many(5, {
          ...good.groups[0],
          layers: Array.from({ length: 1_000 }, (_, at) => at),
          components: good.groups[0]?.components.map((given) => ({ ...given, offsets: many(1_000, 0) })),
        }),
      },
      /planesMax/,
    ],
  ];
  for (const [value, message] of table)
    assert.match(
      refusal(() => parseLayout(value)),
      message,
    );
});

test("a block of more than the greatest block is refused before it is looked at", () => {
  const huge = replaced(["groups", 0, "components"], [{ ...good.groups[0]?.components[0], heads: 1_024, channels: 65_536 }]);
  assert.match(
    refusal(() => parseLayout(huge)),
    /a block of at most 1073741824 bytes for groups\[0\] but received 6442450944/,
  );
});

test("JSON: too long, cut off, not UTF-8, nested without end", () => {
  const bytes = serializeLayout(good);
  assert.match(
    refusal(() => parseLayoutJson(new Uint8Array(limits.layoutJsonBytes + 1))),
    /at most 262144 bytes/,
  );
  assert.match(
    refusal(() => parseLayoutJson(bytes.subarray(0, -1))),
    /JSON/,
  );
  assert.match(
    refusal(() => parseLayoutJson(new Uint8Array(0))),
    /JSON/,
  );
  assert.match(
    refusal(() => parseLayoutJson(Uint8Array.of(0xff, 0xfe))),
    /JSON/,
  );
  assert.match(
    refusal(() => parseLayoutJson(text("[".repeat(200_000)))),
    /JSON/,
  );
  assert.match(
    refusal(() => parseLayoutJson(text("[".repeat(100_000) + "]".repeat(100_000)))),
    /an object/,
  );
  assert.match(
    refusal(() => parseLayoutJson(text('{"groups":'.repeat(20_000) + "1" + "}".repeat(20_000)))),
    /blockCount/,
  );
  const wide = denseLayout({ ...options, layers: 1_024, blockCount: 4_000_000, kvHeads: 1, headDim: 1, blockTokens: 1 });
  assert.ok(serializeLayout(wide).length < limits.layoutJsonBytes);
});

test("arbitrary values, also inside of a good layout, never do anything else", () => {
  const paths: (readonly (string | number)[])[] = [
    [],
    ["groups"],
    ["groups", 0],
    ["groups", 0, "layers"],
    ["groups", 0, "components"],
    component,
    [...component, "offsets"],
    ...NUMBERS,
  ];
  const anything = fc.anything({ withBigInt: true, withNullPrototype: true, withSparseArray: true, withTypedArray: true, withDate: true });
  const number = fc.oneof(fc.integer(), fc.maxSafeInteger(), fc.double(), fc.nat(300));
  fc.assert(
    fc.property(fc.constantFrom(...paths), fc.oneof(anything, number), (path, part) => {
      try {
        const layout = parseLayout(replaced(path, part));
        assert.deepEqual(parseLayoutJson(serializeLayout(layout)), layout);
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "invalid_argument", String(error));
      }
    }),
    { numRuns: 3_000 },
  );
});

test("bytes that were changed on the way", () => {
  const seen = { taken: 0, refused: 0 };
  const change = fc.record({ at: fc.nat(2_000), remove: fc.nat(3), insert: fc.stringMatching(/^[-0-9.eE,[\]{}":a-z]{0,3}$/) });
  for (const seed of LAYOUT_SEEDS) assert.equal(fuzzLayout(seed), true);
  fc.assert(
    fc.property(fc.constantFrom(...LAYOUT_SEEDS), fc.array(change, { minLength: 1, maxLength: 3 }), (seed, changes) => {
      let json = new TextDecoder().decode(seed);
      for (const { at, remove, insert } of changes) {
        const from = at % json.length;
        json = json.slice(0, from) + insert + json.slice(from + remove);
      }
      seen[fuzzLayout(text(json)) ? "taken" : "refused"]++;
    }),
    { numRuns: 3_000 },
  );
  assert.ok(seen.taken > 30 && seen.refused > 1_000, JSON.stringify(seen));
});
