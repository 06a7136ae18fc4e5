/**
 * lz4 of blocks, in JavaScript: a yardstick for files. It finds next to nothing in KV, so no peer is offered it and nothing chooses it. A block is one of the codec
 * `none`, or what lz4 made of that where it became less: 4 bytes of its length, and then a block of lz4.
 */
import { createRequire } from "node:module";
import { asKvferryError, KvferryError } from "../../errors.ts";
import type { NativeCodec } from "../../native-codec.ts";

interface Library {
  /** With the length in front. */
  compressSync(bytes: Uint8Array): Buffer;
  uncompressSync(bytes: Uint8Array): Buffer;
}

export type TileCoder = Pick<NativeCodec, "bound" | "encode" | "decode">;

const MAGIC = Buffer.from("KVFB");
const LENGTH_BYTES = 4;

/** Throws unsupported if lz4-napi does not load. @param plain of the same profile with the codec `none` */
export function lz4Over(plain: TileCoder): TileCoder {
  const library = load();
  return {
    bound: (tokens) => plain.bound(tokens),
    encode(parts, tokens, position, out, end) {
      const encoded = plain.encode(parts, tokens, position, out, end);
      const less = library.compressSync(out.subarray(0, encoded.bytes));
      if (less.length >= encoded.bytes) return { bytes: encoded.bytes, stored: encoded.stored === "" ? "incompressible" : encoded.stored };
      out.set(less);
      return { bytes: less.length, stored: "" };
    },
    decode(block, parts, tokens, position) {
      plain.decode(isPlain(block) ? block : inflate(library, block, plain.bound(tokens)), parts, tokens, position);
    },
  };
}

/** Its magic as a length is beyond any block's. */
function isPlain(block: Uint8Array): boolean {
  return block.length < LENGTH_BYTES || MAGIC.equals(block.subarray(0, LENGTH_BYTES));
}

function inflate({ uncompressSync }: Library, block: Uint8Array, most: number): Uint8Array {
  const bytes = new DataView(block.buffer, block.byteOffset, LENGTH_BYTES).getUint32(0, true);
  // The library takes as much memory as the length says.
  if (bytes > most) throw new KvferryError("codec_failed", `the block would have ${bytes} bytes, and ${most} are the most`);
  try {
    return uncompressSync(block);
  } catch (cause) {
    throw new KvferryError("codec_failed", `the block is none of lz4: ${(cause as Error).message}`, { cause });
  }
}

/** Why it does not load, or "". */
export function lz4Problem(): string {
  try {
    load();
    return "";
  } catch (error) {
    return asKvferryError(error).detail;
  }
}

function load(): Library {
  try {
    return createRequire(import.meta.url)("lz4-napi") as Library;
  } catch (cause) {
    throw new KvferryError("unsupported", `lz4-napi does not load: ${(cause as Error).message.split("\n", 1)[0]}`, { cause });
  }
}
