/** Encoded files changed by hand: whoever knows the format can make their checksums fit again, and what else decoders look at is still to be seen. */
import { readFileSync, writeFileSync } from "node:fs";
import { parseHead, type SafetensorsHead, writeHead } from "../../transport/codec/safetensors.ts";
import { crc32c } from "../../transport/kv/crc32c.ts";

const KEY = "kvferry_codec";

/** A tensor, in the memory of `bytes`. */
export function tensorIn(bytes: Buffer, name: string): Buffer {
  const { offset, bytes: count } = headOf(bytes, name).tensors.get(name)!;
  return bytes.subarray(offset, offset + count);
}

/** Writes to `to` what `change` makes of an encoded file. @param isSealed its checksums fit */
export function changed(from: string, to: string, isSealed: boolean, change: (bytes: Buffer) => void): string {
  const bytes = readFileSync(from);
  change(bytes);
  const { tensors, metadata } = headOf(bytes, from);
  const about = JSON.parse(metadata.get(KEY)!) as Record<string, unknown>;
  if (isSealed) about["checksums"] = Object.fromEntries([...tensors.keys()].map((name) => [name, crc32c(tensorIn(bytes, name))]));
  const shapes = [...tensors].map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const head = writeHead(shapes, { ...Object.fromEntries(metadata), [KEY]: JSON.stringify(about) });
  writeFileSync(to, Buffer.concat([head, bytes.subarray(8 + Number(bytes.readBigUInt64LE()))]));
  return to;
}

function headOf(bytes: Buffer, name: string): SafetensorsHead {
  return parseHead(bytes.subarray(0, 8 + Number(bytes.readBigUInt64LE())), bytes.length, name);
}
