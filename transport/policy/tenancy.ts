/**
 * Who may do what: the tenants of a policy, the identities that speak for each, and what one may fetch of another. PURE; a pattern is text in which `*`
 * stands for any characters, none included, and `?` for one.
 */
import type { TenantConfig } from "../config/policy-file.ts";
import { KvferryError } from "../errors.ts";

export type Tenant = Pick<TenantConfig, "name" | "identities" | "rateBytesPerSecond" | "rules">;

/** Whether content of a namespace exists for somebody. */
export type Sight = (namespace: string) => boolean;

export class Tenancy {
  readonly #tenants: ReadonlyMap<string, Tenant>;

  constructor(tenants: readonly Tenant[]) {
    this.#tenants = new Map(tenants.map((tenant) => [tenant.name, tenant]));
  }

  get names(): readonly string[] {
    return [...this.#tenants.keys()];
  }

  rateOf(name: string): number {
    return this.#tenants.get(name)?.rateBytesPerSecond ?? 0;
  }

  /** Whom a certificate may speak for. */
  tenantsOf(identity: string): readonly string[] {
    if (identity === "") return [];
    return this.names.filter((name) => this.#tenants.get(name)?.identities.some((pattern) => fits(pattern, identity)));
  }

  /**
   * The tenant of a connection: the one that it claims, or, if it claims none, the only one that its certificate may speak for. Throws tenant_denied,
   * with words that do not tell a tenant that is here from one that is not.
   */
  tenantOf(identity: string, claim: string): string {
    const allowed = this.tenantsOf(identity);
    if (claim === "" && allowed.length > 1)
      throw new KvferryError("tenant_denied", `${identity} may speak for several tenants, and names none`);
    const found = claim === "" ? allowed[0] : allowed.find((name) => name === claim);
    if (found !== undefined) return found;
    const who = identity === "" ? "a connection without a certificate" : identity;
    throw new KvferryError("tenant_denied", claim === "" ? `${who} speaks for no tenant here` : `${who} may not speak for tenant ${claim}`);
  }

  /** What of tenant `from` exists for tenant `by`; undefined: nothing of it may be asked for. */
  sight(by: string, from: string): Sight | undefined {
    const rules = (this.#tenants.get(by)?.rules ?? []).filter((rule) => rule.from === from);
    if (rules.length === 0 || !this.#tenants.has(from)) return undefined;
    return (namespace) => rules.some(({ namespaces }) => namespaces.some((pattern) => fits(pattern, namespace)));
  }
}

/** In time that grows with the product of both lengths at most, whoever chose them. */
export function fits(pattern: string, text: string): boolean {
  let [at, from] = [0, 0];
  // Where the last star stands, and what it has taken so far.
  let [star, taken] = [-1, 0];
  while (from < text.length) {
    if (at < pattern.length && pattern[at] === "*") {
      star = at++;
      taken = from;
    } else if (at < pattern.length && (pattern[at] === "?" || pattern[at] === text[from])) {
      at++;
      from++;
    } else if (star >= 0) {
      at = star + 1;
      from = ++taken;
    } else return false;
  }
  while (pattern[at] === "*") at++;
  return at === pattern.length;
}
