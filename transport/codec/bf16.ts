/** bf16 and floats. PURE. */

export function floatsOfBf16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  halves.forEach((half, at) => (bits[at] = half << 16));
  return new Float32Array(bits.buffer);
}

/** To the nearest, ties to even; what is finite stays so. */
export function bf16OfFloats(floats: Float32Array): Uint16Array {
  return new Uint16Array(new Uint32Array(floats.buffer, floats.byteOffset, floats.length)).map((_, at) => halfOf(floats[at]!));
}

const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);
const LARGEST = 0x7f7f;

function halfOf(value: number): number {
  float[0] = value;
  const bits = word[0]!;
  if (Number.isNaN(value)) return 0x7fc0;
  const rounded = (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
  const isBeyond = (rounded & 0x7fff) > LARGEST && Number.isFinite(value);
  return isBeyond ? (rounded & 0x8000) | LARGEST : rounded;
}
