/**
 * Tenants: whom a certificate may speak for, and what of another tenant exists for it.
 * Method: examples, and patterns against regular expressions made of them (fast-check).
 */
import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { fits, Tenancy, type Tenant } from "../../transport/policy/tenancy.ts";

const tenant = (name: string, identities: readonly string[], rules: Tenant["rules"] = []): Tenant => ({
  name,
  identities,
  rateBytesPerSecond: 0,
  rules,
});

const tenancy = new Tenancy([
  tenant("blue", ["spiffe://fleet/blue/*", "spiffe://fleet/shared/?"], [{ from: "green", namespaces: ["public/*", ""] }]),
  tenant("green", ["spiffe://fleet/green/*", "spiffe://fleet/shared/?"]),
]);

test("a pattern fits what the same regular expression fits", () => {
  const letters = fc.constantFrom("a", "b", "*", "?", ".", "/");
  const word = fc.array(letters, { maxLength: 12 }).map((parts) => parts.join(""));
  fc.assert(
    fc.property(word, word, (pattern, text) => {
      const escaped = pattern.replace(/[.*?/]/g, (one) => (one === "*" ? ".*" : one === "?" ? "." : `\\${one}`));
      assert.equal(fits(pattern, text), new RegExp(`^${escaped}$`, "s").test(text));
    }),
    { numRuns: 2_000 },
  );
});

test("many stars cost no more than the product of the lengths", () => {
  assert.equal(fits(`${"*a".repeat(500)}b`, "a".repeat(4_000)), false);
  assert.equal(fits("*".repeat(1_000), ""), true);
});

test("the only tenant of an identity needs no claim; of several one is claimed", () => {
  assert.equal(tenancy.tenantOf("spiffe://fleet/blue/7", ""), "blue");
  assert.equal(tenancy.tenantOf("spiffe://fleet/shared/1", "green"), "green");
  assert.equal(tenancy.tenantOf("spiffe://fleet/shared/1", "blue"), "blue");
  assert.throws(() => tenancy.tenantOf("spiffe://fleet/shared/1", ""), { code: "tenant_denied", detail: /names none/ });
});

test("a claim of another tenant is refused in the words that a tenant gets that is not here", () => {
  const words = (claim: string): string => {
    try {
      tenancy.tenantOf("spiffe://fleet/blue/7", claim);
    } catch (error) {
      return (error as Error).message.replaceAll(claim, "X");
    }
    return assert.fail("was let in");
  };
  assert.equal(words("green"), words("nobody"));
  for (const identity of ["", "spiffe://fleet/red/1", "spiffe://fleet/shared/12"])
    assert.throws(() => tenancy.tenantOf(identity, ""), { code: "tenant_denied" });
});

test("what another tenant has exists where a rule names its namespace", () => {
  const sight = tenancy.sight("blue", "green");
  assert.ok(sight);
  assert.deepEqual(
    ["public/a", "public/", "", "public", "private/a"].map((namespace) => sight(namespace)),
    [true, true, true, false, false],
  );
  assert.equal(tenancy.sight("green", "blue"), undefined);
  assert.equal(tenancy.sight("blue", "red"), undefined);
  assert.equal(tenancy.sight("red", "green"), undefined);
});
