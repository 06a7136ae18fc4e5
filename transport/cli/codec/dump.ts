/** A dump: `kv` bf16 [layers, 2, kv_heads, tokens, head_dim], K after its rotary embedding, with what the metadata says of the model. */
import { expected, integer } from "../../check.ts";
import type { Rope } from "../../codec/calibration.ts";
import type { Side } from "../../codec/profile.ts";
import type { KvSource, Rotation } from "../../codec/source.ts";
import type { ModelShape } from "../../codec/spec.ts";
import { KvferryError } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { floats, TensorFile } from "../../config/tensor-file.ts";

export interface RopeFlags {
  readonly ropeTheta?: string;
  readonly ropePairing?: string;
}

export interface Dump extends KvSource, ModelShape {
  readonly file: TensorFile;
  readonly element: "bf16";
  readonly metadata: Readonly<Record<string, string>>;
}

export interface KvShape {
  readonly layers: number;
  readonly heads: number;
  readonly tokens: number;
  readonly channels: number;
}

/** What the metadata of an encoded file has. */
export const ENCODED_KEY = "kvferry_codec";

/** Throws invalid_argument. */
export function openDump(path: string, flags: RopeFlags): Dump {
  const file = new TensorFile(path);
  if (file.head.metadata.has(ENCODED_KEY))
    throw new KvferryError("invalid_argument", `${path} is encoded already: kvferry codec decode makes KV of it again`);
  const { dtype, shape } = file.tensor("kv");
  if (dtype !== "BF16") throw expected("BF16", `dtype of kv (of ${path})`, dtype);
  const { layers, heads, tokens, channels } = kvShape(shape, path);
  const metadata: Record<string, string> = Object.fromEntries(file.head.metadata);
  if (flags.ropeTheta !== undefined) metadata["rope_theta"] = flags.ropeTheta;
  if (flags.ropePairing !== undefined) metadata["rope_pairing"] = flags.ropePairing;
  const planeBytes = heads * tokens * channels * 2;
  return {
    file,
    name: path,
    model: metadata["model"] ?? "",
    element: "bf16",
    layers,
    heads,
    channels,
    tokens,
    metadata,
    rope: ropeOf(file, metadata, channels),
    plane: (side: Side, layer: number) => {
      const bytes = file.read("kv", (layer * 2 + (side === "k" ? 0 : 1)) * planeBytes, planeBytes);
      return new Uint16Array(bytes.buffer, bytes.byteOffset, planeBytes / 2);
    },
    querySquare: file.head.tensors.has("query_square") ? floats(file, "query_square", [layers, heads, channels], 0) : undefined,
  };
}

/** Throws invalid_argument unless it is [layers, 2, kv_heads, tokens, head_dim], within bounds. */
export function kvShape(shape: readonly unknown[], path: string): KvShape {
  const [layers, sides, heads, tokens, channels] = shape;
  if (shape.length !== 5 || sides !== 2)
    throw expected("[layers, 2, kv_heads, tokens, head_dim]", `shape of kv (of ${path})`, `[${shape.join(", ")}]`);
  return {
    layers: integer(layers, `layers of ${path}`, 1, limits.layersMax),
    heads: integer(heads, `kv_heads of ${path}`, 1, limits.headsMax),
    tokens: integer(tokens, `tokens of ${path}`, 0, limits.keyTokensMax),
    channels: integer(channels, `head_dim of ${path}`, 1, limits.channelsMax),
  };
}

/** Of `rope_theta` and `rope_pairing` in the metadata or of flags; frequencies that are no powers of theta stand in `inverse_frequencies`. */
export function ropeOf(file: TensorFile, metadata: Readonly<Record<string, string>>, channels: number): Rope | undefined {
  const { rope_theta: theta, rope_pairing: pairing } = metadata;
  const tensor = file.head.tensors.get("inverse_frequencies");
  if (theta === undefined && tensor === undefined) return undefined;
  const where = `rope_pairing (--rope-pairing, or in the metadata of ${file.path})`;
  if (pairing !== "half" && pairing !== "adjacent") throw expected("half or adjacent", where, pairing);
  if (tensor !== undefined) {
    const inverseFrequencies = floats(file, "inverse_frequencies", [integer(tensor.shape[0], "pairs", 1, Math.floor(channels / 2))]);
    return { pairing, inverseFrequencies };
  }
  const base = Number(theta);
  if (!(base > 1 && base < 1e12)) throw expected("a number above 1", "rope_theta (--rope-theta)", theta);
  return {
    pairing,
    inverseFrequencies: Float32Array.from({ length: Math.floor(channels / 2) }, (_, pair) => base ** ((-2 * pair) / channels)),
  };
}

/** Angles of every position, for what has to take the embedding off. */
export function rotationOf({ inverseFrequencies }: Rope, tokens: number): Rotation {
  const pairs = inverseFrequencies.length;
  const angle = (at: number): number => Math.floor(at / pairs) * inverseFrequencies[at % pairs]!;
  const count = { length: tokens * pairs };
  return {
    cosine: Float64Array.from(count, (_, at) => Math.cos(angle(at))),
    sine: Float64Array.from(count, (_, at) => Math.sin(angle(at))),
  };
}
