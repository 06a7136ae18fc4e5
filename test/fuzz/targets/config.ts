/**
 * The configuration from everywhere it comes: a file's text, the environment, flags, a library user's object. An input is JSON of
 * {file: text, preset, environment, flags}.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Config,
  type ConfigInput,
  configObject,
  configOf,
  type LoadedConfig,
  loadConfig,
  printConfig,
} from "../../../transport/config.ts";
import { KvferryError } from "../../../transport/errors.ts";
import { limits } from "../../../transport/limits.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { ABSURD_NUMBERS, mutateValue } from "../values.ts";

/** Never shown, whatever else is wrong. */
const SECRET = "hush-hush-hush-hush";

const VALUES = {
  name: "decode-0",
  listen: "127.0.0.1:7411",
  advertise: "[::1]:7411",
  socket: "/run/kvferry/api.sock",
  api: { host: "127.0.0.1", port: 7412, token: SECRET },
  pool: { name: "p", bytes: "64MiB", blockBytes: 65_536, directory: "/dev/shm", hugePages: "off", numaNode: -1 },
  peers: [
    { name: "a", address: "10.0.0.1:7411", secret: SECRET },
    { name: "b", address: "[::1]:1", secretFile: "/nowhere/secret" },
  ],
  allow: ["a", "10.0.0.0/8", "2001:db8::/32"],
  secret: SECRET,
  secretFile: "",
  insecure: false,
  link: "js",
  lanes: 4,
  ioThreads: 2,
  chunkBytes: "1MiB",
  checksum: true,
  rateBytesPerSecond: "2Gbit",
  congestionControl: "bbr",
  deadlines: { localMs: "2s", remoteMs: 30_000 },
  stallMs: 2_000,
  heartbeatMs: "1s",
  transfersMax: 64,
  windowBytes: "64MiB",
  log: { level: "info", format: "json" },
  drainMs: 0,
};
const ENVIRONMENT = {
  ...{
    KVFERRY_NAME: "n",
    KVFERRY_LISTEN: "[::1]:7411",
    KVFERRY_API_TOKEN: SECRET,
    KVFERRY_POOL_BYTES: "1GiB",
    KVFERRY_PEERS: "a=h:1,b=[::1]:2",
  },
  ...{
    KVFERRY_ALLOW: '["a","::1"]',
    KVFERRY_SECRET: SECRET,
    KVFERRY_INSECURE: "yes",
    KVFERRY_STALL_MS: "2s",
    KVFERRY_RATE_BYTES_PER_SECOND: "1GB/s",
  },
  ...{ KVFERRY_SERVICE_HOST: "10.1.1.1", KVFERRY_PORT: "tcp://10.1.1.1:80", PATH: "/bin" },
};
const SECRETS = new Set(["secret", "token", "KVFERRY_SECRET", "KVFERRY_API_TOKEN"]);

interface Given {
  readonly file?: unknown;
  readonly preset?: unknown;
  readonly environment?: unknown;
  readonly flags?: unknown;
}

class ConfigSession implements Session {
  readonly #folder = mkdtempSync(join(tmpdir(), "kvferry-fuzz-"));

  run(input: Uint8Array): void {
    let given: Given;
    try {
      given = Object(JSON.parse(Buffer.from(input).toString("utf8"))) as Given;
    } catch {
      given = { file: Buffer.from(input).toString("utf8") };
    }
    const isHushed = !tellsSecret(given, "");
    try {
      const loaded = loadConfig(this.#sources(given));
      checkConfig(loaded.config);
      checkShown(loaded, isHushed);
      if (given.preset !== undefined) checkConfig(configOf(given.preset as ConfigInput));
    } catch (error) {
      assert.ok(error instanceof KvferryError && error.code === "invalid_config", (error as Error).stack);
      assert.ok(error.message.length < 6_000, "a refusal is short");
      if (isHushed) assert.ok(!error.message.includes(SECRET), "an error tells a secret");
    }
  }

  #sources({ file, preset, environment, flags }: Given): Parameters<typeof loadConfig>[0] {
    const path = join(this.#folder, "config.json");
    if (typeof file === "string") writeFileSync(path, file);
    const variables = Object.entries(Object(environment) as object).filter(([, value]) => typeof value === "string");
    return {
      ...(typeof file === "string" ? { file: path } : {}),
      ...(preset === undefined ? {} : { preset: preset as ConfigInput }),
      environment: Object.fromEntries(variables) as Record<string, string>,
      ...(flags === undefined ? {} : { flags: flags as ConfigInput }),
    };
  }

  close(): void {
    rmSync(this.#folder, { recursive: true });
  }
}

/** A changed input may have put the secret where no secret belongs. */
function tellsSecret(value: unknown, key: string): boolean {
  if (typeof value === "string") return value.includes(SECRET) && !SECRETS.has(key) && !isHushedText(value);
  if (typeof value !== "object" || value === null) return false;
  return Object.entries(value).some(([name, inner]) => name.includes(SECRET) || tellsSecret(inner, Array.isArray(value) ? key : name));
}

function isHushedText(text: string): boolean {
  try {
    return !tellsSecret(JSON.parse(text), "");
  } catch {
    return false;
  }
}

function checkConfig(config: Config): void {
  const { pool, deadlines } = config;
  const within = (value: number, low: number, high: number): void =>
    assert.ok(Number.isSafeInteger(value) && value >= low && value <= high, `${value} is not from ${low} to ${high}`);
  within(pool.bytes, limits.poolBytesMin, limits.poolBytesMax);
  within(pool.blockBytes, 64, pool.bytes);
  within(pool.numaNode, -1, 1_023);
  within(config.lanes, 0, limits.lanesMax);
  within(config.lanesMax, 1, limits.lanesMax);
  within(config.ioThreads, 1, 64);
  if (config.chunkBytes !== 0) within(config.chunkBytes, limits.chunkBytesMin, limits.chunkBytesMax);
  within(config.windowBytes, config.chunkBytes, limits.windowBytesMax);
  within(config.rateBytesPerSecond, 0, Number.MAX_SAFE_INTEGER);
  within(config.transfersMax, 1, limits.transfersMax);
  within(config.heartbeatMs, 10, config.stallMs - 1);
  for (const value of [config.stallMs, deadlines.localMs, deadlines.remoteMs]) within(value, 1, limits.deadlineMaxMs);
  within(config.drainMs, 0, limits.deadlineMaxMs);
  for (const port of [config.listen?.port, config.api?.port]) if (port !== undefined) within(port, 0, 65_535);
  assert.ok(
    config.peers.length <= limits.peersMax && new Set(config.peers.map(({ name }) => name)).size === config.peers.length,
    "peers have names of their own",
  );
  for (const frozen of [config, pool, deadlines, config.peers, config.allow, config.log])
    assert.ok(Object.isFrozen(frozen), "all of it is frozen");
}

function checkShown(loaded: LoadedConfig, isHushed: boolean): void {
  const shown = `${printConfig(loaded)}${JSON.stringify(configObject(loaded))}`;
  if (isHushed) assert.ok(!shown.includes(SECRET), "what is printed tells a secret");
}

function generate(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  if (random.chance(1, 10)) return mutate(random.pick(pool), random);
  const some = (values: object): unknown => {
    const picked = Object.fromEntries(Object.entries(values).filter(() => random.chance(1, 3)));
    return random.chance(3, 4) ? mutateValue(picked, random, 2) : picked;
  };
  const said = random.pick(["preset", "flags", "file"]);
  if (random.chance(1, 20)) {
    return new TextEncoder().encode(JSON.stringify({ [said]: said === "file" ? JSON.stringify(misfit(random)) : misfit(random) }));
  }
  const given = {
    ...(random.chance(1, 2) ? { file: JSON.stringify(some(VALUES)) } : {}),
    ...(random.chance(1, 2) ? { preset: some(VALUES) } : {}),
    ...(random.chance(1, 2) ? { environment: some(random.chance(1, 2) ? ENVIRONMENT : textual(random)) } : {}),
    ...(random.chance(1, 3) ? { flags: some(VALUES) } : {}),
  };
  return new TextEncoder().encode(JSON.stringify(given));
}

/** A secret that does not fit, and nothing else that is wrong. */
function misfit(random: Random): object {
  const secret = random.pick<unknown>([[SECRET], { secret: SECRET }, SECRET.repeat(100)]);
  const peers = [{ name: "a", address: "h:1", secret }];
  return random.pick<object>([{ secret }, { api: { token: secret } }, { peers }, { peers: JSON.stringify(peers) }]);
}

/** Numbers as people write them, and do not. */
function textual(random: Random): Record<string, string> {
  const number = String(random.pick(ABSURD_NUMBERS));
  const unit = random.pick(["", "KiB", "MB", "T", "Gbit", "Gb/s", "ms", "h", " m", "e9", "MiB ", "K", "constructor"]);
  const name = random.pick([
    "POOL_BYTES",
    "CHUNK_BYTES",
    "STALL_MS",
    "RATE_BYTES_PER_SECOND",
    "LANES",
    "API_PORT",
    "DRAIN_MS",
    "WINDOW_BYTES",
  ]);
  return { ...ENVIRONMENT, [`KVFERRY_${name}`]: number + unit };
}

export const configTargets: readonly Target[] = [
  {
    name: "config",
    corpus: "config",
    about: "loadConfig: a frozen configuration with every number bounded, or invalid_config; and no word that tells a secret",
    skip: "",
    native: false,
    seeds: () => [
      new TextEncoder().encode(JSON.stringify({ file: JSON.stringify(VALUES) })),
      new TextEncoder().encode(JSON.stringify({ preset: { ...VALUES, peers: "a=h:1", secretFile: "/nowhere" }, environment: ENVIRONMENT })),
      new TextEncoder().encode(JSON.stringify({ environment: ENVIRONMENT, flags: { pool: { bytes: "1TiB" } } })),
    ],
    generate,
    open: async () => new ConfigSession(),
  },
];
