/**
 * Kernels of GPU codecs on the emulator: their blocks are the scalar oracle's byte for byte, and what either side wrote the other takes apart into the same bits.
 * Method: random specs, paged layouts and tiles from seeded random numbers, each with threads and blocks in their order and in the opposite one; blocks with
 * flips and cuts.
 */
import assert from "node:assert/strict";
import test from "node:test";
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { encode, make, widthOf } from "../codec/tiles.ts";
import { mutate } from "../fuzz/mutate.ts";
import { Random } from "../fuzz/random.ts";
import { type Case, DEVICES, device, makeCase, numbersOf, type Tile } from "./cases.ts";
import { putParts, takeParts } from "./paged.ts";
import { randomDeviceSpec } from "./specs.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const ESCAPES_MAX = 8_192;
const SPECS = Number(process.env["KVFERRY_TEST_DEVICE_SPECS"] ?? 400);

const described = ({ spec, tiles }: Case): string =>
  JSON.stringify({
    ...spec,
    transform: Object.keys(spec.transform ?? {}),
    quantizer: { ...spec.quantizer, steps: 0 },
    codec: spec.codec.kind,
    tiles,
  });

test(`${SPECS} random specs: the oracle's blocks, and its bits back`, { skip }, () => {
  const stored = new Map<string, number>();
  for (let seed = 1; seed <= SPECS; seed++) {
    const one = makeCase(seed, randomDeviceSpec);
    const { spec, tiles, paged, expected } = one;
    try {
      const oracle = make({ ...spec, isa: "scalar" });
      for (const name of DEVICES) {
        const codec = device(spec, name);
        assert.equal(codec.id, oracle.id);
        const made = codec.encode(paged.memory, paged.numbers, paged.lists, numbersOf(tiles));
        for (const [at, { block, stored: why }] of made.entries()) {
          const wanted = expected[at] as { block: Uint8Array; stored: string };
          // With that many escapes a GPU stores what the CPU still codes.
          const isCrowded =
            wanted.stored === "" && new DataView(wanted.block.buffer, wanted.block.byteOffset).getUint32(32, true) > ESCAPES_MAX;
          if (isCrowded && why === "incompressible") continue;
          assert.equal(why, wanted.stored, `tile ${at} on the ${name}`);
          assert.equal(Buffer.compare(block, wanted.block), 0, `tile ${at} on the ${name}`);
          stored.set(why, (stored.get(why) ?? 0) + 1);
        }
        const back = { ...paged, memory: new Uint8Array(paged.memory.length).fill(0x33) };
        assert.deepEqual(
          codec.decode(
            expected.map(({ block }) => block),
            back.memory,
            back.numbers,
            back.lists,
            numbersOf(tiles),
          ),
          tiles.map(() => ""),
        );
        for (const [at, { token, tokens, position }] of tiles.entries()) {
          const parts = takeParts(back, token, tokens);
          const wanted = parts.map((part) => new Uint8Array(part.length));
          oracle.decode((expected[at] as { block: Uint8Array }).block, wanted, tokens, position);
          assert.ok(
            parts.every((part, index) => Buffer.compare(part, wanted[index] as Uint8Array) === 0),
            `tile ${at} from the ${name}`,
          );
        }
      }
    } catch (error) {
      throw new Error(`seed ${seed}: ${described(one)}`, { cause: error });
    }
  }
  assert.ok((stored.get("") ?? 0) > SPECS && (stored.get("incompressible") ?? 0) > 0, `what was met: ${JSON.stringify([...stored])}`);
});

test("values that are no numbers, or too large, are stored for that reason", { skip }, () => {
  const random = new Random(1);
  for (let seed = 1; seed <= 60; seed++) {
    const one = makeCase(seed, randomDeviceSpec);
    const { spec, tiles, paged } = one;
    if (spec.quantizer.kind === "none" && spec.transform === undefined) continue;
    const at = tiles.findIndex(({ tokens, position }) => tokens > 0 && position >= 9);
    if (at < 0 || (spec.quantizer.kind === "group" && spec.quantizer.recent > 0)) continue;
    const { token, tokens, position, end } = tiles[at] as Tile;
    const parts = (one.parts[at] as Uint8Array[]).map((part) => Uint8Array.from(part));
    const [size, part] = [spec.element === "f32" ? 4 : 2, random.pick(parts)];
    // The sign and the exponent of NaN or an infinity; what is huge may also be the better reason.
    const place = random.below(part.length / size) * size + size - 2;
    part[place + 1] = 0x7f;
    part[place] = random.pick([0xc0, 0x80]);
    putParts(paged, parts, token, tokens);
    const wanted = encode(make({ ...spec, isa: "scalar" }), parts, tokens, position, end);
    for (const name of DEVICES) {
      const [made] = device(spec, name).encode(paged.memory, paged.numbers, paged.lists, numbersOf([{ token, tokens, position, end }]));
      assert.equal(made?.stored, wanted.stored, described(one));
      assert.equal(Buffer.compare(made.block, wanted.block), 0);
    }
  }
});

test("blocks with flips and cuts are refused or decode within their memory", { skip }, () => {
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed);
    const { spec, tiles, paged, expected } = makeCase(seed, randomDeviceSpec);
    const codec = device(spec, "emulator");
    const harmed = expected.map(({ block }) => {
      const bytes = Uint8Array.from(block);
      // Behind the header, whose checksum would tell.
      if (random.chance(1, 4) || bytes.length < 50) return mutate(bytes, random);
      for (let times = random.between(1, 4); times > 0; times--) bytes[random.between(48, bytes.length - 1)] = random.below(256);
      return bytes;
    });
    const before = Uint8Array.from(paged.memory);
    const problems = codec.decode(harmed, paged.memory, paged.numbers, paged.lists, numbersOf(tiles));
    assert.equal(problems.length, tiles.length);
    for (const { token, tokens } of tiles) putParts({ ...paged, memory: before }, takeParts(paged, token, tokens), token, tokens);
    assert.equal(Buffer.compare(before, paged.memory), 0, `nothing but the tiles is written (${widthOf(spec)} wide)`);
  }
});

test("what a GPU does not do is refused by name", { skip }, () => {
  const spec = { element: "bf16", parts: 1, heads: 1, channels: 8, quantizer: { kind: "none" }, codec: { kind: "none" } } as const;
  const refused: readonly (readonly [NativeCodecSpec, RegExp])[] = [
    [{ ...spec, channels: 12 }, /channels are a multiple of 8/],
    [{ ...spec, verify: true }, /checksums/],
    [{ ...spec, quantizer: { kind: "cachegen", levels: Uint16Array.of(16) } }, /cachegen/],
    [{ ...spec, transform: { delta: { anchor: 4 } } }, /delta/],
    [
      { ...spec, quantizer: { kind: "group", levels: Uint16Array.of(3), axis: "token", group: 8, recent: 0 }, codec: { kind: "pack" } },
      /bit by bit/,
    ],
  ];
  for (const [one, reason] of refused) assert.throws(() => device(one, "emulator"), reason);
});
