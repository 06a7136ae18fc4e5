/** kvferry codec calibrate, and the files that it makes. */
import { expected } from "../../check.ts";
import { calibrate } from "../../codec/calibrate.ts";
import type { Rope } from "../../codec/calibration.ts";
import type { Rotation } from "../../codec/source.ts";
import { KvferryError } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { type Drift, driftOf } from "./drift.ts";
import { type Dump, openDump, type RopeFlags, rotationOf } from "./dump.ts";
import { loadCalibration } from "../../config/profile-files.ts";
import { checkOutput, floats, TensorFile, writeTensors } from "../../config/tensor-file.ts";

export interface CalibrateOptions extends RopeFlags {
  readonly out: string;
  /** Layers of each KLT; 0: of each head. */
  readonly klt: readonly number[];
  readonly exempt: number;
  /** A safetensors file with `sensitivity`. */
  readonly sensitivity?: string;
  readonly against: readonly string[];
}

export interface Calibrated {
  readonly hash: string;
  readonly tokens: number;
  readonly hasQueries: boolean;
  readonly hasSensitivity: boolean;
  readonly drift: readonly Drift[];
}

/** Throws KvferryError. @param onStep hears of each step: those of wide KLTs take minutes */
export function makeCalibration(paths: readonly string[], options: CalibrateOptions, onStep: (what: string) => void): Calibrated {
  // Before minutes of work for nothing.
  checkOutput(options.out, [...paths, ...options.against, ...(options.sensitivity === undefined ? [] : [options.sensitivity])]);
  const dumps = paths.map((path) => openDump(path, options));
  const heldOut = options.against.map((path) => openDump(path, options));
  const sensitivity = sensitivityOf(dumps, options.sensitivity);
  for (const dump of heldOut) checkHeldOut(dump, dumps[0]!, options.exempt);
  const { exempt, klt } = options;
  const parts = calibrate({ sources: dumps, exempt, klt, sensitivity, rotation: rotations(), onStep });
  const hash = writeTensors(options.out, parts.shapes, parts.metadata, parts.values());
  const drift = heldOut.length === 0 ? [] : driftOf(loadCalibration(options.out), heldOut, exempt);
  for (const { file } of [...dumps, ...heldOut]) file.close();
  return {
    hash,
    tokens: dumps.reduce((sum, { tokens }) => sum + tokens - exempt, 0),
    hasQueries: dumps.every(({ querySquare }) => querySquare !== undefined),
    hasSensitivity: sensitivity !== undefined,
    drift,
  };
}

export function driftLines(drift: readonly Drift[]): string[] {
  return drift.map(({ side, klt, bits, worstLayer, worstBits }) => {
    const where = klt === 0 ? "channel by channel" : `behind the KLT of ${klt} layers`;
    const last = klt <= 1 ? "" : ` and the ${klt - 1} behind it`;
    return `drift of ${side.toUpperCase()} ${where}: ${bits.toFixed(4)} bits a value, at most ${worstBits.toFixed(4)} (layer ${worstLayer}${last})`;
  });
}

/** The longest dump's angles serve the shorter ones. */
function rotations(): (rope: Rope, tokens: number) => Rotation {
  let held: Rotation | undefined;
  let heldTokens = 0;
  return (rope, tokens) => {
    if (held === undefined || tokens > heldTokens) {
      held = rotationOf(rope, tokens);
      heldTokens = tokens;
    }
    return held;
  };
}

/** Of a file of its own, or the mean of what the dumps have. */
function sensitivityOf(dumps: readonly Dump[], path: string | undefined): Float32Array | undefined {
  const layers = dumps[0]?.layers ?? 0;
  if (path !== undefined) {
    const file = new TensorFile(path);
    try {
      return floats(file, "sensitivity", [layers, 2], 0);
    } finally {
      file.close();
    }
  }
  if (!dumps.every(({ file }) => file.head.tensors.has("sensitivity"))) return undefined;
  const all = dumps.map(({ file }) => floats(file, "sensitivity", [layers, 2], 0));
  return all[0]!.map((_, at) => all.reduce((sum, one) => sum + one[at]!, 0) / all.length);
}

function checkHeldOut(dump: Dump, first: Dump, exempt: number): void {
  const [theirs, ours] = [dump, first].map(({ layers, heads, channels }) => `${layers} layers of ${heads} heads of ${channels} channels`);
  if (theirs !== ours) throw expected(`${ours}, as ${first.name} has`, `--against ${dump.name}`, theirs);
  if (dump.tokens <= exempt) throw expected(`more than ${exempt} tokens`, `--against ${dump.name}`, dump.tokens);
}

/** Throws invalid_argument. @param text comma-separated numbers of layers, or `head` */
export function parseKlt(text: string): readonly number[] {
  if (text === "none") return [];
  const widths = text.split(",").map((one) => {
    if (one === "head") return 0;
    const layers = /^\d{1,3}$/.test(one) ? Number(one) : -1;
    if (layers < 1 || layers > limits.codecLayersMax)
      throw expected(`numbers of layers from 1 to ${limits.codecLayersMax}, head, or none`, "--klt", text);
    return layers;
  });
  if (new Set(widths).size !== widths.length) throw new KvferryError("invalid_argument", `--klt names ${text}: one of them twice`);
  return widths;
}
