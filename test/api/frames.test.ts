/**
 * Messages that no good client sends, by hand: a request of the wrong shape gets message_malformed with the field's name and the connection
 * goes on; bytes that are no request close it. Then random bytes and random damage to good requests, after each of which the server must
 * still serve others.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { decodeMessage, encodeMessage, type Message, wordsOf } from "../../transport/api/codec.ts";
import { operations } from "../../transport/api/messages.ts";
import { scanMessage } from "../../transport/api/scan.ts";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import { HELLO, RawClient } from "./raw.ts";
import { kinds, serve } from "./world.ts";

const MALFORMED = 4000;

function words(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

for (const kind of kinds) {
  test(`${kind}: a wrong shape is refused by the field's name and nothing else changes`, async (t) => {
    const { socket, host } = await serve(t, kind);
    const raw = await RawClient.open(socket);
    t.after(() => raw.end());
    await raw.ask(HELLO);
    const blocks = { ids: words(1), generations: words(1) };
    const wrong: [Message, string][] = [
      [{ op: "alloc" }, "count"],
      [{ op: "alloc", count: 0 }, "count"],
      [{ op: "alloc", count: -1 }, "count"],
      [{ op: "alloc", count: 1.5 }, "count"],
      [{ op: "alloc", count: "1" }, "count"],
      [{ op: "alloc", count: Number.NaN }, "count"],
      [{ op: "alloc", count: 2 ** 53 }, "count"],
      [{ op: "alloc", count: limits.apiBatchMax + 1 }, "count"],
      [{ op: "alloc", count: 1, extra: true }, "extra"],
      [{ op: "free", blocks: [1] }, "blocks"],
      [{ op: "free", blocks: { ids: words(1) } }, "blocks.generations"],
      [{ op: "free", blocks: { ids: words(1), generations: words(1, 2) } }, "blocks"],
      [{ op: "free", blocks: { ids: Uint8Array.of(1, 2, 3), generations: words(1) } }, "blocks.ids"],
      [{ op: "free", blocks: { ids: [1], generations: words(1) } }, "blocks.ids"],
      [{ op: "lookup", model: 0, group: 0, keys: new Uint8Array(33) }, "keys"],
      [{ op: "lookup", model: 0, group: limits.groupsMax, keys: new Uint8Array(32) }, "group"],
      [{ op: "lookup", model: 0, group: 0, keys: new Uint8Array(32), peers: ["a", 5] }, "peers.1"],
      [{ op: "offer", model: 0, groups: [] }, "groups"],
      [{ op: "offer", model: 0, groups: [{ group: 0, blocks, tokens: -1 }] }, "groups.0.tokens"],
      [
        { op: "fetch", peer: "b", model: 0, source: { handle: "h", keys: new Uint8Array(32) }, into: [{ group: 0, blocks, tokens: 1 }] },
        "source.keys",
      ],
      [
        { op: "fetch", peer: "b", model: 0, source: { handle: "h" }, into: [{ group: 0, blocks, tokens: 1 }], deadlineMs: 2 ** 32 },
        "deadlineMs",
      ],
      [{ op: "read", peer: "b", remote: "r", local: "l", ranges: [{ local: 0, remote: 0 }] }, "ranges.0.bytes"],
      [{ op: "registerModel", identity: { model: "m" }, layout: {} }, "identity.revision"],
      [{ op: "registerBuffer", path: "", bytes: 1 }, "path"],
      [{ op: "publish", model: 0, group: 0, blocks, keys: new Uint8Array(32), tokens: 16 }, "tokens"],
      [{ op: "cancel" }, "transfer"],
      [{ op: "constructor" }, "op"],
      [{ op: "__proto__" }, "op"],
      [{ op: "nothing" }, "op"],
    ];
    for (const [at, [fields, name]] of wrong.entries()) {
      const { id, error } = await raw.ask({ id: 100 + at, ...fields });
      assert.equal(id, 100 + at);
      assert.equal((error as Message)["code"], "message_malformed", JSON.stringify(fields));
      assert.ok(String((error as Message)["detail"]).includes(` for ${name} `), `${String((error as Message)["detail"])} names ${name}`);
    }
    assert.equal(host.pool.stats().held, 0);
    assert.deepEqual(host.calls, []);
    assert.ok("ok" in (await raw.ask({ id: 5, op: "alloc", count: 1 })));
  });

  test(`${kind}: bytes that are no request close the connection, and only that one`, async (t) => {
    const { socket, connect } = await serve(t, kind);
    const other = await connect();
    const frames: (Uint8Array | string)[] = [
      "text",
      new Uint8Array(0),
      Uint8Array.of(0xc1),
      Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff),
      encodeMessage({ op: "pool" }),
      encodeMessage({ id: 0, op: "pool" }),
      encodeMessage({ id: 2 ** 32, op: "pool" }),
      encodeMessage({ id: "1", op: "pool" }),
      encodeMessage({ id: 1 }),
      Uint8Array.of(0x93, 1, 2, 3),
      Buffer.concat([encodeMessage({ id: 1, op: "pool" }), Uint8Array.of(0)]),
    ];
    for (const frame of frames) {
      const raw = await RawClient.open(socket);
      await raw.ask(HELLO);
      raw.send(frame);
      assert.equal(await raw.closed(), MALFORMED);
    }
    const raw = await RawClient.open(socket);
    raw.send(new Uint8Array(limits.apiMessageBytes + 1));
    assert.ok([1006, 1009].includes(await raw.closed()));
    await other.stats();
  });

  test(`${kind}: hello comes first, once, and in a version that both speak`, async (t) => {
    const { socket } = await serve(t, kind);
    const raw = await RawClient.open(socket);
    t.after(() => raw.end());
    assert.equal(await raw.codeOf({ id: 1, op: "alloc", count: 1 }), "hello_required");
    assert.equal(await raw.codeOf({ ...HELLO, processId: 2 ** 31 - 1 }), "invalid_argument");
    assert.equal(await raw.codeOf({ ...HELLO, client: "" }), "message_malformed");
    const { ok } = await raw.ask({ ...HELLO, version: 7, minVersion: 1 });
    assert.equal((ok as Message)["version"], 1);
    assert.equal(await raw.codeOf(HELLO), "message_malformed");
    const newer = await RawClient.open(socket);
    assert.equal(await newer.codeOf({ ...HELLO, version: 7, minVersion: 2 }), "version_unsupported");
    assert.equal(await newer.closed(), 4006);
  });

  test(`${kind}: a process of another user is nobody's to speak for`, async (t) => {
    const { socket } = await serve(t, kind);
    const raw = await RawClient.open(socket);
    t.after(() => raw.end());
    // From here on this process belongs to somebody else than it runs as.
    const own = process.getuid?.() ?? 0;
    t.mock.method(process as { getuid: () => number }, "getuid", () => own + 1);
    assert.equal(await raw.codeOf(HELLO), "tenant_denied");
  });

  test(`${kind}: damaged requests never stop the server`, async (t) => {
    const { socket, connect } = await serve(t, kind);
    const other = await connect();
    const good = [
      { id: 9, op: "alloc", count: 3 },
      { id: 9, op: "free", blocks: { ids: words(1, 2), generations: words(1, 1) } },
      { id: 9, op: "lookup", model: 0, group: 0, keys: new Uint8Array(64), peers: ["b"] },
    ].map(encodeMessage);
    const damaged = fc
      .tuple(fc.constantFrom(...good), fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 4 }))
      .map(([bytes, flips]) => {
        const copy = bytes.slice();
        for (const [at, value] of flips) copy[at % copy.length] = value;
        return copy;
      });
    const frame = fc.oneof(damaged, fc.uint8Array({ maxLength: 64 }));
    let raw = await RawClient.open(socket);
    t.after(() => raw.end());
    await raw.ask(HELLO);
    await fc.assert(
      fc.asyncProperty(frame, async (bytes) => {
        if (raw.closeCode !== undefined) {
          raw = await RawClient.open(socket);
          await raw.ask(HELLO);
        }
        const before = raw.messages.length;
        raw.send(bytes);
        await raw.until(() => raw.messages.length > before || raw.closeCode !== undefined);
        assert.ok(raw.closeCode === undefined || raw.closeCode === MALFORMED);
      }),
      { numRuns: 300 },
    );
    await other.stats();
  });
}

test("the scan lets through exactly what the unpacker can take", () => {
  const value: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: "small" },
      fc.constant(null),
      fc.boolean(),
      fc.integer(),
      fc.maxSafeInteger(),
      fc.double({ noNaN: true }),
      fc.string({ unit: "grapheme", maxLength: 40 }),
      fc.uint8Array({ maxLength: 300 }),
      fc.array(tie("value"), { maxLength: 20 }),
      // "__proto__" is renamed by the unpacker, on purpose.
      fc.dictionary(
        fc.string({ maxLength: 5 }).filter((key) => key !== "__proto__"),
        tie("value"),
        { maxKeys: 20, noNullPrototype: true },
      ),
    ),
  })).value;
  const message = fc.dictionary(fc.stringMatching(/^[a-z]{1,8}$/), value, { noNullPrototype: true });
  fc.assert(
    fc.property(message, (written) => {
      const bytes = encodeMessage(written);
      if (scanMessage(bytes) !== "") {
        assert.match(scanMessage(bytes), /deep/);
        return;
      }
      assert.deepEqual(decodeMessage(bytes), withoutMinusZero(written));
      for (const cut of [0, bytes.length >> 1, bytes.length - 1]) assert.notEqual(scanMessage(bytes.subarray(0, cut)), "");
    }),
    { numRuns: 500 },
  );
});

test("whatever the bytes, decoding ends in a message or in message_malformed", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        decodeMessage(bytes);
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "message_malformed", String(error));
      }
    }),
    { numRuns: 5_000 },
  );
});

test("numbers keep their kind: integers of any size as integers, the rest as float64", () => {
  assert.equal(Buffer.from(encodeMessage({ n: 2 ** 40 })).toString("hex"), "81a16ed30000010000000000");
  assert.equal(Buffer.from(encodeMessage({ n: -(2 ** 40) })).toString("hex"), "81a16ed3ffffff0000000000");
  assert.equal(Buffer.from(encodeMessage({ n: 0.5 })).toString("hex"), "81a16ecb3fe0000000000000");
  assert.deepEqual(decodeMessage(Buffer.from("81a16ecf001fffffffffffff", "hex")), { n: Number.MAX_SAFE_INTEGER });
  assert.deepEqual(wordsOf(Uint8Array.of(0, 1, 0, 0, 0).subarray(1)), Uint32Array.of(1));
  assert.equal(wordsOf(new Uint8Array(5)), undefined);
});

test("every operation has a schema that takes no unknown field", () => {
  for (const [op, { schema }] of Object.entries(operations)) {
    const { error } = schema.safeParse({ unheardOf: 1 });
    assert.ok(
      error?.issues.some((issue) => issue.code === "unrecognized_keys"),
      op,
    );
  }
});

/** msgpack integers have no -0. */
function withoutMinusZero(value: unknown): unknown {
  if (value === 0) return 0;
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(withoutMinusZero);
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, withoutMinusZero(field)]));
}
