/** CRC32C over little-endian words: for the pool's small table entries, where a crossing to native would cost more than the sum. */

/** CRC32C of words[first .. first+count), as if they were bytes in memory order on a little-endian host. */
export function crc32cWords(words: Uint32Array, first: number, count: number): number {
  let crc = 0xffffffff;
  for (let at = first, end = first + count; at < end; at++) {
    crc ^= words[at]!;
    crc = SLICES[768 + (crc & 0xff)]! ^ SLICES[512 + ((crc >>> 8) & 0xff)]! ^ SLICES[256 + ((crc >>> 16) & 0xff)]! ^ SLICES[crc >>> 24]!;
  }
  return ~crc >>> 0;
}

/** Four tables of 256: table k advances a byte past k further zero bytes (slicing by four). */
const SLICES = makeSlices();

function makeSlices(): Int32Array {
  const slices = new Int32Array(1024);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    slices[byte] = crc;
  }
  for (let at = 256; at < 1024; at++) {
    const before = slices[at - 256]!;
    slices[at] = slices[before & 0xff]! ^ (before >>> 8);
  }
  return slices;
}
