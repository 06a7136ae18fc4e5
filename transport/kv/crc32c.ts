/** CRC32C (Castagnoli) in plain JavaScript: slicing by eight. The same on every host; what native code is compared with. PURE. */

/** `crc32c(whole)` equals `crc32c(tail, crc32c(head))`. */
export function crc32c(bytes: Uint8Array, seed = 0): number {
  let crc = ~seed;
  let at = 0;
  const end = bytes.length;
  if (LITTLE_ENDIAN && end >= 32) {
    for (; ((bytes.byteOffset + at) & 3) !== 0; at++) crc = TABLES[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
    const pairs = (end - at) >> 3;
    crc = wordPairs(new Int32Array(bytes.buffer, bytes.byteOffset + at, pairs * 2), crc);
    at += pairs * 8;
  }
  for (; at < end; at++) crc = TABLES[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

function wordPairs(words: Int32Array, seed: number): number {
  let crc = seed;
  for (let at = 0; at < words.length; at += 2) {
    const low = words[at]! ^ crc;
    const high = words[at + 1]!;
    crc =
      TABLES[1792 + (low & 0xff)]! ^
      TABLES[1536 + ((low >>> 8) & 0xff)]! ^
      TABLES[1280 + ((low >>> 16) & 0xff)]! ^
      TABLES[1024 + (low >>> 24)]! ^
      TABLES[768 + (high & 0xff)]! ^
      TABLES[512 + ((high >>> 8) & 0xff)]! ^
      TABLES[256 + ((high >>> 16) & 0xff)]! ^
      TABLES[high >>> 24]!;
  }
  return crc;
}

const LITTLE_ENDIAN = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1;

/** Eight tables of 256: table k advances a byte past k further zero bytes. */
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(2048);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    tables[byte] = crc;
  }
  for (let at = 256; at < 2048; at++) {
    const before = tables[at - 256]!;
    tables[at] = tables[before & 0xff]! ^ (before >>> 8);
  }
  return tables;
}
