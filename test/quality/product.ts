/** The product's codec as its users run it: `kvferry codec`, files in, files out. */
import { spawnSync } from "node:child_process";
import { mkdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { ROOT } from "./place.ts";

/** Throws with what the command said if it fails. */
function codec(verb: string, args: readonly string[]): string {
  // As it is installed: `npm run prepare` has built it.
  const program = [join(ROOT, "dist", "transport", "cli.js"), "codec", verb, ...args];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, program, { encoding: "utf8", maxBuffer: 2 ** 26 });
  if (status !== 0) throw new Error(`kvferry codec ${verb} failed (${signal ?? status}): ${stderr.slice(-2_000)}`);
  return stdout;
}

/** @param options more flags of `kvferry codec calibrate` */
export function calibrate(dumps: readonly string[], out: string, options: readonly string[]): void {
  codec("calibrate", [...dumps, "--out", out, ...options]);
}

export interface RoundTrip {
  readonly dump: string;
  readonly kvBytes: number;
  /** By how much the file is larger than what else the dump held: all that a receiver needs but the calibration. */
  readonly encodedBytes: number;
}

/** Encodes each dump and decodes what came of it, into a file of the dump's name in `folder`. */
export function roundTrip(dumps: readonly string[], profile: string, calibration: string, folder: string): RoundTrip[] {
  mkdirSync(folder, { recursive: true });
  return dumps.map((dump) => {
    const encoded = join(folder, `${basename(dump)}.kvferry`);
    const told = codec("encode", [dump, "--profile", profile, "--calibration", calibration, "--out", encoded, "--json"]);
    codec("decode", [encoded, "--calibration", calibration, "--out", join(folder, basename(dump))]);
    const { kvBytes } = JSON.parse(told) as { readonly kvBytes: number };
    const otherBytes = statSync(dump).size - kvBytes;
    return { dump, kvBytes, encodedBytes: statSync(encoded).size - otherBytes };
  });
}
