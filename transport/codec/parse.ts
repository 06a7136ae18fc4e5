/**
 * Profiles come from files and from peers: unknown in, frozen typed value out, everything filled in, in one order, so that equal profiles are equal text. PURE.
 */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Component, COMPONENTS, componentNamed, type Parameter, type Stage } from "./components.ts";
import { misfitOf } from "./fit.ts";
import { levelsOfHeads, type Scores } from "./mixhq.ts";
import type { Codec, Levels, Merge, Pipeline, Profile, Quantizer, Transform } from "./profile.ts";

const EXEMPT_PRESET = 4;

/** Reads a file of scores that a profile names by its path. */
export type ReadScores = (path: string) => Scores;

/**
 * Throws KvferryError invalid_argument that names the field, or says what does not fit together.
 * @param readScores for a profile that somebody wrote on this machine; others name no files
 */
export function parseProfile(value: unknown, name = "profile", readScores?: ReadScores): Profile {
  const fields = record(value, name, ["version", "exempt", "layers", "merge", "k", "v"]);
  integer(fields["version"] ?? 1, `${name}.version`, 1, 1);
  const merge = parseComponent("merge", fields["merge"] ?? { kind: "none" }, `${name}.merge`) as Merge | { kind: "none" };
  const profile: Profile = Object.freeze({
    version: 1,
    exempt: integer(fields["exempt"] ?? EXEMPT_PRESET, `${name}.exempt`, 0, limits.codecExemptMax),
    layers: integer(fields["layers"] ?? 1, `${name}.layers`, 1, limits.codecLayersMax),
    ...(merge.kind === "none" ? {} : { merge }),
    k: parsePipeline(fields["k"], `${name}.k`, readScores),
    v: parsePipeline(fields["v"], `${name}.v`, readScores),
  });
  const misfit = misfitOf(profile);
  if (misfit !== "") throw new KvferryError("invalid_argument", `${name}: ${misfit}`);
  return profile;
}

/** Throws invalid_argument. */
export function parseProfileJson(bytes: Uint8Array, name = "profile", readScores?: ReadScores): Profile {
  if (bytes.length > limits.profileBytes) throw expected(`at most ${limits.profileBytes} bytes`, name, bytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new KvferryError("invalid_argument", `Expected JSON in UTF-8 for ${name} but received ${bytes.length} other bytes`, { cause });
  }
  return parseProfile(value, name, readScores);
}

/** Canonical JSON: no spaces, every parameter, one order. Of a value that `parseProfile` made. */
export function printProfile(profile: Profile): string {
  return JSON.stringify(profile);
}

function parsePipeline(value: unknown, name: string, readScores: ReadScores | undefined): Pipeline {
  const fields = record(value, name, ["transform", "quantizer", "codec"]);
  const transform = array(fields["transform"] ?? [], `${name}.transform`, 0, COMPONENTS.transform.length);
  return Object.freeze({
    transform: Object.freeze(transform.map((one, at) => parseComponent("transform", one, `${name}.transform[${at}]`) as Transform)),
    quantizer: parseQuantizer(fields["quantizer"] ?? { kind: "none" }, `${name}.quantizer`, readScores),
    codec: parseComponent("codec", fields["codec"] ?? { kind: "none" }, `${name}.codec`) as Codec,
  });
}

function parseQuantizer(value: unknown, name: string, readScores: ReadScores | undefined): Quantizer {
  const { kind, scores, levels } = record(value, name);
  if (kind !== "mixhq" || levels !== undefined || readScores === undefined) return parseComponent("quantizer", value, name) as Quantizer;
  if (typeof scores !== "string") throw expected("the path of a file", `${name}.scores`, scores);
  const { hash, heads } = readScores(scores);
  // Once without the levels: its other parameters say what these are.
  const asked = parseComponent("quantizer", { ...(value as object), scores: hash }, name) as Extract<Quantizer, { kind: "mixhq" }>;
  return Object.freeze({ ...asked, levels: levelsOfHeads(heads, asked, name) });
}

function parseComponent(stage: Stage, value: unknown, name: string): unknown {
  const { kind } = record(value, name);
  const component = componentNamed(stage, kind);
  if (component === undefined) throw expected(`one of ${kindsOf(stage)}`, `${name}.kind`, kind);
  return Object.freeze({ kind: component.kind, ...parseParameters(component, value, name) });
}

function parseParameters({ parameters }: Component, value: unknown, name: string): Readonly<Record<string, unknown>> {
  const fields = record(value, name, ["kind", ...Object.keys(parameters)]);
  return Object.fromEntries(
    Object.entries(parameters).map(([key, parameter]) => [
      key,
      parseParameter(parameter, fields[key] ?? parameter.preset, `${name}.${key}`),
    ]),
  );
}

function parseParameter(parameter: Parameter, value: unknown, name: string): unknown {
  switch (parameter.type) {
    case "integer":
      return integer(value, name, parameter.low, parameter.high);
    case "number":
      return number(value, name, parameter.low, parameter.high);
    case "choice":
      if (!parameter.choices.some((one) => one === value)) throw expected(`one of ${parameter.choices.join(", ")}`, name, value);
      return value;
    case "factors": {
      const factors = array(value, name, 0, limits.layersMax);
      return Object.freeze(factors.map((one, at) => number(one, `${name}[${at}]`, parameter.low, parameter.high)));
    }
    case "file":
      if (typeof value !== "string" || !/^[0-9a-f]{64}$/.test(value)) throw expected("the hex SHA-256 of a file", name, value);
      return value;
    case "layers": {
      const layers = array(value, name, 0, limits.layersMax).map((one, at) => integer(one, `${name}[${at}]`, 0, limits.layersMax - 1));
      if (layers.some((one, at) => one <= (layers[at - 1] ?? -1))) throw expected("layers in ascending order", name, layers.join(", "));
      return Object.freeze(layers);
    }
    case "levels":
      return parseLevels(value, name, parameter.low, parameter.high);
  }
}

function parseLevels(value: unknown, name: string, low: number, high: number): Levels {
  if (!Array.isArray(value)) return integer(value, name, low, high);
  const layers = array(value, name, 1, limits.layersMax);
  const isByHead = Array.isArray(layers[0]);
  if (!isByHead) return Object.freeze(layers.map((one, at) => integer(one, `${name}[${at}]`, low, high)));
  return Object.freeze(
    layers.map((one, layer) => {
      const heads = array(one, `${name}[${layer}]`, 1, limits.headsMax);
      return Object.freeze(heads.map((levels, head) => integer(levels, `${name}[${layer}][${head}]`, low, high)));
    }),
  );
}

function number(value: unknown, name: string, low: number, high: number): number {
  if (typeof value !== "number" || !(value >= low && value <= high)) throw expected(`a number from ${low} to ${high}`, name, value);
  // Minus zero would not compare equal to what it is written as.
  return value === 0 ? 0 : value;
}

/** The own fields of a plain object; these alone, if they are given. */
function record(value: unknown, name: string, fields?: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw expected("an object", name, value);
  const strange = fields === undefined ? undefined : Object.keys(value).find((field) => !fields.includes(field));
  if (strange !== undefined) throw expected(`only ${fields?.join(", ")}`, name, strange);
  return Object.fromEntries(Object.entries(value));
}

function array(value: unknown, name: string, least: number, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length < least || value.length > most) throw expected(`an array of ${least} to ${most}`, name, value);
  // From, because map leaves holes as holes.
  return Array.from(value as readonly unknown[]);
}

function kindsOf(stage: Stage): string {
  return COMPONENTS[stage].map(({ kind }) => kind).join(", ");
}
