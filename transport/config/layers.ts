/** Where values come from: layers from weak to strong, each a flat map from a field's path ("pool.bytes") to a raw value and its origin. */
import { z } from "zod";
import { expected } from "../check.ts";
import { type FieldMeta, splitList } from "./leaves.ts";
import { configSchema } from "./schema.ts";
import { KvferryError } from "../errors.ts";
import { readSmallFile } from "../tls/files.ts";

export interface RawValue {
  readonly value: unknown;
  /** "default", the file's path, the variable's name, the flag. */
  readonly source: string;
}

export type Layer = ReadonlyMap<string, RawValue>;

export interface Field extends FieldMeta {
  readonly path: string;
  readonly schema: z.ZodType;
  readonly variable: string;
  readonly flag: string;
}

/** The fields of one verb's configuration, by each of their names. */
export interface FieldTable {
  /** Every leaf of the schema, in its order. */
  readonly fields: readonly Field[];
  /** What every variable's name begins with. */
  readonly prefix: string;
  /** Names with that prefix that are not fields. */
  readonly foreign: RegExp;
  readonly byPath: ReadonlyMap<string, Field>;
  readonly byVariable: ReadonlyMap<string, Field>;
}

export function fieldTable(schema: z.ZodObject, prefix: string, foreign: RegExp): FieldTable {
  const fields = leaves(schema, "", prefix);
  const byPath = new Map(fields.map((field) => [field.path, field]));
  return { fields, prefix, foreign, byPath, byVariable: new Map(fields.map((field) => [field.variable, field])) };
}

/** Read elsewhere, settings of another verb, or put there by Kubernetes for a service called kvferry. */
const FOREIGN_VARIABLES =
  /^KVFERRY_(?:CONFIG|CACHE|NATIVE|NATIVE_.*|ADDON.*|TEST_.*|BENCH_.*|DEMO_.*|ROUTE_.*|SKIP_NATIVE|SERVICE_.*|PORT|PORT_.*)$/;
export const serveTable = fieldTable(configSchema, "KVFERRY_", FOREIGN_VARIABLES);
export const fields = serveTable.fields;

export function readFileLayer(table: FieldTable, file: string): Layer {
  let text: string;
  try {
    text = readSmallFile(file, true).toString("utf8");
  } catch (error) {
    throw new KvferryError("invalid_config", `${file} cannot be read: ${(error as Error).message}`, { cause: error });
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new KvferryError("invalid_config", `${file} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  return objectLayer(table, parsed, file);
}

/** A nested object as a layer; keys that are no fields are errors. */
export function objectLayer(table: FieldTable, values: unknown, source: string, sourceOf: (field: Field) => string = () => source): Layer {
  const { fields, byPath } = table;
  const layer = new Map<string, RawValue>();
  const walk = (value: unknown, prefix: string): void => {
    if (!isRecord(value)) throw expected("an object", `${prefix || "the configuration"} (from ${source})`, value, "invalid_config");
    for (const [key, inner] of Object.entries(value)) {
      const path = prefix === "" ? key : `${prefix}.${key}`;
      const field = byPath.get(path);
      if (field !== undefined) {
        // null stands for "not set" in JSON, undefined for an absent option.
        if (inner !== undefined && inner !== null) layer.set(path, { value: inner, source: sourceOf(field) });
      } else if (fields.some((candidate) => candidate.path.startsWith(`${path}.`))) {
        if (inner !== undefined && inner !== null) walk(inner, path);
      } else {
        throw unknownKey(path, source, [...byPath.keys()]);
      }
    }
  };
  walk(values, "");
  return layer;
}

export function environmentLayer(table: FieldTable, environment: Readonly<Record<string, string | undefined>>): Layer {
  const { byVariable, prefix, foreign } = table;
  const layer = new Map<string, RawValue>();
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith(prefix) || value === undefined || foreign.test(name)) continue;
    const field = byVariable.get(name);
    if (field === undefined) throw unknownKey(name, "the environment", [...byVariable.keys()]);
    layer.set(field.path, { value, source: name });
  }
  return layer;
}

/** Every field's typed value, nested as its path says, and where it came from. */
export function assemble(table: FieldTable, layers: readonly Layer[]): { values: unknown; sources: ReadonlyMap<string, string> } {
  const values: Record<string, unknown> = {};
  const sources = new Map<string, string>();
  for (const field of table.fields) {
    const raw: RawValue = pick(layers, field.path) ?? { value: undefined, source: "default" };
    sources.set(field.path, raw.source);
    // An absent default is a value of its own (listen, api.port): only what somebody wrote is parsed.
    setAt(values, field.path, raw.value === undefined ? undefined : parseField(field, raw));
  }
  return { values, sources };
}

export function valueAt(values: unknown, path: string): unknown {
  return path.split(".").reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], values);
}

export function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}

/** One line a field: name, value, source. */
export function printRows(rows: readonly (readonly [path: string, value: string, source: string])[]): string {
  const widths = [0, 1].map((column) => Math.min(Math.max(...rows.map((row) => row[column]!.length)), 48));
  return rows.map(([path, value, source]) => `${path.padEnd(widths[0]!)}  ${value.padEnd(widths[1]!)}  ${source}`).join("\n");
}

function setAt(target: Record<string, unknown>, path: string, value: unknown): void {
  const keys = path.split(".");
  const last = keys.pop()!;
  const inner = keys.reduce((object, key) => (object[key] ??= {}) as Record<string, unknown>, target);
  inner[last] = value;
}

/** The strongest value of a field. */
function pick(layers: readonly Layer[], path: string): RawValue | undefined {
  for (let index = layers.length - 1; index >= 0; index--) {
    const raw = layers[index]!.get(path);
    if (raw !== undefined) return raw;
  }
  return undefined;
}

/** The typed value of a leaf, or an error that names field and source. */
function parseField(field: Field, raw: RawValue): unknown {
  const result = field.schema.safeParse(raw.value);
  if (result.success) return result.data;
  const shown = field.secret === true ? "a secret that does not fit" : innermost(raw.value, result.error);
  const name = `${field.path} (from ${raw.source})`;
  if (field.secret === true) throw new KvferryError("invalid_config", `Expected ${field.what} for ${name} but received ${shown as string}`);
  throw expected(field.what, name, shown, "invalid_config");
}

/** The element of a list that is wrong, where the value is a list; one that was written as JSON text may hold secrets too. */
function innermost(value: unknown, error: z.ZodError): unknown {
  const isText = typeof value === "string" && value.trim().startsWith("[");
  const list = isText ? (splitList(value) ?? []) : value;
  if (!Array.isArray(list)) return value;
  const index = /"path":\[(\d+)[,\]]/.exec(JSON.stringify(error.issues))?.[1];
  return index === undefined ? list : (list as unknown[])[Number(index)];
}

function unknownKey(key: string, source: string, known: readonly string[]): KvferryError {
  const near = known.map((name) => ({ name, distance: distance(key, name) })).sort((a, b) => a.distance - b.distance)[0]!;
  const hint = near.distance <= 3 ? `; did you mean ${near.name}?` : "";
  return new KvferryError("invalid_config", `Expected a known field but received ${key.slice(0, 80)} (from ${source})${hint}`);
}

/** Edits from one word to the other, bounded by the length of the longest field name. */
function distance(left: string, right: string): number {
  const a = left.slice(0, 64);
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= right.length; j++) {
      const same = a[i - 1] === right[j - 1] ? 0 : 1;
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + same);
    }
    row = next;
  }
  return row[right.length]!;
}

function leaves(schema: z.ZodObject, prefix: string, variables: string): Field[] {
  return Object.entries(schema.shape).flatMap(([key, inner]) => {
    const path = prefix === "" ? key : `${prefix}.${key}`;
    if (inner instanceof z.ZodObject) return leaves(inner, path, variables);
    const meta = (inner as z.ZodType).meta() as unknown as FieldMeta;
    const words = path.replaceAll(".", "_").replace(/[A-Z]/g, (letter) => `_${letter}`);
    const flag = meta.flag ?? words.replaceAll("_", "-").toLowerCase();
    return [{ ...meta, path, schema: inner as z.ZodType, variable: `${variables}${words.toUpperCase()}`, flag: `--${flag}` }];
  });
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
