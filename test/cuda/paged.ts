/** Paged KV for tests of device codecs: parts of a tile laid out in blocks by random strides, and taken out again. */
import type { NativeCodecSpec } from "../../transport/native-codec.ts";
import { type NativePlane, planeNumbers } from "../../transport/native.ts";
import type { Random } from "../fuzz/random.ts";
import { elementBytes } from "../codec/tiles.ts";

export interface Paged {
  readonly memory: Uint8Array;
  readonly planes: readonly NativePlane[];
  readonly numbers: Float64Array;
  readonly lists: readonly Uint32Array[];
}

/** Room for `tokens` tokens of each part, in memory of which every byte is known. */
export function makePaged(spec: NativeCodecSpec, tokens: number, random: Random): Paged {
  const bytes = elementBytes(spec.element);
  const tokensOfBlock = random.pick([1, 4, 16]);
  const firstToken = random.below(tokensOfBlock);
  const blocks = Math.max(1, Math.ceil((tokens + firstToken) / tokensOfBlock));
  // Channels side by side, heads and tokens either way round; now and then K transposed within a block, and blocks that begin anywhere.
  const order = random.pick(["tokens", "heads", "channels"] as const);
  const gap = random.pick([0, 0, 16, bytes]);
  const [ofHead, ofBlock] = [spec.channels * bytes, spec.heads * spec.channels * tokensOfBlock * bytes + gap];
  const strides = {
    tokens: { tokenStride: spec.heads * ofHead, headStride: ofHead, channelStride: bytes },
    heads: { tokenStride: ofHead, headStride: tokensOfBlock * ofHead, channelStride: bytes },
    channels: { tokenStride: bytes, headStride: tokensOfBlock * ofHead, channelStride: tokensOfBlock * bytes },
  }[order];
  const lists = Array.from({ length: random.between(1, 2) }, () => shuffled(blocks, random));
  const planes = Array.from({ length: spec.parts }, (_, part) => ({
    blockList: part % lists.length,
    offset: part * blocks * ofBlock,
    blockStride: ofBlock,
    tokens: tokensOfBlock,
    heads: spec.heads,
    channels: spec.channels,
    elementBytes: bytes,
    firstToken,
    ...strides,
  }));
  const memory = new Uint8Array(spec.parts * blocks * ofBlock).fill(0x5a);
  return { memory, planes, numbers: planeNumbers(planes), lists };
}

/** Offsets of the elements of a part, token by token, head by head, channel by channel. */
function* places({ planes, lists }: Paged, part: number, first: number, tokens: number): Generator<number> {
  const plane = planes[part] as NativePlane;
  const list = lists[plane.blockList] as Uint32Array;
  for (let token = first + plane.firstToken; token < first + plane.firstToken + tokens; token++) {
    const block = plane.offset + (list[Math.floor(token / plane.tokens)] as number) * plane.blockStride;
    for (let head = 0; head < plane.heads; head++) {
      for (let channel = 0; channel < plane.channels; channel++)
        yield block + (token % plane.tokens) * plane.tokenStride + head * plane.headStride + channel * plane.channelStride;
    }
  }
}

export function putParts(paged: Paged, parts: readonly Uint8Array[], first: number, tokens: number): void {
  for (const [part, bytes] of parts.entries()) {
    const size = (paged.planes[part] as NativePlane).elementBytes;
    let at = 0;
    for (const place of places(paged, part, first, tokens)) {
      for (let byte = 0; byte < size; byte++) paged.memory[place + byte] = bytes[at++] as number;
    }
  }
}

export function takeParts(paged: Paged, first: number, tokens: number): Uint8Array[] {
  return paged.planes.map(({ elementBytes: size, heads, channels }, part) => {
    const bytes = new Uint8Array(tokens * heads * channels * size);
    let at = 0;
    for (const place of places(paged, part, first, tokens)) {
      for (let byte = 0; byte < size; byte++) bytes[at++] = paged.memory[place + byte] as number;
    }
    return bytes;
  });
}

/** 0 to count - 1 in any order. */
function shuffled(count: number, random: Random): Uint32Array {
  const list = Uint32Array.from({ length: count }, (_, at) => at);
  for (let at = count - 1; at > 0; at--) {
    const other = random.below(at + 1);
    [list[at], list[other]] = [list[other] as number, list[at] as number];
  }
  return list;
}
