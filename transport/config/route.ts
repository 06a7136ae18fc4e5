/** The configuration of `kvferry route`, parsed as that of `serve` is: defaults < file (JSON) < environment (KVFERRY_ROUTE_*) < flags. */
import { KvferryError } from "../errors.ts";
import { formatAddress, type HostPort, isLoopback } from "./address.ts";
import {
  assemble,
  deepFreeze,
  environmentLayer,
  type Field,
  type Layer,
  objectLayer,
  printRows,
  readFileLayer,
  valueAt,
} from "./layers.ts";
import { type RouteInput, type RouteValues, routeDefaults, routeTable } from "./route-schema.ts";
import { formatSize } from "./units.ts";

export interface RouteConfig extends Omit<RouteValues, "listen"> {
  readonly listen: HostPort;
}

export interface LoadedRoute {
  readonly config: RouteConfig;
  /** Field's path -> where its value came from. */
  readonly sources: ReadonlyMap<string, string>;
}

export interface RouteSources {
  /** Path of a JSON file. */
  readonly file?: string | undefined;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly flags?: Readonly<Record<string, unknown>>;
}

/** Throws KvferryError (invalid_config). */
export function loadRoute(from: RouteSources): LoadedRoute {
  const layers: Layer[] = [objectLayer(routeTable, routeDefaults, "default")];
  if (from.file !== undefined) layers.push(readFileLayer(routeTable, from.file));
  if (from.environment !== undefined) layers.push(environmentLayer(routeTable, from.environment));
  if (from.flags !== undefined) layers.push(objectLayer(routeTable, from.flags, "flags", (field) => field.flag));
  return loaded(layers);
}

/** An object over the defaults. Throws KvferryError (invalid_config). */
export function routeConfigOf(input: RouteInput): RouteConfig {
  return loaded([objectLayer(routeTable, routeDefaults, "default"), objectLayer(routeTable, input, "configuration")]).config;
}

/** Every field's default as it is shown to people; "" where there is none. */
export function routeDefaultTexts(): ReadonlyMap<string, string> {
  const { values } = assemble(routeTable, [objectLayer(routeTable, routeDefaults, "default")]);
  return new Map(routeTable.fields.map((field) => [field.path, show(field, values)]));
}

/** One line a field: value and source. */
export function printRoute({ config, sources }: LoadedRoute): string {
  return printRows(
    routeTable.fields.map((field) => [field.path, show(field, config) || "(none)", sources.get(field.path) ?? "default"] as const),
  );
}

export function routeObject({ config, sources }: LoadedRoute): Record<string, { value: unknown; source: string }> {
  return Object.fromEntries(
    routeTable.fields.map(({ path }) => [path, { value: valueAt(config, path) ?? null, source: sources.get(path) ?? "default" }]),
  );
}

function loaded(layers: readonly Layer[]): LoadedRoute {
  const { values, sources } = assemble(routeTable, layers);
  const { listen, ...rest } = values as RouteValues;
  const from = (path: string): string => `${path} (from ${sources.get(path)})`;
  if (listen === undefined) throw invalid(`Expected HOST:PORT for ${from("listen")} but received ""`);
  const config: RouteConfig = { ...rest, listen };
  relate(config, from);
  return Object.freeze({ config: deepFreeze(config), sources });
}

/** What must hold between fields. `from` names a field and its source. */
function relate(config: RouteConfig, from: (path: string) => string): void {
  if (config.decode.length === 0) throw invalid(`Expected at least one engine for ${from("decode")}`);
  for (const role of ["prefill", "decode"] as const) {
    const twice = config[role].find((engine, index) => config[role].indexOf(engine) !== index);
    if (twice !== undefined) throw invalid(`Expected different engines for ${from(role)} but received ${twice} twice`);
  }
  if (config.prefillTimeoutMs >= config.requestTimeoutMs) {
    throw invalid(
      `Expected ${from("prefillTimeoutMs")} to be below ${from("requestTimeoutMs")}, ` +
        `but ${config.prefillTimeoutMs} >= ${config.requestTimeoutMs}`,
    );
  }
  if (config.bodyBytesMax > config.bodiesBytesMax) {
    throw invalid(
      `Expected ${from("bodiesBytesMax")} to hold a body of ${from("bodyBytesMax")}, but ${config.bodiesBytesMax} < ${config.bodyBytesMax}`,
    );
  }
  if (!isLoopback(config.listen.host) && !config.insecure) {
    throw invalid(
      `Expected a loopback address for ${from("listen")} but received ${formatAddress(config.listen)}: requests are neither ` +
        "encrypted nor checked for who sent them, so other addresses need insecure = true (--insecure) and a network you trust",
    );
  }
}

function show(field: Field, values: unknown): string {
  const value = valueAt(values, field.path);
  if (value === undefined || value === "") return "";
  if (field.path === "listen") return formatAddress(value as HostPort);
  if (field.path.endsWith("BytesMax")) return formatSize(value as number);
  return Array.isArray(value) ? value.join(",") : String(value);
}

function invalid(sentence: string): KvferryError {
  return new KvferryError("invalid_config", sentence);
}
