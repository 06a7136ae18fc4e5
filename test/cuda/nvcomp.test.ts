/**
 * nvCOMP's coders in GPU codecs, on the emulator, with a library in nvCOMP's place that works on the host (nvcomp.cpp): blocks come back as those of the same spec with
 * another codec, whatever the library says of its streams is believed or refused, and one that is not there or not the right one is named.
 * Method: random specs and tiles as in codec.test.ts; the library compiled here, also in forms that keep codes as they are, fail or lie; blocks with flips, cuts and
 * wrong numbers in sealed headers. With KVFERRY_TEST_GPU=1 the first test also runs on the GPU, with the host's nvCOMP if there is one.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { crc32c } from "../../transport/kv/crc32c.ts";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { elementBytes, HEADER_BYTES, widthOf } from "../codec/tiles.ts";
import { mutate } from "../fuzz/mutate.ts";
import { Random } from "../fuzz/random.ts";
import { type Case, DEVICES, device, makeCase, numbersOf, type Tile } from "./cases.ts";
import { makePaged, putParts, takeParts } from "./paged.ts";
import { randomDeviceSpec, randomProductSpec } from "./specs.ts";
import { noCompiler, standIn } from "./stand-in.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : noCompiler;
const KINDS = ["nvcomp-ans", "nvcomp-bitcomp"] as const;
const DO_NOT_DECODE = "the block's codes do not decode";
const SPEC = { element: "bf16", parts: 1, heads: 2, channels: 8, exempt: 0 } as const;
const FP8 = { ...SPEC, quantizer: { kind: "fp8", format: "e4m3" }, codec: { kind: "nvcomp-ans" } } as const;

const folder = mkdtempSync(join(tmpdir(), "kvferry-nvcomp-"));
after(() => rmSync(folder, { recursive: true }));

const library = (...macros: string[]): string => standIn(folder, ...macros);
const coded = (spec: NativeCodecSpec, kind: (typeof KINDS)[number]): NativeCodecSpec => ({ ...spec, codec: { kind } });

/** Of a tile's block: how many of its first and last tokens travel as they are. */
function rawTokens(spec: NativeCodecSpec, { tokens, position }: Tile, block: Uint8Array): number {
  const exempt = Math.min(tokens, Math.max(0, (spec.exempt ?? 0) - position));
  return exempt + new DataView(block.buffer, block.byteOffset).getUint32(24, true);
}

const numberAt = (block: Uint8Array, at: number): number => new DataView(block.buffer, block.byteOffset).getUint32(at, true);

/** The block with other numbers in its header, which is right otherwise. */
function resealed(block: Uint8Array, changed: Readonly<Record<number, number>>, bytes = block): Uint8Array {
  const copy = Uint8Array.from(bytes);
  const view = new DataView(copy.buffer);
  for (const [at, value] of Object.entries(changed)) view.setUint32(Number(at), value, true);
  view.setUint32(44, crc32c(copy.subarray(0, 44)), true);
  return copy;
}

function randomSpec(random: Random): NativeCodecSpec {
  const spec = random.chance(1, 3) ? randomProductSpec(random) : randomDeviceSpec(random);
  // Elements that a transform has changed are not what they were; no profile has them.
  if (spec.quantizer.kind !== "none") return spec;
  const { transform, ...lossless } = spec;
  return transform === undefined ? spec : { ...lossless, exempt: 0 };
}

test("random specs: what comes back is what it is with another codec", { skip }, () => {
  const nvcomp = library();
  let [met, stored, apart] = [0, 0, 0];
  for (let seed = 1; seed <= 160; seed++) {
    const { spec, tiles, paged, parts } = makeCase(seed, randomSpec);
    const devices = DEVICES.filter((name) => name !== "cuda" || native?.cuda().nvcomp.problem === "");
    const blocks = new Map<string, Uint8Array[]>();
    for (const name of devices) {
      const other = device(spec, name);
      const reference = other.encode(paged.memory, paged.numbers, paged.lists, numbersOf(tiles));
      const wanted = { ...paged, memory: new Uint8Array(paged.memory.length) };
      other.decode(
        reference.map(({ block }) => block),
        wanted.memory,
        paged.numbers,
        paged.lists,
        numbersOf(tiles),
      );
      const kind = KINDS[seed % 2] as (typeof KINDS)[number];
      const codec = device(coded(spec, kind), name, name === "cuda" ? undefined : nvcomp);
      assert.notEqual(codec.id, other.id);
      const made = codec.encode(paged.memory, paged.numbers, paged.lists, numbersOf(tiles));
      blocks.set(
        name,
        made.map(({ block }) => block),
      );
      const back = { ...paged, memory: new Uint8Array(paged.memory.length).fill(0x33) };
      const problems = codec.decode(blocks.get(name) ?? [], back.memory, paged.numbers, paged.lists, numbersOf(tiles));
      assert.deepEqual(
        problems,
        tiles.map(() => ""),
        `seed ${seed}`,
      );
      for (const [at, { token, tokens }] of tiles.entries()) {
        const found = takeParts(back, token, tokens);
        const isLossless = spec.quantizer.kind === "none";
        const why = made[at]?.stored;
        if (why !== "" || isLossless) assert.deepEqual(found, parts[at], `seed ${seed}, tile ${at}: as it was`);
        else if (reference[at]?.stored === "") assert.deepEqual(found, takeParts(wanted, token, tokens), `seed ${seed}, tile ${at}`);
        else apart++;
        if (tokens > 0 && why === "") met++;
        if (why !== "") stored++;
      }
    }
    assert.deepEqual(blocks.get("emulator-reversed"), blocks.get("emulator"), `seed ${seed}: whatever the order of threads`);
  }
  assert.ok(met > 300 && stored > 0 && apart < met / 4, `${met} coded, ${stored} stored, ${apart} only here`);
});

test("a block is as schemas/codec.md says: what stands in front, zeros to a multiple of 16, one stream of the codes, escapes", {
  skip,
}, () => {
  const plain = library("PLAIN");
  let [met, padded, escaped] = [0, 0, 0];
  for (let seed = 1; seed <= 200; seed++) {
    const { spec, tiles, paged, expected }: Case = makeCase(seed, (random) => {
      const one = randomDeviceSpec(random);
      return { ...one, codec: { kind: "none" } };
    });
    if (spec.quantizer.kind === "none") continue;
    const made = device(coded(spec, "nvcomp-ans"), "emulator", plain).encode(paged.memory, paged.numbers, paged.lists, numbersOf(tiles));
    for (const [at, tile] of tiles.entries()) {
      const [own, { block, stored }] = [made[at]?.block as Uint8Array, expected[at] as (typeof expected)[number]];
      if (stored !== "" || made[at]?.stored !== "") continue;
      const raw = rawTokens(spec, tile, block);
      const codes = (tile.tokens - raw) * widthOf(spec);
      const front = HEADER_BYTES + raw * widthOf(spec) * elementBytes(spec.element);
      const side = numberAt(block, 32);
      const parameters = block.length - front - codes - side;
      if (codes === 0) {
        assert.deepEqual(own.subarray(HEADER_BYTES), block.subarray(HEADER_BYTES));
        continue;
      }
      const padding = (16 - ((front + parameters) % 16)) % 16;
      const head = Uint8Array.of(0x4e, 0x56, 0x53, 0x54, ...new Uint8Array(Uint32Array.of(0, codes, 0).buffer));
      const wanted = [
        block.subarray(HEADER_BYTES, front),
        new Uint8Array(padding),
        block.subarray(front, front + parameters),
        head,
        block.subarray(front + parameters),
      ];
      assert.deepEqual(Buffer.from(own.subarray(HEADER_BYTES)), Buffer.concat(wanted), `seed ${seed}, tile ${at}`);
      assert.equal(numberAt(own, 32), side);
      [met, padded, escaped] = [met + 1, padded + (padding > 0 ? 1 : 0), escaped + (side > 0 ? 1 : 0)];
    }
  }
  assert.ok(met > 100 && padded > 10 && escaped > 10, `${met} blocks, ${padded} padded, ${escaped} with escapes`);
});

test("a library that is not there, is another version or lacks something is unsupported, by name", { skip }, () => {
  const refused = (message: RegExp, kind: (typeof KINDS)[number], path?: string, name: (typeof DEVICES)[number] = "emulator"): void =>
    assert.throws(() => device(coded(FP8, kind), name, path), { code: "unsupported", message });
  refused(/nowhere\.so is not installed/, "nvcomp-ans", join(folder, "nowhere.so"));
  refused(/nvCOMP is 5\.3\.0, and kvferry uses version 6/, "nvcomp-ans", library("VERSION=5300"));
  refused(/nvCOMP is 7\.0\.1, and/, "nvcomp-bitcomp", library("VERSION=7001"));
  refused(/nvCOMP 6\.0\.0 has no nvcompBatchedBitcompCompressAsync/, "nvcomp-bitcomp", library("LACKS"));
  assert.doesNotThrow(() => device(FP8, "emulator", library("LACKS")));
  refused(/nvCOMP needs a GPU/, "nvcomp-ans");
  const { problem } = native?.cuda() ?? assert.fail("no addon");
  if (problem !== "") assert.throws(() => device(FP8, "cuda" as "emulator", library()), { code: "unsupported", message: problem });
  assert.throws(() => new native!.NativeCodec(FP8), /nvCOMP codes in the memory of GPUs alone/);
});

test("what the library says of a call or a stream counts", { skip }, () => {
  const random = new Random(1);
  const tokens = [40, 3, 40, 17];
  const tiles = tokens.map((count, at) => ({ token: 40 * at, tokens: count, position: 40 * at, end: 160 }));
  const paged = makePaged(FP8, 160, random);
  // Of few values, so that codes become less.
  for (const [at] of paged.memory.entries()) paged.memory[at] = at % 2 === 0 ? 0 : random.pick([0x3f, 0x40]);
  const encode = (...macros: string[]) =>
    device(FP8, "emulator", library(...macros)).encode(paged.memory, paged.numbers, paged.lists, numbersOf(tiles));
  assert.throws(() => encode("FAILS"), { code: "codec_failed", message: /nvCOMP: a made-up failure \(1000\)/ });
  const original = tiles.map(({ token, tokens: count }) => takeParts(paged, token, count));
  const good = encode();
  assert.deepEqual(
    good.map(({ stored }) => stored),
    ["", "", "", ""],
  );
  for (const macro of ["REFUSES", "LIES"]) {
    for (const [at, { block, stored }] of encode(macro).entries()) {
      assert.equal(stored, "incompressible");
      assert.deepEqual(Buffer.from(block.subarray(HEADER_BYTES)), Buffer.concat(original[at] as Uint8Array[]));
    }
  }
  const lying = device(FP8, "emulator", library("LIES"));
  const problems = lying.decode(
    good.map(({ block }) => block),
    paged.memory,
    paged.numbers,
    paged.lists,
    numbersOf(tiles),
  );
  assert.deepEqual(problems, [DO_NOT_DECODE, "", DO_NOT_DECODE, ""]);
});

test("hostile blocks: refused or decoded within their memory", { skip }, () => {
  let [refused, decoded] = [0, 0];
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed);
    const { spec, tiles, paged } = makeCase(seed, randomSpec);
    const codec = device(coded(spec, "nvcomp-ans"), "emulator", library());
    const harmed = codec.encode(paged.memory, paged.numbers, paged.lists, numbersOf(tiles)).map(({ block }) => {
      if (random.chance(1, 4) || block.length < 50) return mutate(block, random);
      const bytes = Uint8Array.from(block);
      for (let times = random.between(1, 4); times > 0; times--) bytes[random.between(HEADER_BYTES, bytes.length - 1)] = random.below(256);
      // Sealed anew with another size, side or number of recent tokens: the library hears of streams of any length.
      const [cut, side] = [random.below(block.length - HEADER_BYTES), random.pick([0, 1, 7])];
      if (random.chance(1, 2)) return bytes;
      return resealed(block, { 28: cut, 32: Math.min(side, cut) }, bytes.subarray(0, HEADER_BYTES + cut));
    });
    const before = Uint8Array.from(paged.memory);
    const problems = codec.decode(harmed, paged.memory, paged.numbers, paged.lists, numbersOf(tiles));
    for (const problem of problems) [refused, decoded] = problem === "" ? [refused, decoded + 1] : [refused + 1, decoded];
    for (const { token, tokens } of tiles) putParts({ ...paged, memory: before }, takeParts(paged, token, tokens), token, tokens);
    assert.equal(Buffer.compare(before, paged.memory), 0, "nothing but the tiles is written");
  }
  assert.ok(refused > 150 && decoded > 20, `${refused} refused, ${decoded} decoded`);
});

test("sizes that no stream has do not reach the library", { skip }, () => {
  const random = new Random(3);
  const quantizer = { kind: "group", levels: Uint16Array.of(3, 200), axis: "channel", group: 16, recent: 0 } as const;
  const spec = coded({ ...SPEC, quantizer, codec: { kind: "none" } }, "nvcomp-ans");
  // An odd number of ranges, so that there is padding.
  const odd = coded(
    { ...SPEC, heads: 1, channels: 24, quantizer: { ...quantizer, levels: Uint16Array.of(9), axis: "tensor" }, codec: { kind: "none" } },
    "nvcomp-ans",
  );
  const tile = Float64Array.of(0, 40, 0, 40);
  const blockOf = (one: NativeCodecSpec) => {
    const paged = makePaged(one, 40, random);
    for (const [at] of paged.memory.entries()) paged.memory[at] = at % 2 === 0 ? random.below(256) : 0x3f;
    const codec = device(one, "emulator", library());
    const [made] = codec.encode(paged.memory, paged.numbers, paged.lists, tile);
    assert.equal(made?.stored, "");
    const problemOf = (block: Uint8Array) => codec.decode([block], paged.memory, paged.numbers, paged.lists, tile)[0];
    assert.equal(problemOf(made.block), "");
    return { block: made.block, problemOf };
  };
  const { block, problemOf } = blockOf(spec);
  const parameters = 3 * 16 * 4;
  const front = HEADER_BYTES + parameters;
  assert.equal(problemOf(resealed(block, { 28: parameters }, block.subarray(0, front))), DO_NOT_DECODE, "no stream");
  assert.equal(problemOf(resealed(block, { 32: 1 })), DO_NOT_DECODE, "escapes");
  const long = new Uint8Array(front + 40 * 16 + 16 + 33 + 1);
  assert.equal(
    problemOf(resealed(block, { 28: long.length - HEADER_BYTES }, Buffer.concat([block, long]).subarray(0, long.length))),
    DO_NOT_DECODE,
    "longer than any",
  );
  const other = blockOf(odd);
  const at = HEADER_BYTES;
  assert.deepEqual(
    [...other.block.subarray(at, at + 12)],
    Array.from({ length: 12 }, () => 0),
  );
  for (const place of [at, at + 11]) {
    const harmed = Uint8Array.from(other.block);
    harmed[place] = 1;
    assert.equal(other.problemOf(harmed), DO_NOT_DECODE, "padding that is not zero");
  }
});

test("a tile of more codes than nvCOMP takes is refused, not cut", { skip }, () => {
  const wide: NativeCodecSpec = { ...FP8, heads: 2, channels: 136 };
  const paged = makePaged(wide, 65_536, new Random(4));
  const codec = device(wide, "emulator", library());
  const tile = Float64Array.of(0, 65_536, 0, 65_536);
  assert.throws(() => codec.encode(paged.memory, paged.numbers, paged.lists, tile), {
    code: "codec_failed",
    message: /more than nvCOMP takes at once/,
  });
});
