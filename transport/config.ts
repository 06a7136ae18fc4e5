/**
 * The configuration: unknown in, frozen typed value out, once, at the edge. Defaults < file (JSON) < environment (KVFERRY_*) < flags.
 * A value that does not parse and a name that is no field are errors that say where they came from.
 */
import { availableParallelism, hostname } from "node:os";
import { formatAddress, type HostPort, isLoopback } from "./config/address.ts";
import {
  assemble,
  deepFreeze,
  environmentLayer,
  type Field,
  fields,
  type Layer,
  objectLayer,
  printRows,
  readFileLayer,
  serveTable,
  valueAt,
} from "./config/layers.ts";
import { type ConfigInput, type ConfigValues, configDefaults } from "./config/schema.ts";
import { formatRate, formatSize } from "./config/units.ts";
import { KvferryError } from "./errors.ts";
import { readSmallFile, type TlsFiles } from "./tls/files.ts";

export type { ConfigInput } from "./config/schema.ts";

export interface PeerConfig {
  readonly name: string;
  /** HOST:PORT. */
  readonly address: string;
  /** Shared with this peer alone; "" = the common one. */
  readonly secret: string;
  /** Whose certificate it must have, over TLS; "" = its host's. */
  readonly identity: string;
}

export interface Config {
  readonly name: string;
  readonly listen: HostPort | undefined;
  /** HOST:PORT that peers are told, or "" = the one listened on. */
  readonly advertise: string;
  /** Path of the engine API's unix socket, or "". */
  readonly socket: string;
  /** The engine API over TCP, loopback only. */
  readonly api: { readonly host: string; readonly port: number; readonly token: string } | undefined;
  readonly pool: {
    readonly name: string;
    readonly bytes: number;
    readonly blockBytes: number;
    /** "" = the first of /dev/shm, the user's runtime folder and the temporary one that has room. */
    readonly directory: string;
    readonly hugePages: "auto" | "on" | "off";
    /** -1 = as the kernel likes. */
    readonly numaNode: number;
  };
  readonly peers: readonly PeerConfig[];
  /** Peer names, addresses and CIDR ranges that may connect; [] = nobody. */
  readonly allow: readonly string[];
  /** Shared by all peers that have none of their own; "" = none. */
  readonly secret: string;
  /** Path of the policy file, or "": one tenant, which is nobody. */
  readonly policy: string;
  /** Files; undefined: peer traffic is plain. */
  readonly tls: TlsFiles | undefined;
  readonly insecure: boolean;
  readonly link: "auto" | "tcp" | "js";
  /** 0 = by the path. */
  readonly lanes: number;
  readonly lanesMax: number;
  readonly ioThreads: number;
  /** 0 = by the path. */
  readonly chunkBytes: number;
  readonly checksum: boolean;
  /** 0 = none. */
  readonly rateBytesPerSecond: number;
  /** "" = the host's. */
  readonly congestionControl: string;
  readonly codec: {
    /** Presets and JSON files. */
    readonly profiles: readonly string[];
    readonly calibration: readonly string[];
    /** "auto", "none" or one of `profiles`. */
    readonly use: string;
    readonly acceptLossy: boolean;
  };
  readonly deadlines: { readonly localMs: number; readonly remoteMs: number };
  readonly stallMs: number;
  readonly heartbeatMs: number;
  readonly transfersMax: number;
  readonly windowBytes: number;
  readonly log: { readonly level: "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent"; readonly format: "json" | "text" };
  readonly drainMs: number;
}

export interface ConfigSources {
  /** Values that the command itself prefers to the defaults. */
  readonly preset?: ConfigInput;
  /** Path of a JSON file. */
  readonly file?: string | undefined;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  readonly flags?: ConfigInput;
}

export interface LoadedConfig {
  readonly config: Config;
  /** Field's path -> where its value came from. */
  readonly sources: ReadonlyMap<string, string>;
}

/** Throws KvferryError (invalid_config). */
export function loadConfig(from: ConfigSources): LoadedConfig {
  const layers: Layer[] = [objectLayer(serveTable, { ...configDefaults, name: defaultName() }, "default")];
  if (from.preset !== undefined) layers.push(objectLayer(serveTable, from.preset, "default"));
  if (from.file !== undefined) layers.push(readFileLayer(serveTable, from.file));
  if (from.environment !== undefined) layers.push(environmentLayer(serveTable, from.environment));
  if (from.flags !== undefined) layers.push(objectLayer(serveTable, from.flags, "flags", (field) => field.flag));
  return loaded(layers);
}

/** For library users: an object over the defaults; reads no file but secretFile, no environment. Throws KvferryError (invalid_config). */
export function configOf(input: ConfigInput): Config {
  return loaded([
    objectLayer(serveTable, { ...configDefaults, name: defaultName() }, "default"),
    objectLayer(serveTable, input, "configuration"),
  ]).config;
}

/** Enough to fill a link without taking the CPUs of the engines beside us. */
export function defaultIoThreads(): number {
  return Math.min(4, Math.max(1, availableParallelism()));
}

/** Every field's default as it is shown to people; "" where there is none. */
export function defaultTexts(preset: ConfigInput): ReadonlyMap<string, string> {
  const { config } = loadConfig({ preset });
  return new Map(fields.map((field) => [field.path, show(field, config)]));
}

/** One line a field: value and source; secrets are not shown. */
export function printConfig(loaded: LoadedConfig): string {
  const rows = fields.map((field) => [field.path, show(field, loaded.config), loaded.sources.get(field.path) ?? "default"] as const);
  return printRows(rows);
}

/** The same as an object that a file can hold, secrets left out. */
export function configObject(loaded: LoadedConfig): Record<string, { value: unknown; source: string }> {
  const entries = fields.map((field) => {
    const value = field.secret === true ? (valueAt(loaded.config, field.path) ? "(set)" : "") : masked(valueAt(loaded.config, field.path));
    return [field.path, { value: value ?? null, source: loaded.sources.get(field.path) ?? "default" }] as const;
  });
  return Object.fromEntries(entries);
}

function loaded(layers: readonly Layer[]): LoadedConfig {
  const { values, sources } = assemble(serveTable, layers);
  const config = resolve(values as ConfigValues);
  relate(config, (path) => `${path} (from ${sources.get(path)})`);
  return Object.freeze({ config: deepFreeze(config), sources });
}

interface PeerEntry {
  readonly name: string;
  readonly address: string;
  readonly secret?: string | undefined;
  readonly secretFile?: string | undefined;
  readonly identity?: string | undefined;
}

/** Fills in what depends on other fields, and reads the files that hold secrets. */
function resolve(values: ConfigValues): Config {
  const { api, secretFile, peers, tls, ...rest } = values;
  return {
    ...rest,
    ioThreads: values.ioThreads === 0 ? defaultIoThreads() : values.ioThreads,
    pool: { ...values.pool, name: values.pool.name === "" ? values.name : values.pool.name },
    api: api.port === undefined ? undefined : { host: api.host, port: api.port, token: api.token },
    tls: Object.values(tls).every((file) => file === "") ? undefined : tls,
    secret: secretFile === "" ? values.secret : readSecret(secretFile, "secretFile"),
    peers: peers.map((peer) => {
      const entry: PeerEntry = peer;
      const secret =
        entry.secretFile === undefined ? (entry.secret ?? "") : readSecret(entry.secretFile, `secretFile of peer ${entry.name}`);
      return { name: entry.name, address: entry.address, secret, identity: entry.identity ?? "" };
    }),
  };
}

/** What must hold between fields. `from` names a field and its source. */
function relate(config: Config, from: (path: string) => string): void {
  const { pool } = config;
  const unless = (holds: boolean, sentence: string): void => {
    if (!holds) throw new KvferryError("invalid_config", sentence);
  };
  unless(
    pool.blockBytes <= pool.bytes,
    `Expected ${from("pool.blockBytes")} to be at most ${from("pool.bytes")}, but ${pool.blockBytes} > ${pool.bytes}`,
  );
  unless(
    config.windowBytes >= config.chunkBytes,
    `Expected ${from("windowBytes")} to hold a chunk of ${from("chunkBytes")}, but ${config.windowBytes} < ${config.chunkBytes}`,
  );
  unless(
    config.heartbeatMs < config.stallMs,
    `Expected ${from("heartbeatMs")} to be below ${from("stallMs")}, but ${config.heartbeatMs} >= ${config.stallMs}`,
  );
  const names = config.peers.map((peer) => peer.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  unless(twice === undefined, `Expected different names for ${from("peers")} but received ${twice} twice`);
  unless(!names.includes(config.name), `Expected ${from("peers")} not to name this node (${config.name})`);
  const { api, listen } = config;
  unless(
    api === undefined || isLoopback(api.host),
    `Expected a loopback address for ${from("api.host")} but received ${api?.host}: engines live on this host`,
  );
  unless(
    api === undefined || api.token !== "",
    `Expected a token for ${from("api.token")}, since the engine API listens on a port (api.port)`,
  );
  const listened = listen === undefined ? "" : formatAddress(listen);
  unless(
    listen === undefined || isLoopback(listen.host) || config.tls !== undefined || config.insecure,
    `Expected a loopback address for ${from("listen")} but received ${listened}: other addresses need certificates ` +
      "(tls.certificate, tls.key, tls.authorities; kvferry cert makes some), or, in a network you trust, insecure = true (--insecure)",
  );
  unless(
    config.policy === "" || config.tls !== undefined,
    `Expected certificates (tls.certificate, tls.key, tls.authorities) beside ${from("policy")}: a tenant is known by nothing else`,
  );
  const { profiles, calibration, use } = config.codec;
  unless(
    calibration.length === 0 || profiles.length > 0,
    `Expected a profile for ${from("codec.profiles")} beside ${from("codec.calibration")}: nothing else uses a calibration`,
  );
  const doubled = profiles.find((profile, index) => profiles.indexOf(profile) !== index);
  unless(doubled === undefined, `Expected different profiles for ${from("codec.profiles")} but received ${doubled} twice`);
  unless(
    use === "auto" || use === "none" || profiles.includes(use),
    `Expected "auto", "none" or one of ${from("codec.profiles")} for ${from("codec.use")} but received ${use}`,
  );
  const missing =
    config.tls === undefined ? undefined : (["certificate", "key", "authorities"] as const).find((file) => config.tls?.[file] === "");
  unless(missing === undefined, `Expected a file for ${from(`tls.${missing}`)}: certificate, key and authorities go together`);
}

function readSecret(file: string, name: string): string {
  try {
    const secret = readSmallFile(file, true).toString("utf8").trim();
    if (secret.length >= 16 && secret.length <= 1_024) return secret;
  } catch (error) {
    throw new KvferryError("invalid_config", `${name}: ${(error as Error).message}`, { cause: error });
  }
  throw new KvferryError("invalid_config", `Expected 16 to 1024 characters in ${file} (${name})`);
}

function defaultName(): string {
  const name = hostname()
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[^A-Za-z0-9]+/, "")
    .slice(0, 64);
  return name === "" ? "kvferry" : name;
}

function show(field: Field, config: Config): string {
  const value = valueAt(config, field.path);
  if (field.secret === true) return value ? `(set, ${String(value).length} characters)` : "(none)";
  if (value === undefined || value === "") return "(none)";
  if (field.path === "rateBytesPerSecond") return value === 0 ? "(none)" : formatRate(value as number);
  if (typeof value === "number") return field.path.endsWith("ytes") ? formatSize(value) : String(value);
  if (field.path === "listen") return formatAddress(value as HostPort);
  if (field.path === "peers") return config.peers.map((peer) => `${peer.name}=${peer.address}`).join(",") || "(none)";
  return Array.isArray(value) ? value.join(",") || "(none)" : String(value);
}

function masked(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  return value.map((entry: unknown) =>
    typeof entry === "object" && entry !== null && "secret" in entry ? { ...entry, secret: entry.secret ? "(set)" : "" } : entry,
  );
}
