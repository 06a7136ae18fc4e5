/**
 * The llama.cpp engine without llama.cpp: its commands (examples and arbitrary lines), the way of a state into blocks and out (property),
 * and the engine itself over doubles, where whatever error ends a fetch, the answer is the one that a computed prompt gives.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { blocksFor, copyIn, copyOut, piecesOf } from "../../engines/llama/carrier.ts";
import { Engine } from "../../engines/llama/engine.ts";
import { idOf, parseCommand } from "../../engines/llama/protocol.ts";
import { Sidecar } from "../../engines/llama/sidecar.ts";
import { wrap } from "../../engines/llama/demo/words.ts";
import { KvferryError } from "../../transport/errors.ts";
import { ALL_CODES, BLOCK_BYTES, NearSidecar, SumRuntime } from "./doubles.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-test-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const TICKET = { handle: "h", bytes: 10, blocks: 1, tokens: 3 };

test("commands parse into what they say", () => {
  assert.deepEqual(parseCommand('{"op":"exit","id":3,"more":1}'), { op: "exit", id: 3 });
  assert.deepEqual(parseCommand('{"op":"prefill","id":1,"prompt":"p"}'), { op: "prefill", id: 1, prompt: "p" });
  const decode = { op: "decode", id: 2, prompt: "p", count: 4, from: { peer: "a", ticket: TICKET, deadlineMs: 5 } };
  assert.deepEqual(parseCommand(JSON.stringify(decode)), decode);
});

test("a bad command is an invalid_argument that names the field", () => {
  const cases: readonly (readonly [line: string, message: RegExp])[] = [
    ["", /one JSON object/],
    ["[]", /an object for command/],
    ['{"id":1,"op":"sing"}', /for op but received "sing"/],
    ['{"id":-1,"op":"exit"}', /for id/],
    ['{"id":1,"op":"prefill","prompt":""}', /for prompt/],
    ['{"id":1,"op":"decode","prompt":"p","count":1e9}', /for count/],
    ['{"id":1,"op":"decode","prompt":"p","count":1,"from":{"peer":"a","deadlineMs":1,"ticket":{"handle":"h"}}}', /for ticket.bytes/],
  ];
  for (const [line, message] of cases) assert.throws(() => parseCommand(line), { code: "invalid_argument", message });
  assert.equal(idOf('{"id": 7, "op": }'), 7);
  assert.equal(idOf("nothing"), 0);
});

test("no line makes the parser throw anything else", () => {
  const field = fc.oneof(fc.jsonValue(), fc.constantFrom("exit", "prefill", "decode"), fc.nat());
  const keys = fc.constantFrom("op", "id", "prompt", "count", "from", "peer", "ticket");
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

test("pieces cover the state once, in order, each inside its own block", () => {
  const pools = fc.record({
    blockBytes: fc.integer({ min: 1, max: 5000 }),
    blockCount: fc.integer({ min: 1, max: 50 }),
    fill: fc.nat(),
    seed: fc.nat(),
  });
  fc.assert(
    fc.property(pools, ({ blockBytes, blockCount, fill, seed }) => {
      const bytes = 1 + (fill % (blockBytes * blockCount));
      const ids = Array.from({ length: blockCount }, (_, index) => (index + seed) % blockCount).slice(0, blocksFor(bytes, blockBytes));
      const pool = { path: "p", bytes: 0, dataOffset: 64, blockBytes, blockCount, incarnation: "" };
      const pieces = piecesOf(pool, { ids: Uint32Array.from(ids), generations: new Uint32Array(ids.length) }, bytes);
      let next = 0;
      pieces.forEach((piece, index) => {
        assert.equal(piece.stateOffset, next);
        assert.equal(piece.poolOffset, 64 + (ids[index] as number) * blockBytes);
        assert.ok(piece.bytes > 0 && piece.bytes <= blockBytes);
        next += piece.bytes;
      });
      assert.equal(next, bytes);
    }),
  );
});

test("a state comes out of scattered blocks as it went in, and no other byte of the pool changes", async () => {
  const sidecar = new NearSidecar(new Map());
  const state = Buffer.from(Array.from({ length: 3 * BLOCK_BYTES + 17 }, (_, index) => index % 251));
  const pieces = piecesOf(await sidecar.pool(), await sidecar.alloc(4), state.length);
  const [into, out] = [join(folder, "in.state"), join(folder, "out.state")];
  writeFileSync(into, state);
  copyIn(into, sidecar.memory, pieces);
  copyOut(out, sidecar.memory, pieces);
  assert.deepEqual(readFileSync(out), state);
  const written = sidecar.memory.filter((byte) => byte !== 0xee).length;
  assert.equal(written, state.filter((byte) => byte !== 0xee).length);
  assert.throws(() => copyOut(out, sidecar.memory, pieces), { code: "memory_unavailable" }, "a state file is new");
  writeFileSync(into, state.subarray(1));
  assert.throws(() => copyIn(into, sidecar.memory, pieces), { code: "memory_unavailable" }, "a state file is whole");
});

test("blocks that are too few, too many or not of the pool are refused", async () => {
  const sidecar = new NearSidecar(new Map());
  const pool = await sidecar.pool();
  const generations = new Uint32Array(2);
  assert.throws(() => piecesOf(pool, { ids: Uint32Array.of(1, 2), generations }, BLOCK_BYTES), { code: "invalid_argument" });
  assert.throws(() => piecesOf(pool, { ids: Uint32Array.of(1, 2), generations }, 3 * BLOCK_BYTES), { code: "invalid_argument" });
  assert.throws(() => piecesOf(pool, { ids: Uint32Array.of(1, pool.blockCount), generations }, 2 * BLOCK_BYTES), {
    code: "invalid_argument",
  });
});

interface Pair {
  readonly prefill: Engine;
  readonly decode: Engine;
  readonly prefillSidecar: NearSidecar;
  readonly decodeSidecar: NearSidecar;
  readonly decodeRuntime: SumRuntime;
}

/** Runs `use` with two engines whose sidecars know each other. */
async function withPair(use: (pair: Pair) => Promise<void>): Promise<void> {
  const offers = new Map();
  const make = () => {
    const ferry = new NearSidecar(offers);
    const runtime = new SumRuntime();
    const layout = () => ({ blockCount: 1, groups: [] });
    const sidecar = new Sidecar({
      identity: runtime.identity,
      layout,
      open: async () => ferry,
      onEvent: (event) => engine.handleEvent(event),
    });
    const engine: Engine = new Engine(runtime, sidecar, () => undefined);
    return { engine, ferry, runtime };
  };
  const prefill = make();
  const decode = make();
  try {
    await use({
      prefill: prefill.engine,
      decode: decode.engine,
      prefillSidecar: prefill.ferry,
      decodeSidecar: decode.ferry,
      decodeRuntime: decode.runtime,
    });
  } finally {
    await Promise.all([prefill.engine.close(), decode.engine.close()]);
  }
}

const PROMPT = "a prompt of some length";
const decodeOf = (prompt: string) => ({ op: "decode", id: 1, prompt, count: 8 }) as const;

test("KV that was ferried gives the answer that computing gives, and every block goes back", async () => {
  await withPair(async ({ prefill, decode, prefillSidecar, decodeSidecar, decodeRuntime }) => {
    const computed = await decode.decode(decodeOf(PROMPT));
    assert.equal(computed.via, "computed");
    const { ticket } = await prefill.prefill({ op: "prefill", id: 1, prompt: PROMPT });
    assert.equal(prefillSidecar.held.size, ticket.blocks);
    const ferried = await decode.decode({ ...decodeOf(PROMPT), from: { peer: "prefill", ticket, deadlineMs: 1000 } });
    assert.equal(ferried.via, "ferried");
    assert.deepEqual(ferried.tokens, computed.tokens);
    assert.equal(decodeRuntime.prefills, 1);
    assert.equal(prefillSidecar.held.size + decodeSidecar.held.size, 0);
  });
});

test("whatever code a fetch ends with, the prompt is computed and the answer is the same", async () => {
  await withPair(async ({ prefill, decode, decodeSidecar }) => {
    const computed = await decode.decode(decodeOf(PROMPT));
    const { ticket } = await prefill.prefill({ op: "prefill", id: 1, prompt: PROMPT });
    for (const code of ALL_CODES) {
      decodeSidecar.failWith = code;
      const run = await decode.decode({ ...decodeOf(PROMPT), from: { peer: "prefill", ticket, deadlineMs: 1000 } });
      assert.equal(run.via, "computed");
      assert.equal(run.failure?.code, code);
      assert.deepEqual(run.tokens, computed.tokens);
      assert.equal(decodeSidecar.held.size, 0);
    }
  });
});

test("KV of another prompt, or tickets that do not fit, are noticed before a token is made of them", async () => {
  await withPair(async ({ prefill, decode }) => {
    const other = `${PROMPT.slice(0, -2)}!!`;
    const computed = await decode.decode(decodeOf(other));
    const { ticket } = await prefill.prefill({ op: "prefill", id: 1, prompt: PROMPT });
    const tickets = [{ ...ticket, tokens: 2 }, { ...ticket, blocks: 1 }, ticket, ticket];
    const codes = ["invalid_argument", "layout_unconvertible", "invalid_argument", "handle_unknown"];
    for (const [index, wrong] of tickets.entries()) {
      const run = await decode.decode({ ...decodeOf(other), from: { peer: "prefill", ticket: wrong, deadlineMs: 1000 } });
      assert.equal(run.failure?.code, codes[index]);
      assert.deepEqual(run.tokens, computed.tokens);
    }
  });
});

test("without its sidecar an engine computes; when it is back, in the same life or a new one, KV comes again", async () => {
  await withPair(async ({ prefill, decode, prefillSidecar, decodeSidecar }) => {
    const computed = await decode.decode(decodeOf(PROMPT));
    for (const forgets of [false, true]) {
      const { ticket } = await prefill.prefill({ op: "prefill", id: 1, prompt: PROMPT });
      for (const sidecar of [prefillSidecar, decodeSidecar]) {
        sidecar.forgets = forgets;
        sidecar.leave();
      }
      await assert.rejects(prefill.prefill({ op: "prefill", id: 1, prompt: PROMPT }), { code: "connect_failed" });
      const from = { peer: "prefill", ticket, deadlineMs: 1000 };
      assert.equal((await decode.decode({ ...decodeOf(PROMPT), from })).failure?.code, "connect_failed");
      prefillSidecar.away = false;
      decodeSidecar.away = false;
      // The offer of before is withdrawn: only the new one holds blocks.
      const again = await prefill.prefill({ op: "prefill", id: 1, prompt: PROMPT });
      assert.equal(prefillSidecar.held.size, again.ticket.blocks);
      const ferried = await decode.decode({ ...decodeOf(PROMPT), from: { ...from, ticket: again.ticket } });
      assert.equal(ferried.via, "ferried", ferried.failure?.message);
      assert.deepEqual(ferried.tokens, computed.tokens);
      assert.equal(prefillSidecar.held.size + decodeSidecar.held.size, 0);
    }
  });
});

test("an exhausted pool fails the prefill with its code and keeps nothing", async () => {
  await withPair(async ({ prefill, prefillSidecar }) => {
    await assert.rejects(prefill.prefill({ op: "prefill", id: 1, prompt: "x".repeat(1000) }), { code: "pool_exhausted" });
    assert.equal(prefillSidecar.held.size, 0);
    await assert.rejects(prefill.prefill({ op: "prefill", id: 1, prompt: "x" }), { code: "invalid_argument" });
  });
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
