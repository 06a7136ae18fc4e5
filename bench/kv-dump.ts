/**
 * Real KV: dumps such as `kvferry codec` reads, as prompts that can be laid into blocks. A dump has a plane for K and one for V of each layer, head by head;
 * a prompt has the same planes in canonical order, token by token, one behind the other as `canonicalPlan` (pair.ts) has them.
 */
import { expected } from "../transport/check.ts";
import { compare, Difference, halvesOf, type CodecError, type NamedProfile } from "../transport/cli/codec/compare.ts";
import { type Dump, openDump } from "../transport/cli/codec/dump.ts";
import type { Calibration } from "../transport/codec/calibration.ts";
import { canonicalPlan } from "./pair.ts";
import { shapeOf, type ShapedSlice } from "./models.ts";
import type { LayoutOrder } from "./workload.ts";

export interface KvPrompt {
  /** Of its file. */
  readonly name: string;
  readonly dump: Dump;
  readonly stream: Uint8Array;
}

export interface KvPrompts {
  readonly slice: ShapedSlice;
  readonly prompts: readonly KvPrompt[];
}

/** Tokens of a tile in `expectedError`: about what a chunk has. */
const SPAN = 512;

/**
 * All of one model, cut to `tokens` (default: to the shortest). Throws invalid_argument on what is no dump, on one that is cut, and on dumps of several models.
 */
export function readPrompts(files: readonly string[], blockTokens: number, tokens?: number): KvPrompts {
  const dumps = files.map((file) => openDump(file, {}));
  const [first] = dumps;
  if (first === undefined) throw expected("a file at least", "--data", "none");
  const shape = ({ model, layers, heads, channels }: Dump): string => `${model} (${layers} layers, ${heads} KV heads of ${channels})`;
  for (const dump of dumps) if (shape(dump) !== shape(first)) throw expected(shape(first), `model of ${dump.name}`, shape(dump));
  const least = Math.min(...dumps.map((dump) => dump.tokens));
  if (least < (tokens ?? 1))
    throw expected(`at least ${tokens ?? 1} tokens`, `kv of ${dumps.find((dump) => dump.tokens === least)!.name}`, least);
  const wanted = tokens ?? least;
  const { model, layers, heads, channels } = first;
  const slice: ShapedSlice = {
    ...{ tokens: wanted, tensorParallel: 1, blockTokens },
    model: { title: model, layers, kind: "kv", kvHeads: heads, channels, elementBytes: 2 },
  };
  const prompts = dumps.map((dump) => {
    const cut = firstTokens(dump, wanted);
    return { name: dump.name, dump: cut, stream: streamOf(cut, planesOf(slice)) };
  });
  return { slice, prompts };
}

/** What is wrong with bytes that came: how many differ, and by how much. */
export function differenceOf(
  { stream }: KvPrompt,
  came: Uint8Array,
  slice: ShapedSlice,
): { readonly wrong: number; readonly error: CodecError } {
  let wrong = 0;
  if (Buffer.compare(stream, came) !== 0) for (let at = 0; at < stream.length; at++) if (stream[at] !== came[at]) wrong++;
  const errors = { k: new Difference(), v: new Difference() };
  const bytes = planeBytes(slice);
  planesOf(slice).forEach(({ side }, index) => {
    const of = (all: Uint8Array): Uint8Array => all.subarray(index * bytes, (index + 1) * bytes);
    errors[side].add(halvesOf(of(stream)), halvesOf(of(came)));
  });
  const { k, v } = errors;
  return { wrong, error: { k: k.relative, v: v.relative, largest: Math.max(k.largest, v.largest) } };
}

/** What the codec by itself makes of the prompt. */
export function expectedError({ dump }: KvPrompt, profile: NamedProfile, calibration: Calibration | undefined): CodecError {
  return compare(profile, dump, { span: SPAN, calibration }).error;
}

interface KvPlane {
  readonly side: "k" | "v";
  readonly layer: number;
}

const ANY_ORDER: LayoutOrder = { order: "nhd", blockTokens: 16 };

function planesOf(slice: ShapedSlice): KvPlane[] {
  const { coded } = canonicalPlan(slice, ANY_ORDER, Math.ceil(slice.tokens / ANY_ORDER.blockTokens));
  return coded.map((about) => ({ side: about!.component === "v" ? "v" : "k", layer: about!.layers[0]! }));
}

function planeBytes(slice: ShapedSlice): number {
  const { kvHeads, channels, elementBytes } = shapeOf(slice);
  return slice.tokens * kvHeads * channels * elementBytes;
}

function streamOf({ heads, tokens, channels, plane }: Dump, planes: readonly KvPlane[]): Uint8Array {
  const width = heads * channels;
  const values = new Uint16Array(planes.length * tokens * width);
  planes.forEach(({ side, layer }, index) => {
    const from = plane(side, layer);
    const start = index * tokens * width;
    for (let head = 0; head < heads; head++)
      for (let token = 0; token < tokens; token++) {
        const at = (head * tokens + token) * channels;
        values.set(from.subarray(at, at + channels), start + token * width + head * channels);
      }
  });
  return new Uint8Array(values.buffer);
}

/** The same dump as if it ended sooner. */
function firstTokens(dump: Dump, tokens: number): Dump {
  if (tokens === dump.tokens) return dump;
  const { heads, channels } = dump;
  return {
    ...dump,
    tokens,
    plane: (side, layer) => {
      const whole = dump.plane(side, layer);
      const values = new Uint16Array(heads * tokens * channels);
      for (let head = 0; head < heads; head++)
        values.set(whole.subarray(head * dump.tokens * channels, (head * dump.tokens + tokens) * channels), head * tokens * channels);
      return values;
    },
  };
}
