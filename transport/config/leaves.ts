/** Leaves of a configuration's schema: each takes the JSON type and the text of a variable or a flag; the output is the typed value. */
import { z } from "zod";
import { isHost, parseAddress } from "./address.ts";
import { parseBoolean, parseDuration, parseRate, parseSize } from "./units.ts";

/** What a leaf says about itself in messages, --help and --print-config. */
export interface FieldMeta {
  /** Completes "Expected ... for NAME". */
  readonly what: string;
  /** One line for --help. */
  readonly text: string;
  readonly secret?: boolean;
  /** Name of the flag where it is not the path in kebab-case. */
  readonly flag?: string;
}

/** Every field may be left out. */
export type DeepPartial<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T]?: DeepPartial<T[K]> | undefined } : T;

export function field<S extends z.ZodType>(schema: S, what: string, text: string, more: Partial<FieldMeta> = {}): S {
  return schema.meta({ what, text, ...more } satisfies FieldMeta);
}

/** Of every verb that runs until it is told to end. */
export const log = z.strictObject({
  level: field(
    z.enum(["trace", "debug", "info", "warn", "error", "fatal", "silent"]),
    "trace, debug, info, warn, error, fatal or silent",
    "what is logged",
  ),
  format: field(z.enum(["json", "text"]), '"json" or "text"', "form of a log line"),
});

/** A leaf of type T that also takes text; `parse` returns undefined for what it does not understand. */
function parsed<I, T>(parse: (value: I) => T | undefined) {
  return z.custom<I>().transform((value, context): T => {
    const result = parse(value);
    if (result !== undefined) return result;
    context.addIssue({ code: "custom" });
    return z.NEVER;
  });
}

function bounded(parse: (value: unknown) => number | undefined, low: number, high: number) {
  return parsed<number | string, number>((value) => {
    const number = parse(value);
    return number !== undefined && Number.isSafeInteger(number) && number >= low && number <= high ? number : undefined;
  });
}

export function size(low: number, high: number) {
  return bounded(parseSize, low, high);
}

/** 0 stands for "chosen here". */
export function sizeOrZero(low: number, high: number) {
  return bounded((value) => accept(parseSize(value), low), 0, high);
}

function accept(bytes: number | undefined, low: number): number | undefined {
  return bytes === undefined || (bytes > 0 && bytes < low) ? undefined : bytes;
}

export function duration(low: number, high: number) {
  return bounded(parseDuration, low, high);
}

export function rate() {
  return bounded(parseRate, 0, Number.MAX_SAFE_INTEGER);
}

export function whole(low: number, high: number) {
  return bounded(
    (value) =>
      typeof value === "string" && /^-?\d{1,15}$/.test(value.trim()) ? Number(value) : typeof value === "number" ? value : undefined,
    low,
    high,
  );
}

export function boolean() {
  return parsed<boolean | string, boolean>(parseBoolean);
}

export function address() {
  return z.string().refine((value) => parseAddress(value) !== undefined);
}

export function listenAddress() {
  return parsed<string | { host: string; port: number } | undefined, { host: string; port: number } | undefined | null>((value) => {
    if (value === undefined || value === "") return null;
    if (typeof value === "string") return parseAddress(value);
    if (typeof value !== "object" || value === null || typeof value.host !== "string" || !isHost(value.host)) return undefined;
    const fits = Number.isInteger(value.port) && value.port >= 0 && value.port <= 65_535 && Object.keys(value).length === 2;
    return fits ? { host: value.host, port: value.port } : undefined;
  }).transform((value) => value ?? undefined);
}

export function orEmpty<S extends z.ZodType<string, string>>(schema: S) {
  return z.union([z.literal(""), schema]);
}

export function orUndefined<S extends z.ZodType>(schema: S) {
  return z.union([z.undefined(), z.literal("").transform(() => undefined), schema]);
}

/** A JSON array, or text: a JSON array again, or words between commas. */
export function list<S extends z.ZodType>(entry: S, most: number) {
  const array = z.array(entry).max(most);
  return z.union([
    array,
    z
      .string()
      .transform((text) => splitList(text))
      .pipe(array as z.ZodType<z.output<S>[], unknown>),
  ]);
}

/** What a list's text says: JSON, or words between commas; undefined for JSON that does not parse. */
export function splitList(text: string): unknown {
  const trimmed = text.trim();
  if (trimmed === "") return [];
  if (!trimmed.startsWith("[") || /^\[[0-9a-fA-F:]+\]/.test(trimmed)) return trimmed.split(",").map((word) => word.trim());
  try {
    return JSON.parse(trimmed) as unknown;
  } catch {
    return undefined;
  }
}
