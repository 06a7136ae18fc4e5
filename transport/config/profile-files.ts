/** Profiles and calibrations by the names that people give them: presets and files. */
import { dirname, resolve } from "node:path";
import { type Calibration, checkKlt, type FloatRange, type Klt, type KltWish, openCalibration } from "../codec/calibration.ts";
import { parseProfileJson } from "../codec/parse.ts";
import { PRESETS } from "../codec/presets.ts";
import type { Profile } from "../codec/profile.ts";
import { KvferryError } from "../errors.ts";
import { readSmallFile } from "../tls/files.ts";
import { readScores } from "./scores-file.ts";
import { TensorFile } from "./tensor-file.ts";

/** A preset's name, or a JSON file. Throws invalid_argument. */
export function readProfile(name: string, presets: typeof PRESETS = PRESETS): Profile {
  const preset = presets.get(name);
  if (preset !== undefined) return preset.profile;
  let bytes: Uint8Array;
  try {
    bytes = readSmallFile(name);
  } catch (error) {
    const there = [...presets.keys()].join(", ");
    throw new KvferryError("invalid_argument", `${name} is none of ${there}, and no file (${(error as Error).message})`, {
      cause: error,
    });
  }
  return parseProfileJson(bytes, name, (path) => readScores(resolve(dirname(name), path)));
}

/** Throws invalid_argument. Its matrices are read from the file as they are needed. */
export function loadCalibration(path: string): Calibration {
  const file = new TensorFile(path);
  return openCalibration(file.head, (tensor, from, bytes) => file.read(tensor, from, bytes), file.hash(), path);
}

/** Of a node: its matrices are up to hundreds of megabytes a tile, and read while other things go on. */
export interface NodeCalibration extends Calibration {
  /** Rejects as kltOf throws. Absent: all is in memory. */
  readonly kltLater?: (...wish: KltWish) => Promise<Klt>;
}

/** The same as `loadCalibration`, without a long step. Rejects with invalid_argument. */
export async function loadCalibrationLater(path: string): Promise<NodeCalibration> {
  const file = new TensorFile(path);
  const hash = await file.hashLater();
  const calibration = openCalibration(file.head, (tensor, from, bytes) => file.read(tensor, from, bytes), hash, path);
  const floatsLater = async ({ tensor, from, count }: FloatRange): Promise<Float32Array> => {
    const floats = new Float32Array(count);
    await file.readLater(tensor, from * 4, new Uint8Array(floats.buffer));
    return floats;
  };
  return {
    ...calibration,
    kltLater: async (...wish) => {
      const { matrices, sigma } = calibration.kltPlace(...wish);
      return checkKlt({ matrices: await floatsLater(matrices), sigma: await floatsLater(sigma) }, path);
    },
  };
}
