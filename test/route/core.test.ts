/**
 * The decisions, without a socket. Method: members are compared with JSON.parse on arbitrary objects; the choice of engines is checked
 * after every step of arbitrary histories, under a clock that is an argument.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { parseHostPattern } from "../../transport/config/host-pattern.ts";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { decodeBody, paramsOf, parseCompletion, prefillBody } from "../../transport/route/core/completion.ts";
import { LeastOutstanding } from "../../transport/route/core/engines.ts";
import { membersOf, objectOf } from "../../transport/route/core/members.ts";
import { promptSize } from "../../transport/route/core/plan.ts";
import { Prefillers } from "../../transport/route/prefillers.ts";

const jsonObjects = fc.dictionary(fc.string(), fc.jsonValue());
const spaces = fc.constantFrom(undefined, 1, "\t", " \n ");

test("members are what JSON.parse sees, whatever the spaces and the escapes", () => {
  fc.assert(
    fc.property(jsonObjects, spaces, fc.boolean(), (value, space, escaped) => {
      const plain = JSON.stringify(value, undefined, space);
      const text = escaped ? plain.replace(/[^\0-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`) : plain;
      const parsed = JSON.parse(text) as Record<string, unknown>;
      const members = membersOf(text, 1_000);
      assert.ok(members);
      assert.deepEqual(
        members.map(({ name, text: written }) => [name, JSON.parse(written)]).sort(byName),
        Object.entries(parsed).sort(byName),
      );
      for (const { text: written } of members) assert.ok(text.includes(written));
      assert.deepEqual(JSON.parse(objectOf(members)), parsed);
    }),
  );
  assert.equal(membersOf("[1]", 9), undefined);
  assert.deepEqual(membersOf(" { } ", 9), []);
  assert.deepEqual(membersOf('{"a":[[1]]}', 2)?.[0]?.text, "[[1]]");
  assert.equal(membersOf('{"a":[[1]]}', 1), undefined);
});

function byName(left: readonly unknown[], right: readonly unknown[]): number {
  return String(left[0]) < String(right[0]) ? -1 : 1;
}

test("both bodies keep every other member, and say about tokens and streams what they must", () => {
  const about = ["max_tokens", "max_completion_tokens", "min_tokens", "stream", "stream_options", "n", "best_of", "kv_transfer_params"];
  const bodies = fc
    .tuple(
      fc.dictionary(
        fc.string().filter((name) => !about.includes(name)),
        fc.jsonValue(),
      ),
      fc.subarray(about.slice(0, -1)),
      fc.constantFrom(1, null),
    )
    .map(([more, named, value]) => ({ ...more, ...Object.fromEntries(named.map((name) => [name, value])) }));
  fc.assert(
    fc.property(bodies, (body) => {
      const completion = parseCompletion(JSON.stringify(body));
      const parsed = JSON.parse(JSON.stringify(body)) as Record<string, unknown>;
      const others = (of: object) =>
        Object.entries(of)
          .filter(([name]) => !about.includes(name))
          .sort(byName);
      const prefill = JSON.parse(prefillBody(completion)) as Record<string, unknown>;
      assert.deepEqual(others(prefill), others(parsed));
      assert.deepEqual([prefill["max_tokens"], prefill["stream"]], [1, false]);
      assert.ok(!("stream_options" in prefill) && !("min_tokens" in prefill));
      for (const name of ["max_completion_tokens", "n", "best_of"]) assert.deepEqual(prefill[name], parsed[name]);
      assert.deepEqual(JSON.parse(decodeBody(completion, '{"a":1}')), { ...parsed, kv_transfer_params: { a: 1 } });
    }),
  );
  const several = parseCompletion('{"prompt":"x","n":3,"best_of":4,"max_completion_tokens":99}');
  const prefill = JSON.parse(prefillBody(several)) as Record<string, unknown>;
  assert.deepEqual([prefill["n"], prefill["best_of"], prefill["max_completion_tokens"]], [1, 1, 1]);
});

test("any text is a completion, or refused with one code; any answer has parameters, or a reason", () => {
  const texts = fc.oneof(
    fc.string(),
    fc.json(),
    jsonObjects.map((value) => JSON.stringify({ ...value, kv_transfer_params: { a: [value] } })),
  );
  fc.assert(
    fc.property(texts, (text) => {
      try {
        parseCompletion(text);
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "message_malformed", String(error));
      }
      const answer = paramsOf(text);
      if (answer.ok) assert.deepEqual(JSON.parse(answer.params), (JSON.parse(text) as Record<string, unknown>)["kv_transfer_params"]);
    }),
  );
  assert.deepEqual(paramsOf('{"kv_transfer_params": {"id": 18446744073709551615 } }'), {
    ok: true,
    params: '{"id": 18446744073709551615 }',
  });
});

test("the length of a prompt: text, tokens, chats with parts, tools and images", () => {
  assert.deepEqual(promptSize({ prompt: "abc" }), { prompts: 1, characters: 3, more: false });
  assert.deepEqual(promptSize({ prompt: [5, 6] }), { prompts: 1, characters: 8, more: false });
  assert.deepEqual(promptSize({ prompt: [[5, 6, 7]] }), { prompts: 1, characters: 12, more: false });
  assert.deepEqual(promptSize({ prompt: [] }), { prompts: 0, characters: 0, more: false });
  assert.deepEqual(promptSize({ messages: [{ content: "ab" }, { content: [{ text: "cd" }, { image_url: {} }] }, 7, { content: null }] }), {
    prompts: 1,
    characters: 4,
    more: true,
  });
  assert.deepEqual(promptSize({ messages: [{ tool_calls: [1] }], tools: [{}] }), { prompts: 1, characters: 3 + 4, more: false });
});

test("an engine goes down after failures in a row, for pauses that double up to a bound, and one request at a time tries it", () => {
  const table = new LeastOutstanding(["a"]);
  const fail = (nowMs: number) => {
    table.handleStart("a");
    return table.handleEnd("a", "failed", nowMs);
  };
  for (let count = 1; count < limits.routeFailuresToDown; count++) assert.equal(fail(0), "none");
  table.handleStart("a");
  assert.equal(table.handleEnd("a", "ok", 0), "none");
  for (let count = 1; count < limits.routeFailuresToDown; count++) assert.equal(fail(0), "none", "a success forgets failures");
  assert.equal(fail(0), "down");
  let nowMs = 0;
  let pauseMs = limits.routeDownMinMs;
  for (let count = 0; count < 10; count++) {
    assert.equal(table.choose(nowMs + pauseMs - 1, {}), undefined);
    assert.equal(table.leastDown({}), "a");
    nowMs += pauseMs;
    assert.equal(table.choose(nowMs, {}), "a");
    table.handleStart("a");
    assert.equal(table.choose(nowMs, {}), undefined, "one request at a time");
    assert.equal(table.handleEnd("a", "failed", nowMs), "none");
    pauseMs = Math.min(pauseMs * 2, limits.routeDownMaxMs);
  }
  nowMs += pauseMs;
  table.handleStart("a");
  assert.equal(table.handleEnd("a", "neutral", nowMs), "none");
  assert.equal(table.choose(nowMs, {}), "a", "a request that says nothing leaves the trial to the next");
  table.handleStart("a");
  assert.equal(table.handleEnd("a", "ok", nowMs), "up");
  assert.deepEqual(table.status(nowMs), [{ engine: "a", outstanding: 0, up: true }]);
});

test("the choice is always of an engine that is up, wished for, and has the fewest outstanding; in turn among equals", () => {
  const names = ["a", "b", "c", "d"];
  const step = fc.record({
    among: fc.option(fc.subarray(names), { nil: undefined }),
    except: fc.option(fc.constantFrom(...names), { nil: undefined }),
    outcome: fc.constantFrom("ok", "failed", "neutral", "later"),
    pauseMs: fc.integer({ min: 0, max: 3_000 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const table = new LeastOutstanding(names);
      let nowMs = 0;
      for (const { among, except, outcome, pauseMs } of steps) {
        nowMs += pauseMs;
        const open = table.status(nowMs).filter(({ engine, up }) => up && engine !== except && (among ?? names).includes(engine));
        const chosen = table.choose(nowMs, { among, except });
        assert.equal(chosen === undefined, open.length === 0);
        if (chosen === undefined) continue;
        const found = open.find(({ engine }) => engine === chosen);
        assert.equal(found?.outstanding, Math.min(...open.map(({ outstanding }) => outstanding)));
        table.handleStart(chosen);
        if (outcome !== "later") table.handleEnd(chosen, outcome as "ok", nowMs);
      }
    }),
  );
  const table = new LeastOutstanding(["a", "b", "c"]);
  const turns = [0, 1, 2, 3, 4, 5].map(() => {
    const engine = table.choose(0, {})!;
    table.handleStart(engine);
    table.handleEnd(engine, "ok", 0);
    return engine;
  });
  assert.deepEqual(turns, ["a", "b", "c", "a", "b", "c"]);
});

test("of engines that are not configured the table keeps those with requests, and the last used of the others", () => {
  const max = limits.routeEnginesMax;
  const configured = Array.from({ length: max }, (_, index) => `http://c:${index}`);
  const table = new LeastOutstanding(configured);
  const named = Array.from({ length: max + 2 }, (_, index) => `http://h:${index}`);
  const known = () => table.status(0).map(({ engine }) => engine);
  for (const engine of named) {
    assert.equal(table.choose(0, { among: [engine] }), engine);
    table.handleStart(engine);
  }
  assert.deepEqual(known(), [...configured, ...named], "each has a request");
  for (const engine of named.toReversed()) table.handleEnd(engine, "ok", 0);
  assert.equal(known().length, 2 * max);
  for (let count = 0; count < limits.routeFailuresToDown; count++) {
    table.handleStart(named[0]!);
    table.handleEnd(named[0]!, "failed", 0);
  }
  assert.equal(table.choose(0, { among: [named[0]!] }), undefined, "down");
  for (let index = 0; index < max; index++) {
    assert.ok(known().includes(named[0]!));
    table.handleStart(`http://new:${index}`);
    table.handleEnd(`http://new:${index}`, "ok", 0);
  }
  assert.deepEqual(known(), [...configured, ...configured.map((_, index) => `http://new:${index}`)]);
  assert.equal(table.choose(0, { among: [named[0]!] }), named[0], "its failures are forgotten with it");
});

test("patterns of prefillers: addresses, names, ranges and suffixes, each with its port", () => {
  const allows = (pattern: string, hostPort: string): boolean => {
    try {
      new Prefillers([], [pattern]).named([hostPort]);
      return true;
    } catch (error) {
      assert.ok(error instanceof KvferryError && error.code === "peer_not_allowed", String(error));
      return false;
    }
  };
  const cases: readonly [pattern: string, yes: readonly string[], no: readonly string[]][] = [
    ["10.0.0.1:80", ["10.0.0.1:80"], ["10.0.0.1:81", "10.0.0.2:80"]],
    ["Engine.local:*", ["engine.LOCAL:1", "engine.local:65535"], ["engine.local.evil:1", "xengine.local:1"]],
    ["10.0.0.0/8:8100", ["10.255.0.1:8100"], ["11.0.0.1:8100", "10.0.0.1:81", "ten.example:8100"]],
    ["[fd00::]/8:*", [], ["[fd00::1]:8"]],
    ["[fd00::/8]:*", ["[fd00::1]:8"], ["[fe00::1]:8", "10.0.0.1:8"]],
    ["[::1]:80", ["[::1]:80"], ["[::2]:80"]],
    ["*.pool.svc:80", ["a.pool.svc:80", "a.b.pool.svc:80"], ["pool.svc:80", "apool.svc:80", "a.pool.svc.evil:80"]],
  ];
  for (const [pattern, yes, no] of cases) {
    if (parseHostPattern(pattern) === undefined) {
      assert.deepEqual(yes, [], pattern);
      continue;
    }
    for (const hostPort of yes) assert.ok(allows(pattern, hostPort), `${pattern} allows ${hostPort}`);
    for (const hostPort of no) assert.ok(!allows(pattern, hostPort), `${pattern} allows no ${hostPort}`);
  }
  for (const bad of ["", "x", "*:80", "*.1.2.3.4:80", "10.0.0.0/40:80", "h:0", "h:65536", "a b:80"])
    assert.equal(parseHostPattern(bad), undefined, bad);
  const listed = new Prefillers(["http://h", "https://[::1]", "http://10.0.0.1:8100"], []);
  assert.deepEqual(listed.named(["h:80,[::1]:443", "10.0.0.1:8100, H:80"]), ["http://h", "https://[::1]", "http://10.0.0.1:8100"]);
});
