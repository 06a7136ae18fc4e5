/**
 * Whether a transfer is compressed, one sentence for each rule; then as properties: a faster wire never makes compression more attractive, nothing that is
 * predicted to be slower than stored is chosen, and estimates that move a few per cent do not move the choice to and fro.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CODEC_REASONS, type CodecInput, type CodecOption, chooseCodec, STORED } from "../../transport/policy/choose-codec.ts";

const MB = 1_000_000;
const LOSSLESS: CodecOption = {
  ...{ profile: "lossless", ratio: 1.5, lossless: true },
  ...{ encodeBytesPerSecond: 1_000 * MB, decodeBytesPerSecond: 1_500 * MB },
};
const FAST: CodecOption = {
  ...{ profile: "fast", ratio: 4.5, lossless: false },
  ...{ encodeBytesPerSecond: 800 * MB, decodeBytesPerSecond: 1_200 * MB },
};
/** 100 MB at 1 Gbit/s: 800 ms as they are. */
const INPUT: CodecInput = { bytes: 100 * MB, goodputBytesPerSecond: 125 * MB, options: [LOSSLESS, FAST], chunkBytes: MB };
const choose = (changes: Partial<CodecInput>) => chooseCodec({ ...INPUT, ...changes });
const chosen = (changes: Partial<CodecInput>): readonly (string | undefined)[] => {
  const { profile, reason } = choose(changes);
  return [profile, reason];
};

test("the profile that is through first is chosen where it saves a tenth", () => {
  assert.deepEqual(chosen({}), ["fast", "pays"]);
  assert.deepEqual(chosen({ options: [LOSSLESS] }), ["lossless", "pays"]);
});

test("a transfer takes its slowest stage, and its first chunk's way through the others", () => {
  const { predictedUs } = choose({});
  assert.equal(predictedUs.get(STORED), 800_000);
  // The wire: 66.67 MB, and a megabyte through the coders.
  assert.equal(Math.round(predictedUs.get("lossless")!), 533_333 + 1_000 + 667);
  assert.equal(Math.round(predictedUs.get("fast")!), 177_778 + 1_250 + 833);
  // The encoder, on a wire of 10 Gbit/s; and what is to be paid once.
  const there = choose({ goodputBytesPerSecond: 1_250 * MB, options: [{ ...FAST, fillUs: 5_000 }] });
  assert.equal(Math.round(there.predictedUs.get("fast")!), 125_000 + 178 + 833 + 5_000);
});

test("a wire that is faster than a coder takes the bytes as they are, whichever end's it is", () => {
  assert.deepEqual(chosen({ goodputBytesPerSecond: 1_250 * MB }), [undefined, "wire_is_faster"]);
  for (const slow of [{ encodeBytesPerSecond: 100 * MB }, { decodeBytesPerSecond: 100 * MB }])
    assert.deepEqual(chosen({ options: [{ ...FAST, ...slow }] }), [undefined, "wire_is_faster"]);
  // Less than a tenth is not worth it, and what grows is never coded.
  assert.deepEqual(chosen({ options: [{ ...LOSSLESS, ratio: 1.08 }] }), [undefined, "wire_is_faster"]);
  assert.deepEqual(chosen({ options: [{ ...LOSSLESS, ratio: 0.9 }], previous: "lossless" }), [undefined, "wire_is_faster"]);
});

test("a transfer that is over before the pipeline is full is stored, for being small", () => {
  const slow = { ...LOSSLESS, encodeBytesPerSecond: 200 * MB, decodeBytesPerSecond: 200 * MB };
  assert.deepEqual(chosen({ options: [slow] }), ["lossless", "pays"]);
  assert.deepEqual(chosen({ options: [slow], bytes: MB }), [undefined, "too_small"]);
  assert.deepEqual(chosen({ bytes: 0 }), [undefined, "too_small"]);
  assert.deepEqual(chosen({ options: [{ ...FAST, fillUs: 1_000_000 }] }), [undefined, "too_small"]);
});

test("while the goodput, or a coder's speed, is not known nothing is coded", () => {
  assert.deepEqual(chosen({ goodputBytesPerSecond: undefined }), [undefined, "goodput_unknown"]);
  assert.deepEqual(chosen({ goodputBytesPerSecond: 0, previous: "fast" }), [undefined, "goodput_unknown"]);
  for (const unknown of [{ encodeBytesPerSecond: 0 }, { decodeBytesPerSecond: 0 }]) {
    assert.deepEqual(chosen({ options: [{ ...FAST, ...unknown }] }), [undefined, "speed_unknown"]);
    assert.deepEqual(chosen({ options: [{ ...FAST, ...unknown }, LOSSLESS] }), ["lossless", "pays"]);
  }
});

test("within a host nothing is coded: there is no wire, and both coders would be its processors'", () => {
  assert.deepEqual(chosen({ isLocal: true, previous: "fast" }), [undefined, "same_host"]);
  assert.deepEqual(chosen({ isLocal: true, options: [] }), [undefined, "no_common_profile"]);
});

test("without a profile the reason is the one that is told", () => {
  assert.deepEqual(chosen({ options: [] }), [undefined, "no_common_profile"]);
  for (const missing of ["reader_refuses_lossy", "codec_missing"] as const)
    assert.deepEqual(chosen({ options: [], missing, previous: "fast" }), [undefined, missing]);
  assert.deepEqual(chosen({ options: [LOSSLESS], missing: "reader_refuses_lossy" }), ["lossless", "pays"]);
});

test("of profiles that are as fast that one is chosen which loses nothing, then that of fewer bytes", () => {
  // Both wait for the same encoder, and for no other stage.
  const bound = { encodeBytesPerSecond: 200 * MB, decodeBytesPerSecond: Number.POSITIVE_INFINITY, ratio: 1e9 };
  const lossless = { ...LOSSLESS, ...bound };
  const lossy = { ...FAST, ...bound };
  for (const options of [
    [lossless, lossy],
    [lossy, lossless],
  ])
    assert.deepEqual(chosen({ options }), ["lossless", "pays"]);
});

test("a profile stays while it saves anything, and until another saves a tenth of its time", () => {
  const wire = (encode: number) => ({ goodputBytesPerSecond: 1_000 * MB, options: [{ ...FAST, encodeBytesPerSecond: encode * MB }] });
  assert.deepEqual(chosen(wire(1_050)), [undefined, "wire_is_faster"]);
  assert.deepEqual(chosen({ ...wire(1_050), previous: "fast" }), ["fast", "stays"]);
  assert.deepEqual(chosen({ ...wire(990), previous: "fast" }), [undefined, "wire_is_faster"]);
  const options = (ratio: number) => [FAST, { ...FAST, profile: "other", ratio }];
  assert.deepEqual(chosen({ options: options(4.8), previous: "fast" }), ["fast", "stays"]);
  assert.deepEqual(chosen({ options: options(4.8) }), ["other", "pays"]);
  assert.deepEqual(chosen({ options: options(5.2), previous: "fast" }), ["other", "pays"]);
  // One that is gone holds nothing.
  assert.deepEqual(chosen({ options: options(4.8), previous: "gone" }), ["other", "pays"]);
});

const rate: fc.Arbitrary<number> = fc.double({ min: 1e5, max: 2e11, noNaN: true });
const options: fc.Arbitrary<CodecOption[]> = fc
  .array(
    fc.record({
      ratio: fc.double({ min: 0.5, max: 30, noNaN: true }),
      encodeBytesPerSecond: fc.oneof({ weight: 9, arbitrary: rate }, fc.constant(0)),
      decodeBytesPerSecond: fc.oneof({ weight: 9, arbitrary: rate }, fc.constant(0)),
      lossless: fc.boolean(),
      fillUs: fc.nat(50_000),
    }),
    { maxLength: 5 },
  )
  .map((records) => records.map((option, index) => ({ profile: `p${index}`, ...option })));
const input: fc.Arbitrary<CodecInput> = fc.record({
  bytes: fc.nat(2 ** 31 - 1),
  goodputBytesPerSecond: rate,
  options,
  chunkBytes: fc.integer({ min: 4_096, max: 2 ** 24 }),
  previous: fc.constantFrom(undefined, "p0", "p1", "p2", "gone"),
});

test("property: what is chosen is one of the options and predicted to be faster than stored, with a reason of the list", () => {
  fc.assert(
    fc.property(input, (of) => {
      const { profile, reason, predictedUs } = chooseCodec(of);
      assert.ok(reason in CODEC_REASONS);
      assert.equal(profile !== undefined, reason === "pays" || reason === "stays");
      if (profile === undefined) return;
      assert.ok(of.options.some((option) => option.profile === profile));
      assert.ok(predictedUs.get(profile)! < predictedUs.get(STORED)!);
    }),
  );
});

test("property: a faster wire never makes compression more attractive", () => {
  fc.assert(
    fc.property(input, fc.double({ min: 1, max: 100, noNaN: true }), (of, times) => {
      const faster = chooseCodec({ ...of, goodputBytesPerSecond: of.goodputBytesPerSecond! * times });
      const gained = ({ predictedUs }: typeof faster, profile: string) => predictedUs.get(STORED)! - predictedUs.get(profile)!;
      // Without a former choice, which is another question on each wire.
      const slower = chooseCodec({ ...of, previous: undefined });
      const again = chooseCodec({ ...of, previous: undefined, goodputBytesPerSecond: of.goodputBytesPerSecond! * times });
      if (again.profile !== undefined) assert.ok(slower.profile !== undefined);
      for (const { profile, ratio } of of.options) {
        const rounding = slower.predictedUs.get(STORED)! * 1e-12;
        if (ratio >= 1 && slower.predictedUs.get(profile)! < Number.POSITIVE_INFINITY)
          assert.ok(gained(faster, profile) <= gained(slower, profile) + rounding);
      }
    }),
  );
});

test("property: a goodput that moves by four per cent each way never brings back what was given up", () => {
  const noise = fc.array(fc.double({ min: 0.96, max: 1.04, noNaN: true }), { minLength: 2, maxLength: 60 });
  fc.assert(
    fc.property(input, noise, (of, factors) => {
      const seen: (string | undefined)[] = [];
      let previous = of.options.some(({ profile }) => profile === of.previous) ? of.previous : undefined;
      for (const factor of factors) {
        previous = chooseCodec({ ...of, previous, goodputBytesPerSecond: of.goodputBytesPerSecond! * factor }).profile;
        if (seen.at(-1) === previous && seen.length > 0) continue;
        assert.ok(!seen.includes(previous), `${seen.join(", ")}, and ${previous} again`);
        seen.push(previous);
      }
    }),
  );
});
