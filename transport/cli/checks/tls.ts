/** Checks of TLS: the OpenSSL that the link uses, how fast this CPU encrypts with it, and how long the configured certificate is good for. */
import type { Config } from "../../config.ts";
import { KvferryError } from "../../errors.ts";
import { native } from "../../native.ts";
import { describeCertificate, loadTls } from "../../tls/files.ts";
import { type Check, fail, type Host, ok, warn } from "./host.ts";

const DAY_MS = 86_400_000;
const SOON_DAYS = 14;

export function tlsChecks(host: Host, config: Config, nowMs: number): Check[] {
  const library = openssl(host, config);
  return config.tls === undefined ? [library] : [library, certificate(config.tls, nowMs)];
}

function openssl(host: Host, config: Config): Check {
  const id = "tls";
  const addon = config.link === "js" ? undefined : native?.tls;
  if (addon?.version === "") {
    const remedy = "Use a Node from nodejs.org, built with OpenSSL, and npm rebuild kvferry with its headers; or --link js.";
    return config.tls === undefined ? ok(id, `not to be had: ${addon.problem}`) : fail(id, `not to be had: ${addon.problem}`, remedy);
  }
  const version = addon?.version ?? `OpenSSL ${process.versions.openssl} (node:tls)`;
  const flags = cpuFlags(host);
  if (flags === undefined) return ok(id, version);
  if (!flags.has("aes")) {
    const found = `${version}; this CPU has no AES instructions`;
    const remedy = "Encryption will cost most of a core for each Gbit/s or two.";
    return config.tls === undefined ? ok(id, found) : warn(id, found, remedy);
  }
  // OpenSSL 3.0, of Node 20, encrypts one vector after the other.
  const isOld = process.versions.openssl?.startsWith("3.0.") === true;
  if (flags.has("vaes") && isOld)
    return ok(id, `${version}; AES in hardware, and about four times as fast with a newer Node (3.0 does not use VAES)`);
  return ok(id, `${version}; AES in hardware${flags.has("vaes") ? ", with VAES" : ""}`);
}

function certificate(files: NonNullable<Config["tls"]>, nowMs: number): Check {
  const id = "tls_certificate";
  try {
    const { identity, notAfter } = describeCertificate(loadTls(files, nowMs).certificate);
    const days = Math.floor((Date.parse(notAfter) - nowMs) / DAY_MS);
    const found = `${identity}, until ${notAfter.slice(0, 10)} (${days} days)`;
    return days >= SOON_DAYS ? ok(id, found) : warn(id, found, "Put the next one in its place: a running node takes it without a restart.");
  } catch (error) {
    if (!(error instanceof KvferryError)) throw error;
    return fail(id, error.detail, "kvferry serve will not start with these; kvferry cert makes a set that fits together.");
  }
}

/** Of x86 and of Arm; undefined where the host does not say. */
function cpuFlags(host: Host): ReadonlySet<string> | undefined {
  const line = host.read("/proc/cpuinfo")?.match(/^(?:flags|Features)\s*:\s*(.*)$/m)?.[1];
  return line === undefined ? undefined : new Set(line.split(/\s+/));
}
