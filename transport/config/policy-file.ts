/** The policy file: the tenants of a node, as JSON. Unknown in, frozen typed value out; what is wrong is named by its place in the file. */
import { resolve } from "node:path";
import { z } from "zod";
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { readSmallFile } from "../tls/files.ts";
import { deepFreeze } from "./layers.ts";
import { rate, size } from "./leaves.ts";

export interface FetchRule {
  /** Of which tenant. */
  readonly from: string;
  /** Patterns over the namespaces of that tenant. */
  readonly namespaces: readonly string[];
}

export interface TenantConfig {
  readonly name: string;
  /** Patterns over the identity of a certificate: who may speak for the tenant. */
  readonly identities: readonly string[];
  /** Of its engines; "": it has none here. */
  readonly socket: string;
  readonly pool: { readonly bytes: number; readonly blockBytes: number };
  /** Cap of what is sent to all its peers together; 0 = none. */
  readonly rateBytesPerSecond: number;
  /** What its peers may fetch that is not its own. */
  readonly rules: readonly FetchRule[];
}

const NAME = new RegExp(`^[A-Za-z0-9][A-Za-z0-9._-]{0,${limits.tenantCharacters - 1}}$`);
const NAME_WANTED = `1 to ${limits.tenantCharacters} letters, digits, dots, dashes or underscores, a letter or digit first,`;
const SOCKET_CHARACTERS_MAX = 100;

const patterns = (characters: number) => z.array(z.string().max(characters)).min(1).max(limits.tenantEntriesMax);

const tenant = z.strictObject({
  identities: patterns(limits.identityCharacters),
  socket: z.string().min(1).max(SOCKET_CHARACTERS_MAX).optional(),
  pool: z
    .strictObject({
      bytes: size(limits.poolBytesMin, limits.poolBytesMax).optional(),
      blockBytes: size(64, limits.poolBytesMax).optional(),
    })
    .optional(),
  rate: rate().optional(),
  fetch: z
    .array(z.strictObject({ from: z.string().regex(NAME), namespaces: patterns(limits.namespaceCharacters) }))
    .max(limits.tenantEntriesMax)
    .optional(),
});

const schema = z.strictObject({ tenants: z.record(z.string().regex(NAME), tenant) });

/** What a right value looks like, by the last name of its place. */
const WANTED: Readonly<Record<string, string>> = {
  tenants: "an object: tenants by name",
  identities: "a list of patterns over certificates' identities, at least one",
  socket: `a path of 1 to ${SOCKET_CHARACTERS_MAX} characters`,
  pool: "{bytes?, blockBytes?}",
  bytes: "a size such as 64MiB, from 1MiB to 4TiB",
  blockBytes: "a size such as 2MiB, at least 64 bytes and at most the pool",
  rate: "a rate such as 2Gbit or 250MB/s, or 0",
  fetch: "a list of {from, namespaces}",
  from: "the name of another tenant",
  namespaces: "a list of patterns over namespaces, at least one",
};

/** Throws KvferryError (invalid_config). @param preset what a tenant's pool has unless the file says otherwise */
export function loadPolicy(file: string, preset: TenantConfig["pool"]): readonly TenantConfig[] {
  let text: string;
  try {
    text = readSmallFile(file).toString("utf8");
  } catch (error) {
    throw new KvferryError("invalid_config", `policy: ${(error as Error).message}`, { cause: error });
  }
  let value: unknown;
  try {
    // Which a record of names would drop without a word.
    value = JSON.parse(text, (name, inner: unknown) => {
      if (name === "__proto__") throw new Error("__proto__ is no name");
      return inner;
    });
  } catch (error) {
    throw new KvferryError("invalid_config", `policy: ${file} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  const twice = nameGivenTwice(text);
  if (twice !== undefined) throw new KvferryError("invalid_config", `policy: ${file} names ${JSON.stringify(twice.slice(0, 64))} twice`);
  return parsePolicy(value, file, preset);
}

/** In one object of this JSON. The parser keeps the last of them, and whoever wrote the other would think that it holds. */
function nameGivenTwice(json: string): string | undefined {
  const open: Set<string>[] = [];
  for (const [token, text, colon] of json.matchAll(/[{}[\]]|("(?:[^"\\]|\\.)*")\s*(:?)/g)) {
    if (token === "{" || token === "[") open.push(new Set());
    else if (token === "}" || token === "]") open.pop();
    else if (colon === ":") {
      const name = JSON.parse(text as string) as string;
      if (open.at(-1)?.has(name)) return name;
      open.at(-1)?.add(name);
    }
  }
  return undefined;
}

/** Throws KvferryError (invalid_config). @param source named in what is wrong */
export function parsePolicy(value: unknown, source: string, preset: TenantConfig["pool"]): readonly TenantConfig[] {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw misfit(parsed.error.issues[0]!, value, source);
  const tenants = Object.entries(parsed.data.tenants).map(
    ([name, { identities, socket = "", pool, rate: rateBytesPerSecond = 0, fetch: rules = [] }]) => {
      // Of a tenant without engines here only its peers come, for what is others'.
      const most = socket === "" ? { bytes: limits.poolBytesMin, blockBytes: preset.blockBytes } : preset;
      const { bytes = most.bytes, blockBytes = Math.min(most.blockBytes, Math.floor(bytes / 4)) } = pool ?? {};
      return { name, identities, socket, pool: { bytes, blockBytes }, rateBytesPerSecond, rules };
    },
  );
  relate(tenants, parsed.data.tenants, source);
  return deepFreeze(tenants);
}

/** What must hold between the parts. */
function relate(tenants: readonly TenantConfig[], written: z.output<typeof schema>["tenants"], source: string): void {
  const unless = (holds: boolean, what: string, place: string, received: unknown): void => {
    if (!holds) throw expected(what, `tenants${place} (from ${source})`, received, "invalid_config");
  };
  const names = tenants.map(({ name }) => name);
  unless(names.length > 0 && names.length <= limits.tenantsMax, `1 to ${limits.tenantsMax} tenants`, "", names.length);
  const sockets = new Set<string>();
  for (const { name, socket, pool, rules } of tenants) {
    unless(
      socket !== "" || written[name]?.pool === undefined,
      "no pool, because the tenant has no engines here (socket)",
      `.${name}.pool`,
      pool,
    );
    unless(pool.blockBytes <= pool.bytes, "at most the pool's bytes", `.${name}.pool.blockBytes`, pool.blockBytes);
    // One path can be written in many ways.
    unless(socket === "" || !sockets.has(resolve(socket)), "a socket of its own", `.${name}.socket`, socket);
    sockets.add(resolve(socket));
    rules.forEach(({ from }, index) => {
      unless(from !== name && names.includes(from), WANTED["from"] as string, `.${name}.fetch.${index}.from`, from);
    });
  }
}

function misfit(issue: z.core.$ZodIssue, value: unknown, source: string): KvferryError {
  const place = issue.path.map(String);
  if (issue.code === "unrecognized_keys") {
    const name = [...place, issue.keys[0]].join(".");
    return new KvferryError("invalid_config", `Expected a known field but received ${name} (from ${source})`);
  }
  if (issue.code === "invalid_key") return expected(NAME_WANTED, `a tenant's name (from ${source})`, place.at(-1), "invalid_config");
  let received = value;
  for (const step of issue.path) received = (received as Record<PropertyKey, unknown> | undefined)?.[step];
  // A list is named by its own name, whichever of its entries is wrong; a tenant by its name.
  const named = place.findLast((step) => WANTED[step] !== undefined) ?? "tenants";
  const wanted = place.length === 2 ? "{identities, socket?, pool?, rate?, fetch?}" : WANTED[named];
  return expected(wanted as string, `${place.join(".") || "the policy"} (from ${source})`, received, "invalid_config");
}
