/**
 * Fingerprints and keys. Method: the vectors of schemas/keys.md (computed apart from this code), then the properties
 * that look-ups between unequal nodes rest on: a key depends on everything before it and on nothing after it, whatever
 * the block size.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import * as fc from "fast-check";
import { KvferryError } from "../../transport/errors.ts";
import {
  fingerprint,
  type KeySeed,
  keyChain,
  lookupPages,
  type ModelIdentity,
  pageTokensOf,
  planKeys,
  stateKey,
} from "../../transport/kv/identity.ts";

interface Tokens {
  readonly fingerprint: string;
  readonly seed: KeySeed;
  readonly tokenCount: number;
  readonly tokenStep: number;
}
interface Vectors {
  readonly fingerprints: readonly { readonly identity: ModelIdentity; readonly fingerprint: string }[];
  readonly keys: readonly (Tokens & { readonly blockTokens: number; readonly keys: readonly string[] })[];
  readonly state: readonly (Tokens & { readonly key: string })[];
}

const page = readFileSync(new URL("../../schemas/keys.md", import.meta.url), "utf8");
const vectors = JSON.parse(page.match(/```json\n([\s\S]+?)```/)?.[1] ?? "") as Vectors;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const tokensOf = ({ tokenCount, tokenStep }: Tokens): Uint32Array => Uint32Array.from({ length: tokenCount }, (_, at) => at * tokenStep);
const split = (keys: Uint8Array): string[] =>
  Array.from({ length: keys.length / 32 }, (_, at) => hex(keys.subarray(at * 32, at * 32 + 32)));

test("the vectors of schemas/keys.md", () => {
  assert.ok(vectors.fingerprints.length > 1 && vectors.keys.length > 2 && vectors.state.length > 1);
  for (const vector of vectors.fingerprints) assert.equal(fingerprint(vector.identity), vector.fingerprint);
  for (const vector of vectors.keys) assert.deepEqual(split(keyChain({ ...vector, tokens: tokensOf(vector) })), vector.keys);
  for (const vector of vectors.state) assert.equal(hex(stateKey({ ...vector, tokens: tokensOf(vector) })), vector.key);
});

const identity: ModelIdentity = { model: "m", revision: "1", element: "bf16", rope: "", profile: "", extra: "" };
const print = fingerprint(identity);

test("every field of the identity and of the seed counts, and none runs into the next", () => {
  const prints = new Set<string>();
  const names = Object.keys(identity) as (keyof ModelIdentity)[];
  for (const name of names) for (const text of ["a", "ab", "b", "a\0"]) prints.add(fingerprint({ ...identity, [name]: text }));
  assert.equal(prints.size, names.length * 4);
  assert.notEqual(fingerprint({ ...identity, rope: "ab", profile: "c" }), fingerprint({ ...identity, rope: "a", profile: "bc" }));
  const tokens = new Uint32Array(16);
  const keys = new Set<string>([hex(keyChain({ fingerprint: print, seed: {}, blockTokens: 16, tokens }))]);
  for (const name of ["tenant", "lora", "multimodal", "salt"])
    keys.add(hex(keyChain({ fingerprint: print, seed: { [name]: "x" }, blockTokens: 16, tokens })));
  keys.add(hex(keyChain({ fingerprint: print, seed: { tenant: "xx" }, blockTokens: 16, tokens })));
  keys.add(hex(stateKey({ fingerprint: print, seed: {}, tokens })));
  assert.equal(keys.size, 7);
  const empty = { tenant: "", lora: "", multimodal: "", salt: "" };
  assert.deepEqual(
    keyChain({ fingerprint: print, seed: empty, blockTokens: 16, tokens }),
    keyChain({ fingerprint: print, seed: {}, blockTokens: 16, tokens }),
  );
});

const tokenList = fc.array(fc.nat(50_000), { maxLength: 300 }).map((tokens) => Uint32Array.from(tokens));
const blockSize = fc.constantFrom(1, 8, 16, 24, 32, 48, 64, 128);

test("a key depends on all tokens up to the end of its page, and on no later one", () => {
  fc.assert(
    fc.property(tokenList, blockSize, fc.nat(299), (tokens, blockTokens, at) => {
      const keys = split(keyChain({ fingerprint: print, seed: {}, blockTokens, tokens }));
      assert.equal(keys.length, Math.floor(tokens.length / pageTokensOf(blockTokens)));
      const other = tokens.slice();
      if (at >= tokens.length) return;
      other[at] = (tokens[at] as number) + 1;
      const changed = split(keyChain({ fingerprint: print, seed: {}, blockTokens, tokens: other }));
      const page = Math.floor(at / pageTokensOf(blockTokens));
      assert.deepEqual(changed.slice(0, page), keys.slice(0, page));
      changed.slice(page).forEach((key, index) => assert.notEqual(key, keys[page + index]));
    }),
  );
});

test("block sizes that share pages name the same block boundaries alike", () => {
  fc.assert(
    fc.property(tokenList, blockSize, blockSize, (tokens, left, right) => {
      const boundaries = (blockTokens: number): Map<number, string> => {
        const chain = keyChain({ fingerprint: print, seed: {}, blockTokens, tokens });
        return new Map(split(planKeys(blockTokens, chain)).map((key, block) => [(block + 1) * blockTokens, key]));
      };
      const [ours, theirs] = [boundaries(left), boundaries(right)];
      assert.equal(ours.size, Math.floor(tokens.length / left));
      const comparable = pageTokensOf(left) === pageTokensOf(right);
      for (const [end, key] of ours) if (theirs.has(end)) assert.equal(theirs.get(end) === key, comparable);
    }),
  );
});

test("a match is counted in whole blocks of both", () => {
  const table: [number, number, number, number][] = [
    [16, 16, 5, 5],
    [16, 128, 17, 2],
    [128, 16, 17, 16],
    [128, 16, 7, 0],
    [32, 48, 7, 2],
    [24, 24, 3, 3],
    [24, 16, 9, 0],
    [24, 48, 9, 0],
    [0, 0, 1, 1],
    [0, 16, 1, 0],
  ];
  for (const [holder, asker, matched, blocks] of table)
    assert.equal(lookupPages(holder, asker, matched), blocks, `${holder} ${asker} ${matched}`);
});

test("state keys are for exact lengths", () => {
  const tokens = Uint32Array.from({ length: 40 }, (_, at) => at);
  const keys = new Set(
    Array.from({ length: 41 }, (_, length) => hex(stateKey({ fingerprint: print, seed: {}, tokens: tokens.subarray(0, length) }))),
  );
  assert.equal(keys.size, 41);
  // A view into a larger buffer is hashed as itself.
  assert.deepEqual(
    stateKey({ fingerprint: print, seed: {}, tokens: tokens.subarray(8, 12) }),
    stateKey({ fingerprint: print, seed: {}, tokens: tokens.slice(8, 12) }),
  );
  assert.deepEqual(planKeys(0, stateKey({ fingerprint: print, seed: {}, tokens })), stateKey({ fingerprint: print, seed: {}, tokens }));
});

test("what is not text, tokens or a fingerprint is refused by name", () => {
  const tokens = new Uint32Array(16);
  const chain = (change: object): unknown =>
    keyChain({ fingerprint: print, seed: {}, blockTokens: 16, tokens, ...change } as Parameters<typeof keyChain>[0]);
  const table: [() => unknown, RegExp][] = [
    [() => fingerprint({ ...identity, model: "" }), /model/],
    [() => fingerprint({ ...identity, rope: "\ud800" }), /rope/],
    [() => fingerprint({ ...identity, extra: "x".repeat(5_000) }), /extra but received .* of 5000 characters/],
    [() => fingerprint({ ...identity, revision: 7 as unknown as string }), /revision but received 7/],
    [() => chain({ fingerprint: print.toUpperCase() }), /fingerprint/],
    [() => chain({ fingerprint: "" }), /fingerprint/],
    [() => chain({ seed: { salt: "\udfff" } }), /salt/],
    [() => chain({ blockTokens: 0 }), /blockTokens but received 0/],
    [() => chain({ blockTokens: 16.5 }), /blockTokens/],
    [() => chain({ tokens: [1, 2, 3] }), /tokens but received an array of 3/],
    [() => planKeys(16, new Uint8Array(33)), /keys but received 33 bytes/],
    [() => lookupPages(16, 16, -1), /matched/],
  ];
  for (const [run, message] of table) {
    assert.throws(
      run,
      (error: unknown) => error instanceof KvferryError && error.code === "invalid_argument" && message.test(error.message),
    );
  }
});
