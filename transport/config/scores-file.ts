/** Files that rank heads, for profiles whose quantizer is mixhq. */
import { expected } from "../check.ts";
import { hashOf } from "../codec/identity.ts";
import { parseHeadScores, type Scores } from "../codec/mixhq.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { readSmallFile } from "../tls/files.ts";
import { floats, TensorFile } from "./tensor-file.ts";

/** Throws invalid_argument. @param path .safetensors with `scores`, f32 [layers, heads], or JSON */
export function readScores(path: string): Scores {
  if (path.endsWith(".safetensors")) {
    const file = new TensorFile(path);
    try {
      const [layers, heads] = file.tensor("scores").shape;
      if (layers === undefined || heads === undefined) throw expected("[layers, heads]", `shape of scores (of ${path})`, layers);
      const all = floats(file, "scores", [layers, heads]);
      const rows = Array.from({ length: layers }, (_, layer) => Array.from(all.subarray(layer * heads, (layer + 1) * heads)));
      return { hash: file.hash(), heads: parseHeadScores(rows, `scores of ${path}`) };
    } finally {
      file.close();
    }
  }
  let bytes: Uint8Array;
  let value: unknown;
  try {
    bytes = readSmallFile(path);
    if (bytes.length > limits.headScoresBytes) throw expected(`at most ${limits.headScoresBytes} bytes`, path, bytes);
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    const what = `scores: ${path} is no JSON in UTF-8 of at most ${limits.headScoresBytes} bytes (${(error as Error).message})`;
    throw new KvferryError("invalid_argument", what, { cause: error });
  }
  return { hash: hashOf(bytes), heads: parseHeadScores(value, `scores of ${path}`) };
}
