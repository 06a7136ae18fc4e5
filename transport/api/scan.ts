/**
 * Walks a msgpack message without building anything, so that the unpacker only ever sees what this API allows: no
 * extension types, text keys,
 * bounded depth, and no length that the message itself does not hold (five hostile bytes could ask for an array of four billion).
 */
import { limits } from "../limits.ts";

/** "" if the bytes are exactly one value of the allowed types; otherwise what is wrong with them. */
export function scanMessage(bytes: Uint8Array): string {
  const scanner = new Scanner(bytes);
  const problem = scanner.value(0);
  if (problem !== "") return problem;
  return scanner.at === bytes.length ? "" : "bytes behind the message";
}

const TRUNCATED = "the message is cut short";

class Scanner {
  at = 0;
  #values = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  value(depth: number): string {
    if (this.at >= this.#bytes.length) return TRUNCATED;
    if (++this.#values > limits.apiValuesMax) return `more than ${limits.apiValuesMax} values`;
    const type = this.#bytes[this.at++]!;
    if (type <= 0x7f || type >= 0xe0) return "";
    if (type <= 0x8f) return this.#items(type & 0x0f, true, depth);
    if (type <= 0x9f) return this.#items(type & 0x0f, false, depth);
    if (type <= 0xbf) return this.#skip(type & 0x1f);
    const fixed = FIXED[type - 0xc0]!;
    if (fixed >= 0) return this.#skip(fixed);
    switch (type) {
      case 0xc4:
      case 0xd9:
        return this.#sized(1);
      case 0xc5:
      case 0xda:
        return this.#sized(2);
      case 0xc6:
      case 0xdb:
        return this.#sized(4);
      case 0xdc:
        return this.#counted(2, false, depth);
      case 0xdd:
        return this.#counted(4, false, depth);
      case 0xde:
        return this.#counted(2, true, depth);
      case 0xdf:
        return this.#counted(4, true, depth);
      default:
        return `type 0x${type.toString(16)} is not used here`;
    }
  }

  #sized(width: number): string {
    const length = this.#length(width);
    return length < 0 ? TRUNCATED : this.#skip(length);
  }

  #counted(width: number, map: boolean, depth: number): string {
    const count = this.#length(width);
    return count < 0 ? TRUNCATED : this.#items(count, map, depth);
  }

  #items(count: number, map: boolean, depth: number): string {
    if (depth >= limits.apiDepthMax) return `nested more than ${limits.apiDepthMax} deep`;
    // Every item takes a byte at least: what cannot be there is refused before it is counted through.
    if (count * (map ? 2 : 1) > this.#bytes.length - this.at) return TRUNCATED;
    for (let item = 0; item < count; item++) {
      if (map && !this.#isText()) return "a key is not text";
      const problem = (map ? this.value(depth + 1) : "") || this.value(depth + 1);
      if (problem !== "") return problem;
    }
    return "";
  }

  #isText(): boolean {
    const type = this.#bytes[this.at];
    return type !== undefined && ((type >= 0xa0 && type <= 0xbf) || (type >= 0xd9 && type <= 0xdb));
  }

  #length(width: number): number {
    if (this.at + width > this.#bytes.length) return -1;
    let length = 0;
    for (let byte = 0; byte < width; byte++) length = length * 256 + this.#bytes[this.at++]!;
    return length;
  }

  #skip(length: number): string {
    this.at += length;
    return this.at <= this.#bytes.length ? "" : TRUNCATED;
  }
}

/** Bytes behind the types 0xc0 to 0xdf that have a fixed size; -1: not one of those. nil, false, true, floats and integers. */
const FIXED: readonly number[] = [
  0, -1, 0, 0, -1, -1, -1, -1, -1, -1, 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
];
