/**
 * Every field of the configuration: its schema, what a right value looks like, what it is for, and its default.
 * Leaves take the JSON type and the string that an environment variable or a flag gives; the output is the typed value.
 */
import { z } from "zod";
import { isCidr, isHost, parseAddress } from "./address.ts";
import {
  address,
  boolean,
  type DeepPartial,
  duration,
  field,
  list,
  listenAddress,
  orEmpty,
  orUndefined,
  rate,
  size,
  sizeOrZero,
  whole,
  log,
} from "./leaves.ts";
import { limits } from "../limits.ts";

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const secret = z.string().min(16).max(1_024);
const path = z
  .string()
  .min(1)
  .max(4_096)
  .refine((value) => !value.includes("\0"));

const peer = z
  .union([
    z.string(),
    z.strictObject({
      name: z.string(),
      address: z.string(),
      secret: secret.optional(),
      secretFile: path.optional(),
      identity: z.string().min(1).max(limits.identityCharacters).optional(),
    }),
  ])
  .transform((value, context) => {
    const entry = typeof value === "string" ? splitPeer(value) : value;
    if (NAME.test(entry.name) && parseAddress(entry.address) !== undefined) return entry;
    context.addIssue({ code: "custom", message: "a name of 1-64 letters, digits, dots or dashes and an address HOST:PORT" });
    return z.NEVER;
  });

export const configSchema = z.strictObject({
  name: field(
    z.string().regex(NAME),
    "1-64 letters, digits, dots, dashes or underscores",
    "this node's name, as peers and metrics show it",
  ),
  listen: field(listenAddress(), 'HOST:PORT, [IPV6]:PORT or ""', "where peers connect; empty: nobody can"),
  advertise: field(orEmpty(address()), 'HOST:PORT or ""', "address that peers are told, where it is not the one listened on"),
  socket: field(
    orEmpty(path).refine((value) => value.length <= 100),
    'a path of at most 100 characters or ""',
    "unix socket of the engine API",
  ),
  api: z.strictObject({
    host: field(z.string().refine(isHost), "a host", "loopback address of the engine API over TCP"),
    port: field(orUndefined(whole(0, 65_535)), "a port from 0 to 65535", "port of the engine API over TCP; unset: none; 0: any free one"),
    token: field(orEmpty(secret), "at least 16 characters", "token that engines present over TCP", { secret: true }),
  }),
  pool: z.strictObject({
    name: field(
      orEmpty(z.string().regex(NAME)),
      "1-64 letters, digits, dots, dashes or underscores",
      "name of the pool's file; default: this node's name",
    ),
    bytes: field(size(limits.poolBytesMin, limits.poolBytesMax), "a size such as 64MiB, from 1MiB to 4TiB", "bytes of pool memory"),
    blockBytes: field(
      size(64, limits.poolBytesMax),
      "a size such as 2MiB, at least 64 bytes and at most the pool",
      "bytes of a block: all layers of a page of tokens",
    ),
    directory: field(
      orEmpty(path),
      'a path or ""',
      "where the pool's file lies: a tmpfs or hugetlbfs; empty: the first place that has room",
    ),
    hugePages: field(z.enum(["auto", "on", "off"]), '"auto", "on" or "off"', "huge pages for the pool"),
    numaNode: field(whole(-1, 1_023), "an integer from -1 to 1023", "NUMA node of the pool; -1: as the kernel likes"),
  }),
  peers: field(
    list(peer, limits.peersMax),
    "a list of NAME=HOST:PORT (file: [{name, address, secret?, secretFile?, identity?}])",
    "peers known by name",
  ),
  allow: field(list(allowed(), limits.peersMax), "a list of peer names, addresses or CIDR ranges", "who may connect; empty: nobody"),
  secret: field(orEmpty(secret), "at least 16 characters", "secret shared by all peers that have none of their own", { secret: true }),
  secretFile: field(orEmpty(path), "a path", "file with the shared secret"),
  tls: z.strictObject({
    certificate: field(
      orEmpty(path),
      'a path or ""',
      "this node's certificate, as PEM: with it, all peer traffic is TLS 1.3; peers show theirs",
    ),
    key: field(orEmpty(path), 'a path or ""', "key of that certificate, as PEM"),
    authorities: field(orEmpty(path), 'a path or ""', "certificates of the authorities that peers' certificates must be from, as PEM"),
    denied: field(
      orEmpty(path),
      'a path or ""',
      "file of certificates that are not taken: a SHA-256 fingerprint or a serial number a line",
    ),
  }),
  policy: field(orEmpty(path), 'a path or ""', "file of the tenants: who may speak for each, and fetch what from whom; empty: one tenant"),
  insecure: field(boolean(), "true or false", "listen on other than loopback addresses although nothing is encrypted (no tls)"),
  link: field(
    z.enum(["auto", "tcp", "js"]),
    '"auto", "tcp" or "js"',
    "which link carries bytes; auto: native tcp, or js without the addon",
  ),
  lanes: field(
    whole(0, limits.lanesMax),
    `an integer from 0 to ${limits.lanesMax}`,
    "TCP connections for data to each peer; 0: as many as the path gains by",
  ),
  lanesMax: field(whole(1, limits.lanesMax), `an integer from 1 to ${limits.lanesMax}`, "the most that `lanes` 0 may come to"),
  ioThreads: field(whole(0, 64), "an integer from 0 to 64", "threads of the native link; 0: by the number of CPUs"),
  chunkBytes: field(
    sizeOrZero(limits.chunkBytesMin, limits.chunkBytesMax),
    "a size from 4KiB to 16MiB, or 0",
    "bytes of a chunk, the unit that is checked and sent again; 0: by the path",
  ),
  checksum: field(boolean(), "true or false", "CRC32C of every chunk"),
  rateBytesPerSecond: field(rate(), "a rate such as 2Gbit or 250MB/s, or 0", "cap of what is sent to each peer; 0: none", { flag: "rate" }),
  congestionControl: field(
    z.string().regex(/^[a-z0-9_]{0,15}$/),
    'the name of a congestion control or ""',
    "TCP congestion control of lanes; empty: the host's",
  ),
  codec: z.strictObject({
    profiles: field(
      list(path, limits.profilesMax),
      `a list of at most ${limits.profilesMax} presets (kvferry codec list) and JSON files`,
      "profiles that KV may travel coded with, those that are liked best first; empty: it travels as it is",
    ),
    calibration: field(list(path, limits.modelsMax), "a list of paths", "files of kvferry codec calibrate, one for each model"),
    use: field(
      path,
      '"auto", "none" or one of codec.profiles',
      "what this node sends coded, where the reader takes it: auto: what pays by the path and the coders; a profile: always; none: nothing",
    ),
    acceptLossy: field(boolean(), "true or false", "take KV through profiles that lose something, too"),
  }),
  deadlines: z.strictObject({
    localMs: field(
      duration(1, limits.deadlineMaxMs),
      "a time from 1ms to 1h",
      "deadline of a transfer to a peer on this host that names none; its bytes, and those under way, add their time at 1 Gbit/s",
    ),
    remoteMs: field(
      duration(1, limits.deadlineMaxMs),
      "a time from 1ms to 1h",
      "deadline of a transfer to another host that names none; its bytes, and those under way, add their time at 1 Gbit/s",
    ),
  }),
  stallMs: field(
    duration(10, limits.deadlineMaxMs),
    "a time from 10ms to 1h",
    "time without progress that is reported and makes lanes suspect",
  ),
  heartbeatMs: field(duration(10, limits.deadlineMaxMs), "a time from 10ms to 1h", "time between signs of life on a control connection"),
  transfersMax: field(whole(1, limits.transfersMax), `an integer from 1 to ${limits.transfersMax}`, "transfers at once"),
  windowBytes: field(
    size(limits.chunkBytesMin, limits.windowBytesMax),
    "a size from 4KiB to 16GiB",
    "bytes of a transfer under way at once",
  ),
  log,
  drainMs: field(duration(0, limits.deadlineMaxMs), "a time up to 1h", "how long SIGTERM waits for running transfers"),
});

export type ConfigValues = z.output<typeof configSchema>;
/** What a file may hold, and a library user may pass: every field optional, sizes, rates and times also as text. */
export type ConfigInput = DeepPartial<z.input<typeof configSchema>>;

export const configDefaults: Omit<ConfigValues, "name"> = {
  listen: undefined,
  advertise: "",
  socket: "",
  api: { host: "127.0.0.1", port: undefined, token: "" },
  pool: { name: "", bytes: 1024 * 2 ** 20, blockBytes: 2 * 2 ** 20, directory: "", hugePages: "auto", numaNode: -1 },
  peers: [],
  allow: ["127.0.0.0/8", "::1"],
  secret: "",
  secretFile: "",
  tls: { certificate: "", key: "", authorities: "", denied: "" },
  policy: "",
  insecure: false,
  link: "auto",
  lanes: 0,
  lanesMax: limits.lanesMax,
  ioThreads: 0,
  chunkBytes: 0,
  checksum: true,
  rateBytesPerSecond: 0,
  congestionControl: "",
  codec: { profiles: [], calibration: [], use: "auto", acceptLossy: false },
  deadlines: { localMs: limits.deadlineLocalMs, remoteMs: limits.deadlineRemoteMs },
  stallMs: limits.stallMs,
  heartbeatMs: limits.heartbeatMs,
  transfersMax: limits.transfersMax,
  windowBytes: limits.windowBytesDefault,
  log: { level: "info", format: "json" },
  drainMs: limits.deadlineRemoteMs,
};

function splitPeer(text: string): { name: string; address: string } {
  const equals = text.indexOf("=");
  return { name: text.slice(0, Math.max(equals, 0)), address: text.slice(equals + 1) };
}

function allowed() {
  return z.string().refine((value) => NAME.test(value) || isHost(value) || isCidr(value));
}
