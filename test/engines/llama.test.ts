/**
 * The llama.cpp engine without llama.cpp: its commands (examples and arbitrary lines), and the engine itself over doubles, where whatever
 * part of the KV comes from elsewhere, and whatever error keeps it away, the answer is the one that a computed prompt gives.
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { kvLayout } from "../../engines/llama/blocks.ts";
import { readStateFile, withStateFile, writeStateFile } from "../../engines/llama/carrier.ts";
import { Engine } from "../../engines/llama/engine.ts";
import { idOf, parseCommand } from "../../engines/llama/protocol.ts";
import { Sidecar } from "../../engines/llama/sidecar.ts";
import { wrap } from "../../engines/demo/words.ts";
import { KvferryError } from "../../transport/errors.ts";
import { ALL_CODES, BLOCK_TOKENS, KV, NearSidecar, Neighbourhood, SumRuntime } from "./doubles.ts";

const TICKET = { handle: "h", bytes: 10, blocks: 1, tokens: 3, digest: "d" };

test("commands parse into what they say", () => {
  assert.deepEqual(parseCommand('{"op":"exit","id":3,"more":1}'), { op: "exit", id: 3 });
  assert.deepEqual(parseCommand('{"op":"prefill","id":1,"prompt":"p"}'), { op: "prefill", id: 1, sequence: 0, prompt: "p" });
  const from = { peer: "a", ticket: TICKET, deadlineMs: 5 };
  const decode = { op: "decode", id: 2, sequence: 3, prompt: "p", count: 4, reuse: { peers: ["a", "b"], deadlineMs: 7 }, from };
  assert.deepEqual(parseCommand(JSON.stringify(decode)), decode);
});

test("a bad command is an invalid_argument that names the field", () => {
  const decode = '{"id":1,"op":"decode","prompt":"p"';
  const cases: readonly (readonly [line: string, message: RegExp])[] = [
    ["", /one JSON object/],
    ["[]", /an object for command/],
    ['{"id":1,"op":"sing"}', /for op but received "sing"/],
    ['{"id":-1,"op":"exit"}', /for id/],
    ['{"id":1,"op":"prefill","prompt":""}', /for prompt/],
    ['{"id":1,"op":"prefill","prompt":"p","sequence":64}', /for sequence/],
    ['{"id":1,"op":"prefill","prompt":"p","reuse":{"peers":[""],"deadlineMs":1}}', /for reuse.peers/],
    ['{"id":1,"op":"prefill","prompt":"p","reuse":{"peers":{},"deadlineMs":1}}', /for reuse.peers/],
    ['{"id":1,"op":"prefill","prompt":"p","reuse":{}}', /for reuse.deadlineMs/],
    [`${decode},"count":1e9}`, /for count/],
    [`${decode},"count":1,"from":{"peer":"a","deadlineMs":1,"ticket":{"handle":"h"}}}`, /for ticket.bytes/],
    [
      `${decode},"count":1,"from":{"peer":"a","deadlineMs":1,"ticket":{"handle":"h","bytes":1,"blocks":1,"tokens":1}}}`,
      /for ticket.digest/,
    ],
  ];
  for (const [line, message] of cases) assert.throws(() => parseCommand(line), { code: "invalid_argument", message });
  assert.equal(idOf('{"id": 7, "op": }'), 7);
  assert.equal(idOf("nothing"), 0);
});

test("no line makes the parser throw anything else", () => {
  const field = fc.oneof(fc.jsonValue(), fc.constantFrom("exit", "prefill", "decode"), fc.nat());
  const keys = fc.constantFrom("op", "id", "prompt", "count", "from", "peer", "ticket", "sequence", "reuse");
  const lines = fc.oneof(
    fc.string(),
    fc.json(),
    fc.dictionary(keys, field).map((value) => JSON.stringify(value)),
  );
  fc.assert(
    fc.property(lines, (line) => {
      try {
        parseCommand(line);
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "invalid_argument", String(error));
      }
    }),
  );
});

interface Pair {
  readonly prefill: Engine;
  readonly decode: Engine;
  readonly prefillSidecar: NearSidecar;
  readonly decodeSidecar: NearSidecar;
  readonly prefillRuntime: SumRuntime;
  readonly decodeRuntime: SumRuntime;
}

/** Runs `use` with two engines whose sidecars know each other; afterwards every lease has come back. */
async function withPair(use: (pair: Pair) => Promise<void>): Promise<void> {
  const near = new Neighbourhood();
  const make = (name: string) => {
    const ferry = new NearSidecar(near, name);
    const runtime = new SumRuntime();
    const sidecar = new Sidecar({
      identity: runtime.identity,
      layout: (pool) => kvLayout(KV, pool),
      open: async () => ferry,
      onEvent: (event) => engine.handleEvent(event),
    });
    const engine: Engine = new Engine(runtime, sidecar, () => undefined);
    return { engine, ferry, runtime };
  };
  const prefill = make("prefill");
  const decode = make("decode");
  try {
    await use({
      prefill: prefill.engine,
      decode: decode.engine,
      prefillSidecar: prefill.ferry,
      decodeSidecar: decode.ferry,
      prefillRuntime: prefill.runtime,
      decodeRuntime: decode.runtime,
    });
    assert.equal(prefill.ferry.leases + decode.ferry.leases, 0);
  } finally {
    await Promise.all([prefill.engine.close(), decode.engine.close()]);
  }
}

const PROMPT = "a prompt of some length, which is two blocks and a part";
const BEFORE = PROMPT.length - 1;
const WHOLE = Math.floor(BEFORE / BLOCK_TOKENS);
const prefillOf = (prompt: string, sequence = 0) => ({ op: "prefill", id: 1, sequence, prompt }) as const;
const decodeOf = (prompt: string, sequence = 0) => ({ op: "decode", id: 1, sequence, prompt, count: 8 }) as const;
const FROM = { peer: "prefill", deadlineMs: 1000 };
const REUSE = { peers: ["prefill"], deadlineMs: 1000 };

test("KV that was ferried gives the answer that computing gives, and every block that is not published goes back", async () => {
  await withPair(async ({ prefill, decode, prefillSidecar, decodeSidecar, decodeRuntime }) => {
    const computed = await decode.decode(decodeOf(PROMPT));
    assert.equal(computed.via, "computed");
    const before = decodeRuntime.evaluated;
    const { ticket } = await prefill.prefill(prefillOf(PROMPT));
    assert.deepEqual(
      { tokens: ticket.tokens, blocks: ticket.blocks, bytes: ticket.bytes },
      { tokens: BEFORE, blocks: WHOLE + 1, bytes: BEFORE * 32 },
    );
    assert.deepEqual({ held: prefillSidecar.held.size, published: prefillSidecar.published.size }, { held: 1, published: WHOLE });
    const ferried = await decode.decode({ ...decodeOf(PROMPT), from: { ...FROM, ticket } });
    assert.equal(ferried.via, "ferried");
    assert.deepEqual(ferried.tokens, computed.tokens);
    assert.equal(decodeRuntime.evaluated - before, 8, "only the last token and the new ones");
    assert.equal(prefillSidecar.held.size + decodeSidecar.held.size, 0);
  });
});

test("whatever code a fetch, a look-up or a publication ends with, the answer is the same", async () => {
  await withPair(async ({ prefill, decode, prefillSidecar, decodeSidecar }) => {
    const computed = await decode.decode(decodeOf(PROMPT));
    for (const code of ALL_CODES) {
      prefillSidecar.failWith = code;
      const { ticket } = await prefill.prefill(prefillOf(PROMPT));
      prefillSidecar.failWith = undefined;
      decodeSidecar.failWith = code;
      const run = await decode.decode({ ...decodeOf(PROMPT), from: { ...FROM, ticket }, reuse: REUSE });
      assert.equal(run.via, "computed");
      assert.equal(run.failure?.code, code);
      assert.deepEqual(run.tokens, computed.tokens);
      decodeSidecar.failWith = undefined;
      const again = await decode.decode({ ...decodeOf(PROMPT), from: { ...FROM, ticket } });
      assert.equal(again.via, "ferried");
      assert.deepEqual(again.tokens, computed.tokens);
      assert.equal(decodeSidecar.held.size + prefillSidecar.held.size, 0);
    }
  });
});

test("a published prefix is fetched from the peer once, then found here; only the rest is computed", async () => {
  await withPair(async ({ prefill, decode, decodeSidecar, decodeRuntime, prefillRuntime }) => {
    await prefill.prefill(prefillOf(PROMPT));
    const other = `${PROMPT.slice(0, 40)}, and then something else`;
    const shared = Math.floor(40 / BLOCK_TOKENS) * BLOCK_TOKENS;
    const computed = await decode.decode(decodeOf(other));
    for (const fetchedTokens of [shared, 0]) {
      const before = decodeRuntime.evaluated;
      const run = await decode.decode({ ...decodeOf(other, 1), reuse: REUSE });
      assert.equal(run.via, "reused", run.failure?.message);
      assert.deepEqual(run.reused, { tokens: shared, fetchedTokens });
      assert.equal(run.report === undefined, fetchedTokens === 0);
      assert.deepEqual(run.tokens, computed.tokens);
      assert.equal(decodeRuntime.evaluated - before, other.length - 1 - shared + 8);
      assert.deepEqual({ held: decodeSidecar.held.size, published: decodeSidecar.published.size }, { held: 0, published: 2 });
    }
    // Also the prefill engine need not read a beginning twice, and publishes what is new behind it.
    const before = prefillRuntime.evaluated;
    const again = await prefill.prefill({ ...prefillOf(other), reuse: { peers: [], deadlineMs: 1000 } });
    assert.deepEqual(again.reused, { tokens: shared, fetchedTokens: 0 });
    assert.equal(prefillRuntime.evaluated - before, other.length - 1 - shared);
    const all = await decode.decode({ ...decodeOf(other), reuse: REUSE });
    const whole = Math.floor((other.length - 1) / BLOCK_TOKENS) * BLOCK_TOKENS;
    assert.deepEqual(all.reused, { tokens: whole, fetchedTokens: whole - shared }, "the part that is here is leased, the other fetched");
    assert.deepEqual(all.tokens, computed.tokens);
  });
});

test("where nothing is published, or a peer is unknown, the prompt is computed", async () => {
  await withPair(async ({ decode }) => {
    const computed = await decode.decode(decodeOf(PROMPT));
    for (const peers of [["prefill"], ["nobody"], []]) {
      const run = await decode.decode({ ...decodeOf(PROMPT), reuse: { ...REUSE, peers } });
      assert.equal(run.via, "computed");
      assert.deepEqual(run.tokens, computed.tokens);
    }
    const short = await decode.decode({ ...decodeOf("short"), reuse: REUSE });
    assert.equal(short.via, "computed");
  });
});

test("any prompts that begin alike, in any order and on either sequence, give the answers that computing gives", async () => {
  const prompts = fc.array(
    fc.record({ at: fc.nat(60), tail: fc.string({ unit: "grapheme-ascii", minLength: 2, maxLength: 30 }), sequence: fc.nat(1) }),
    {
      minLength: 1,
      maxLength: 6,
    },
  );
  await fc.assert(
    fc.asyncProperty(prompts, async (cases) => {
      await withPair(async ({ prefill, decode }) => {
        for (const { at, tail, sequence } of cases) {
          const prompt = PROMPT.slice(0, at) + tail;
          const { ticket } = await prefill.prefill({ ...prefillOf(prompt, sequence), reuse: { peers: ["decode"], deadlineMs: 1000 } });
          const computed = await decode.decode(decodeOf(prompt));
          const reused = await decode.decode({ ...decodeOf(prompt, sequence), reuse: REUSE });
          const ferried = await decode.decode({ ...decodeOf(prompt, sequence), from: { ...FROM, ticket } });
          assert.equal(ferried.via, "ferried", ferried.failure?.message);
          assert.deepEqual(reused.tokens, computed.tokens);
          assert.deepEqual(ferried.tokens, computed.tokens);
        }
      });
    }),
    { numRuns: 30 },
  );
});

test("sequences are independent: two commands at once disturb neither, and a sequence that is not there is refused", async () => {
  await withPair(async ({ prefill, decode }) => {
    const other = [...PROMPT].reverse().join("");
    const [one, two] = [await decode.decode(decodeOf(PROMPT)), await decode.decode(decodeOf(other))];
    const [{ ticket }, { ticket: otherTicket }] = await Promise.all([
      prefill.prefill(prefillOf(PROMPT)),
      prefill.prefill(prefillOf(other, 1)),
    ]);
    const runs = await Promise.all([
      decode.decode({ ...decodeOf(PROMPT, 1), from: { ...FROM, ticket } }),
      decode.decode({ ...decodeOf(other, 0), from: { ...FROM, ticket: otherTicket } }),
    ]);
    assert.deepEqual(
      runs.map(({ via, tokens }) => ({ via, tokens })),
      [one, two].map(({ tokens }) => ({ via: "ferried", tokens })),
    );
    await assert.rejects(decode.decode(decodeOf(PROMPT, 2)), { code: "invalid_argument", message: /sequence 2, and there are 2/ });
  });
});

test("tickets of another prompt are noticed before anything is fetched, and a handle is spent once", async () => {
  await withPair(async ({ prefill, decode, decodeSidecar }) => {
    const other = `${PROMPT.slice(0, -2)}!!`;
    const computed = await decode.decode(decodeOf(other));
    const { ticket } = await prefill.prefill(prefillOf(PROMPT));
    for (const wrong of [{ ...ticket, tokens: 2 }, { ...ticket, digest: "0".repeat(64) }, ticket]) {
      const run = await decode.decode({ ...decodeOf(other), from: { ...FROM, ticket: wrong } });
      assert.equal(run.failure?.code, "invalid_argument");
      assert.deepEqual(run.tokens, computed.tokens);
    }
    assert.equal((await decode.decode({ ...decodeOf(PROMPT), from: { ...FROM, ticket } })).via, "ferried");
    assert.equal((await decode.decode({ ...decodeOf(PROMPT), from: { ...FROM, ticket } })).failure?.code, "handle_unknown");
    assert.equal(decodeSidecar.held.size, 0);
  });
});

test("without its sidecar an engine computes; when it is back, in the same life or a new one, KV comes again", async () => {
  await withPair(async ({ prefill, decode, prefillSidecar, decodeSidecar }) => {
    const computed = await decode.decode(decodeOf(PROMPT));
    for (const forgets of [false, true]) {
      const { ticket } = await prefill.prefill(prefillOf(PROMPT));
      for (const sidecar of [prefillSidecar, decodeSidecar]) {
        sidecar.forgets = forgets;
        sidecar.leave();
      }
      await assert.rejects(prefill.prefill(prefillOf(PROMPT)), { code: "connect_failed" });
      const from = { ...FROM, ticket };
      assert.equal((await decode.decode({ ...decodeOf(PROMPT), from, reuse: REUSE })).failure?.code, "connect_failed");
      prefillSidecar.away = false;
      decodeSidecar.away = false;
      // The offer of before is withdrawn: only the new one holds blocks.
      const again = await prefill.prefill(prefillOf(PROMPT));
      assert.equal(prefillSidecar.held.size, 1);
      const ferried = await decode.decode({ ...decodeOf(PROMPT), from: { ...from, ticket: again.ticket } });
      assert.equal(ferried.via, "ferried", ferried.failure?.message);
      assert.deepEqual(ferried.tokens, computed.tokens);
      assert.equal(prefillSidecar.held.size + decodeSidecar.held.size, 0);
    }
  });
});

test("an exhausted pool fails the prefill with its code and keeps nothing", async () => {
  await withPair(async ({ prefill, prefillSidecar }) => {
    await assert.rejects(prefill.prefill(prefillOf("x".repeat(1100))), { code: "pool_exhausted" });
    assert.equal(prefillSidecar.held.size, 0);
    await assert.rejects(prefill.prefill(prefillOf("x")), { code: "invalid_argument", message: /at least 2 tokens/ });
    await assert.rejects(prefill.prefill(prefillOf("x".repeat(1201))), { code: "invalid_argument", message: /a context of 1200/ });
  });
});

test("a state file is written new, read whole, and gone afterwards", async () => {
  const bytes = Uint8Array.from({ length: 70_000 }, (_, at) => at % 251);
  const path = await withStateFile(async (file) => {
    writeStateFile(file, bytes);
    assert.equal(Buffer.compare(readStateFile(file), bytes), 0);
    assert.throws(() => writeStateFile(file, bytes), { code: "memory_unavailable" });
    return file;
  });
  assert.throws(() => readStateFile(path), { code: "memory_unavailable", message: /cannot copy through/ });
  let failed = "";
  const use = withStateFile(async (file) => {
    failed = file;
    writeStateFile(file, bytes);
    throw new Error("as the test asked");
  });
  await assert.rejects(use, /as the test asked/);
  assert.equal(existsSync(dirname(failed)), false);
});

test("wrapped lines keep every word, in order, and their width", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 20 }).filter((word) => !word.includes(" "))),
      (words) => {
        const lines = wrap(words.join(" "), 20);
        assert.equal(lines.join(" "), words.join(" "));
        assert.ok(lines.every((line) => line.length <= 20));
      },
    ),
  );
});
