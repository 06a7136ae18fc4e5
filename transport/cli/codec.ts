/** kvferry codec: what compression there is, and what it makes of KV that lies in files. */
import { basename, extname, join } from "node:path";
import { Command } from "commander";
import { expected, integer } from "../check.ts";
import { type Component, COMPONENTS, type Parameter, STAGES } from "../codec/components.ts";
import { profileId } from "../codec/identity.ts";
import { PRESETS, YARDSTICKS } from "../codec/presets.ts";
import { profileSchemaText } from "../codec/schema.ts";
import { loadCalibration, readProfile } from "../config/profile-files.ts";
import { checkOutput, statOf, writeOutput } from "../config/tensor-file.ts";
import { KvferryError } from "../errors.ts";
import { makeFolder } from "../folder.ts";
import { limits } from "../limits.ts";
import { nvcompProblem } from "../native-device.ts";
import { native } from "../native.ts";
import { driftLines, makeCalibration, parseKlt } from "./codec/calibration-file.ts";
import { compare, type NamedProfile, tableOf } from "./codec/compare.ts";
import { openDump, type RopeFlags } from "./codec/dump.ts";
import { decodeFile, encodeFile, type Written } from "./codec/encoded-file.ts";
import { plotOf } from "./codec/plot.ts";
import type { TileOptions } from "./codec/tiles.ts";
import { usage } from "./failure.ts";

interface TileFlags extends RopeFlags {
  readonly calibration?: string;
  readonly tokens: string;
  readonly verifyDecoded?: boolean;
  readonly json?: boolean;
}

interface DecodeFlags {
  readonly out: string;
  readonly calibration?: string;
  readonly ragged?: boolean;
  readonly json?: boolean;
}

interface CalibrateFlags extends RopeFlags {
  readonly out: string;
  readonly klt: string;
  readonly exempt: string;
  readonly sensitivity?: string;
  readonly against: readonly string[];
  readonly json?: boolean;
}

const NAMED = new Map([...PRESETS, ...YARDSTICKS]);
const ENCODED = ".kvz";
const DECODED = ".safetensors";

const EXAMPLES = `
FILE is safetensors with \`kv\`, bf16 [layers, 2, kv_heads, tokens, head_dim], K after its rotary embedding; the metadata may have \`model\`,
\`rope_theta\` and \`rope_pairing\` (half or adjacent). A profile is the name of a preset or a JSON file (schemas/profile.schema.json).

Examples:
  kvferry codec list                                                    components with their parameters, and presets
  kvferry codec list cpu-fast                                           one preset as JSON: a profile of one's own begins here
  kvferry codec calibrate a.safetensors b.safetensors -o model.calibration --against c.safetensors
  kvferry codec compare c.safetensors --profile lossless --profile cpu-fast --calibration model.calibration --plot c.svg
  kvferry codec encode c.safetensors -o c.kvz --profile cpu-fast --calibration model.calibration
  kvferry codec decode c.kvz -o back.safetensors --calibration model.calibration`;

export function codecCommand(): Command {
  const command = new Command("codec").description("compress KV that lies in files: list, compare, encode, decode, calibrate");
  command
    .command("list")
    .description("what profiles are made of, and presets; with a preset, that one as JSON")
    .argument("[preset]")
    .option("--json", "one JSON document")
    .option("--schema", "the JSON schema of profiles")
    .action((preset: string | undefined, options: { json?: boolean; schema?: boolean }) => {
      if (options.schema === true) process.stdout.write(profileSchemaText());
      else list(preset, options.json === true);
    });
  tileFlags(command.command("encode").description("compress files").argument("<files...>"))
    .requiredOption("-o, --out <path>", `a file, or a folder that gets NAME${ENCODED} of each`)
    .requiredOption("--profile <profile>", "a preset or a JSON file", onlyProfile)
    .action((files: readonly string[], options: TileFlags & { out: string; profile: string }) => encode(files, options));
  command
    .command("decode")
    .description("turn what encode made back into safetensors files")
    .argument("<files...>")
    .requiredOption("-o, --out <path>", `a file, or a folder that gets NAME${DECODED} of each`)
    .option("--calibration <file>", "the one that they were encoded with")
    .option("--ragged", "merged tokens stay merged (schemas/codec.md); else each token gets what it was merged into")
    .option("--json", "one JSON document a line")
    .action((files: readonly string[], options: DecodeFlags) => decode(files, options));
  tileFlags(command.command("compare").description("ratio, speed and error of profiles on a file").argument("<file>"))
    .option("--profile <profile>", "a preset or a JSON file; may be given again", collect, [] as readonly string[])
    .option("--plot <file>", "ratio against error, as SVG")
    .action((file: string, options: TileFlags & { profile: readonly string[]; plot?: string }) => compareAll(file, options));
  command
    .command("calibrate")
    .description("measure what profiles need to know of a model's KV")
    .argument("<dumps...>")
    .requiredOption("-o, --out <file>", "where the calibration goes")
    .option("--klt <layers>", "layers of a KLT, comma-separated; head: of each head; none", "5")
    .option("--exempt <n>", "first tokens of each dump that are left out", "4")
    .option("--sensitivity <file>", "safetensors with `sensitivity`, f32 [layers, 2]: how much noise of each layer's K and V costs")
    .option("--against <dump>", "a dump to measure drift on; may be given again", collect, [] as readonly string[])
    .option("--rope-theta <number>", "where the metadata has none")
    .option("--rope-pairing <pairing>", "half or adjacent")
    .option("--json", "one JSON document")
    .action((dumps: readonly string[], options: CalibrateFlags) => runCalibrate(dumps, options));
  for (const verb of [command, ...command.commands]) verb.addHelpText("after", EXAMPLES);
  return command;
}

function tileFlags(command: Command): Command {
  return command
    .option("--calibration <file>", "of kvferry codec calibrate")
    .option("--tokens <n>", "tokens of a tile", "256")
    .option("--verify-decoded", "blocks carry a checksum of what they decode to, which decoders check; lossy encoding decodes as well")
    .option("--rope-theta <number>", "where the metadata has none")
    .option("--rope-pairing <pairing>", "half or adjacent")
    .option("--json", "one JSON document");
}

function list(name: string | undefined, isJson: boolean): void {
  if (name !== undefined) {
    const preset = NAMED.get(name);
    if (preset === undefined) throw expected(`one of ${[...NAMED.keys()].join(", ")}`, "preset", name);
    console.log(JSON.stringify(preset.profile, null, 2));
    return;
  }
  const presets = [...PRESETS].map(([preset, { help, profile }]) => ({ name: preset, help, id: profileId(profile), profile }));
  const nvcomp = { problem: nvcompProblem(native?.cuda()) };
  if (isJson) {
    console.log(JSON.stringify({ components: COMPONENTS, presets, nvcomp }, null, 2));
    return;
  }
  const lines = STAGES.flatMap((stage) => [stage, ...COMPONENTS[stage].flatMap(componentLines), ""]);
  if (nvcomp.problem !== "") lines.push(`nvCOMP cannot be used here: ${nvcomp.problem}`, "");
  const linesOf = (all: typeof PRESETS): string[] => [...all].map(([preset, { help }]) => `  ${preset.padEnd(13)}${help}`);
  console.log([...lines, "presets", ...linesOf(PRESETS), "", "yardsticks, for files alone", ...linesOf(YARDSTICKS)].join("\n"));
}

function componentLines({ kind, help, parameters }: Component): string[] {
  const own = Object.entries(parameters).map(([key, parameter]) => `      ${key.padEnd(9)}${boundsOf(parameter)}: ${parameter.help}`);
  return [`  ${kind.padEnd(13)}${help}`, ...own];
}

function boundsOf(parameter: Parameter): string {
  if (parameter.type === "choice") return `${parameter.choices.join(" | ")}, else ${parameter.preset}`;
  if (parameter.type === "file") return "the path of a file";
  if (parameter.type === "layers") return "a list, else none";
  const preset = parameter.type === "factors" ? "none" : parameter.preset;
  return `${parameter.low} to ${parameter.high}, else ${preset}`;
}

function encode(files: readonly string[], options: TileFlags & { out: string; profile: string }): void {
  const { profile } = profileNamed(options.profile);
  const calibration = calibrationOf(options);
  for (const [path, out] of outputsOf(files, options.out, ENCODED, inputsOf(options, options.profile))) {
    const dump = openDump(path, options);
    tell(encodeFile(dump, profile, tileOptionsOf(options, calibration), out), out, options.json === true);
    dump.file.close();
  }
}

function decode(files: readonly string[], options: DecodeFlags): void {
  const calibration = calibrationOf(options);
  for (const [path, out] of outputsOf(files, options.out, DECODED, inputsOf(options)))
    tell(decodeFile(path, calibration, options.ragged === true, out), out, options.json === true);
}

/** Each file with where it goes: several need a folder, which is made. @param inputs what else is read */
function outputsOf(
  files: readonly string[],
  out: string,
  ending: string,
  inputs: readonly string[],
): (readonly [path: string, out: string])[] {
  const isFolder = statOf(out)?.isDirectory() === true;
  const isOne = files.length === 1 && !isFolder;
  const named = files.map((path) => [path, isOne ? out : join(out, `${basename(path, extname(path))}${ending}`)] as const);
  const twice = named.find(([, one], at) => named.findIndex(([, other]) => other === one) < at);
  if (twice !== undefined) throw usage(`${twice[0]} would go to ${twice[1]}, which is taken`);
  for (const [, one] of named) checkOutput(one, [...files, ...inputs]);
  if (isOne) return named;
  try {
    makeFolder(out, 0o755);
  } catch (error) {
    throw new KvferryError("invalid_argument", `--out: ${(error as Error).message}`, { cause: error });
  }
  return named;
}

/** Files that are read beside dumps and what is encoded. */
function inputsOf({ calibration }: Pick<TileFlags, "calibration">, ...profiles: readonly string[]): string[] {
  return [...(calibration === undefined ? [] : [calibration]), ...profiles.filter((name) => !NAMED.has(name))];
}

function tell({ kvBytes, encodedBytes }: Written, out: string, isJson: boolean): void {
  // Of no tokens, nothing.
  const ratio = encodedBytes === 0 ? 1 : kvBytes / encodedBytes;
  if (isJson) console.log(JSON.stringify({ out, kvBytes, encodedBytes, ratio }));
  else {
    const size = ratio < 1 ? `${(1 / ratio).toFixed(3)} times larger` : `${ratio.toFixed(3)} times smaller`;
    console.log(`${out}   ${kvBytes} bytes of KV, ${encodedBytes} encoded: ${size}`);
  }
}

function compareAll(path: string, options: TileFlags & { profile: readonly string[]; plot?: string }): void {
  if (options.profile.length === 0) throw usage("--profile: which? kvferry codec list shows the presets");
  const { plot } = options;
  if (plot !== undefined) checkOutput(plot, [path, ...inputsOf(options, ...options.profile)]);
  const profiles = options.profile.map(profileNamed);
  const dump = openDump(path, options);
  if (dump.tokens === 0) throw usage(`${path} has no tokens to compare`);
  const calibration = calibrationOf(options);
  const results = profiles.map((profile) => compare(profile, dump, tileOptionsOf(options, calibration)));
  dump.file.close();
  const { model, layers, heads, channels, tokens } = dump;
  if (plot !== undefined) {
    const drawn = plotOf(results, `${model === "" ? path : model}, ${tokens} tokens`);
    writeOutput(plot, (append) => append(Buffer.from(drawn)));
  }
  if (options.json !== true) console.log(tableOf(results));
  else {
    const document = {
      schema: "kvferry.codec/1",
      file: path,
      model,
      layers,
      heads,
      channels,
      tokens,
      calibration: calibration?.hash ?? "",
      results,
    };
    console.log(JSON.stringify(document, null, 2));
  }
}

function runCalibrate(dumps: readonly string[], { klt, exempt, json, ...options }: CalibrateFlags): void {
  const widths = parseKlt(klt);
  const first = count(exempt, "--exempt", 0, limits.codecExemptMax);
  const made = makeCalibration(dumps, { ...options, klt: widths, exempt: first }, (step) => console.error(`kvferry: ${step}`));
  if (json === true) {
    console.log(JSON.stringify({ out: options.out, ...made }));
    return;
  }
  if (!made.hasQueries) console.error("kvferry: not every dump has query_square; keys are weighed by their own RMS");
  console.log(`${options.out}   ${made.tokens} tokens, SHA-256 ${made.hash}`);
  for (const line of driftLines(made.drift)) console.log(line);
}

function profileNamed(name: string): NamedProfile {
  return { name, profile: readProfile(name, NAMED) };
}

function calibrationOf({ calibration }: Pick<TileFlags, "calibration">): ReturnType<typeof loadCalibration> | undefined {
  return calibration === undefined ? undefined : loadCalibration(calibration);
}

function tileOptionsOf({ tokens, verifyDecoded }: TileFlags, calibration: TileOptions["calibration"]): TileOptions {
  return { span: count(tokens, "--tokens", 1, limits.codecTokensMax), calibration, verify: verifyDecoded === true };
}

function count(text: string, flag: string, low: number, high: number): number {
  return integer(/^\d{1,9}$/.test(text) ? Number(text) : text, flag, low, high);
}

function onlyProfile(one: string, before: string | undefined): string {
  if (before !== undefined) throw usage(`--profile: ${before} or ${one}? What is encoded has one`);
  return one;
}

function collect(one: string, all: readonly string[]): readonly string[] {
  return [...all, one];
}
