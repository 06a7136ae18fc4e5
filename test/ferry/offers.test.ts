/**
 * Offers: fetched by their handle once, layer by layer, under a handle that was chosen, or given up by the other side.
 * Method: two nodes in this process over the real link.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import test from "node:test";
import { openTestNode } from "./node.ts";
import { assertSame, BLOCK_BYTES, BLOCK_TOKENS, fill, IDENTITY, layoutOf, pair, skip, until } from "./pair.ts";

test("an offer is fetched by its handle, once, and both sides get their blocks back", { skip }, async (t) => {
  const { a, b, peer, modelA, modelB } = await pair(t);
  const source = await a.ferry.alloc(20);
  fill(a, source);
  const handle = await a.ferry.offer({ model: modelA, groups: [{ group: 0, blocks: source, tokens: 20 * BLOCK_TOKENS }] });
  const target = await b.ferry.alloc(20);
  const into = [{ group: 0, blocks: target, tokens: 20 * BLOCK_TOKENS }];
  const request = { peer, model: modelB, source: { handle }, into, layers: true };
  const transfer = await b.ferry.fetch(request);
  const report = await transfer.done;
  assertSame(a, source, b, target);
  assert.equal(report.bytes, 20 * BLOCK_BYTES);
  assert.equal(report.order, "flat");
  assert.deepEqual(
    b.events
      .filter((event) => event.kind === "layer")
      .map((event) => event.layer)
      .sort(),
    [0, 1, 2, 3],
  );
  const again = await b.ferry.fetch(request);
  await assert.rejects(again.done, { code: "handle_unknown" });
  await until(() => a.events.some((event) => event.kind === "offerEnded" && event.ok && event.handle === handle));
  await a.ferry.free(source);
  await b.ferry.free(target);
  assert.deepEqual([a.pool.stats().held, a.pool.stats().pinned, b.pool.stats().held, b.pool.stats().pinned], [0, 0, 0, 0]);
});

test("an offer of several readers ends when each of them has its part, or when nobody waits for the rest", { skip }, async (t) => {
  const { a, b, peer, modelA, modelB } = await pair(t);
  const source = await a.ferry.alloc(4);
  fill(a, source);
  const offered = () => a.ferry.offer({ model: modelA, groups: [{ group: 0, blocks: source, tokens: 64 }], ready: false });
  const ended = (handle: string) => a.events.find((event) => event.kind === "offerEnded" && event.handle === handle);
  const fetched = async (handle: string, readers: number, first: number, count: number) => {
    const target = await b.ferry.alloc(4);
    const into = [{ group: 0, blocks: target, tokens: 64 }];
    const transfer = await b.ferry.fetch({ peer, model: modelB, source: { handle }, into, heads: { first, count }, readers });
    return { target, done: transfer.done, transfer };
  };
  const readyAll = async (handle: string): Promise<void> => {
    for (let layer = 0; layer < 4; layer++) await a.ferry.ready(handle, layer);
  };

  const handle = await offered();
  const parts = [await fetched(handle, 3, 0, 1), await fetched(handle, 3, 1, 1)];
  await until(() => a.node.transfers === 2);
  await readyAll(handle);
  for (const { done } of parts) assert.equal((await done).bytes, 2 * BLOCK_BYTES);
  assert.equal(ended(handle), undefined, "a third is expected");
  const whole = await fetched(handle, 3, 0, 2);
  await whole.done;
  assertSame(a, source, b, whole.target);
  await assert.rejects((await fetched(handle, 3, 0, 2)).done, { code: "handle_unknown" });
  await until(() => ended(handle) !== undefined);
  assert.deepEqual(ended(handle), { kind: "offerEnded", handle, ok: true, code: "" });

  // One of two gives up: the other gets its part, and the offer has not ended well.
  const second = await offered();
  const [lost, kept] = [await fetched(second, 2, 0, 1), await fetched(second, 2, 1, 1)];
  await until(() => a.node.transfers === 2);
  lost.transfer.cancel();
  await assert.rejects(lost.done, { code: "cancelled" });
  await readyAll(second);
  await kept.done;
  await until(() => ended(second) !== undefined);
  assert.deepEqual(ended(second), { kind: "offerEnded", handle: second, ok: false, code: "cancelled" });

  // One of two never comes, and says so.
  const third = await offered();
  const first = await fetched(third, 2, 0, 2);
  await until(() => a.node.transfers === 1);
  await b.ferry.discard(peer, third);
  await readyAll(third);
  await first.done;
  await until(() => ended(third) !== undefined);
  assert.deepEqual(ended(third), { kind: "offerEnded", handle: third, ok: false, code: "cancelled" });
  await assert.rejects((await fetched(third, 2, 0, 2)).done, { code: "handle_unknown" });
  // Taken back while two read it.
  const fourth = await offered();
  const both = [await fetched(fourth, 2, 0, 1), await fetched(fourth, 2, 1, 1)];
  await until(() => a.node.transfers === 2);
  await a.ferry.withdraw(fourth);
  for (const { done } of both) await assert.rejects(done, { code: "cancelled" });
  await until(() => ended(fourth) !== undefined);
  await a.ferry.free(source);
  assert.deepEqual([a.pool.stats().held, a.pool.stats().pinned], [0, 0]);
});

test("a fetch that is refused before anything is sent takes nobody's place, and none comes after the offer's deadline", {
  skip,
}, async (t) => {
  const { a, b, peer, modelA, modelB } = await pair(t, { settings: { transfersMax: 1 } });
  const source = await a.ferry.alloc(1);
  fill(a, source);
  const groups = [{ group: 0, blocks: source, tokens: 16 }];
  const into = [{ group: 0, blocks: await b.ferry.alloc(1), tokens: 16 }];
  const busy = await a.ferry.offer({ model: modelA, groups, ready: false });
  const handle = await a.ferry.offer({ model: modelA, groups });
  const fetch = (from: string, more: object = {}) => b.ferry.fetch({ peer, model: modelB, source: { handle: from }, into, ...more });
  await assert.rejects((await fetch(handle, { heads: { first: 5, count: 2 } })).done, { code: "layout_unconvertible" });
  // One runs, and this node takes no second one: b would not even ask, so another asks for it.
  const third = await openTestNode({ name: "c", blockBytes: BLOCK_BYTES });
  t.after(() => third.close());
  const model = (await third.ferry.registerModel(IDENTITY, layoutOf(third.pool.blockCount))).model;
  const running = await fetch(busy);
  await until(() => a.node.transfers === 1);
  const theirs = [{ group: 0, blocks: await third.ferry.alloc(1), tokens: 16 }];
  const refused = await third.ferry.fetch({ peer, model, source: { handle }, into: theirs });
  await assert.rejects(refused.done, { code: "too_many_transfers" });
  running.cancel();
  await assert.rejects(running.done, { code: "cancelled" });
  await until(() => a.node.transfers === 0);
  await (await fetch(handle)).done;
  await until(() => a.node.transfers === 0);

  const late = await a.ferry.offer({ model: modelA, groups, ready: false, deadlineMs: 1_000 });
  const early = await fetch(late, { readers: 2, deadlineMs: 5_000 });
  await until(() => a.node.transfers === 1);
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  const after = await third.ferry.fetch({ peer, model, source: { handle: late }, into: theirs, readers: 2 });
  await assert.rejects(after.done, { code: "handle_unknown" });
  for (let layer = 0; layer < 4; layer++) await a.ferry.ready(late, layer);
  await early.done;
  await until(() => a.events.some((event) => event.kind === "offerEnded" && event.handle === late && event.code === "deadline_exceeded"));
});

test("layers travel as they become ready", { skip }, async (t) => {
  const { a, b, peer, modelA, modelB } = await pair(t);
  const source = await a.ferry.alloc(4);
  fill(a, source);
  const groups = [{ group: 0, blocks: source, tokens: 64 }];
  const handle = await a.ferry.offer({ model: modelA, groups, ready: false });
  await a.ferry.ready(handle, 2);
  await assert.rejects(a.ferry.ready(handle, 4), { code: "invalid_argument" });
  const target = await b.ferry.alloc(4);
  const into = [{ group: 0, blocks: target, tokens: 64 }];
  const transfer = await b.ferry.fetch({ peer, model: modelB, source: { handle }, into, layers: true });
  const layer = (): Promise<number> =>
    new Promise((resolve) => {
      const stop = b.ferry.on((event) => {
        if (event.kind !== "layer") return;
        stop();
        resolve(event.layer);
      });
    });
  for (const [index, next] of [
    [2, 0],
    [0, 1],
    [1, 3],
  ] as const) {
    assert.equal(await layer(), index);
    await a.ferry.ready(handle, next);
  }
  await transfer.done;
  assertSame(a, source, b, target);
});

test("an offer that the other side discards is over at once, also when it was not connected yet; one that is being fetched goes on", {
  skip,
}, async (t) => {
  const { a, b, peer, modelA, modelB } = await pair(t);
  const source = await a.ferry.alloc(1);
  fill(a, source);
  const offered = (ready: boolean) => a.ferry.offer({ model: modelA, groups: [{ group: 0, blocks: source, tokens: 5 }], ready });
  const ended = (handle: string) => a.events.find((event) => event.kind === "offerEnded" && event.handle === handle);
  const first = await offered(true);
  await b.ferry.discard(peer, "deadbeef-0");
  await b.ferry.discard(peer, first);
  await until(() => ended(first) !== undefined);
  assert.deepEqual(ended(first), { kind: "offerEnded", handle: first, ok: false, code: "cancelled" });
  const second = await offered(false);
  const target = await b.ferry.alloc(1);
  const transfer = await b.ferry.fetch({
    peer,
    model: modelB,
    source: { handle: second },
    into: [{ group: 0, blocks: target, tokens: 5 }],
  });
  await until(() => a.node.transfers > 0);
  await b.ferry.discard(peer, second);
  for (let layer = 0; layer < 4; layer++) await a.ferry.ready(second, layer);
  await transfer.done;
  await until(() => a.pool.stats().pinned === 0);
  await assert.rejects(b.ferry.discard("8.8.8.8:1", second), { code: "peer_not_allowed" });
});

test("a handle may be chosen before there is an offer: of this life of the pool, well formed, and one offer at a time", {
  skip,
}, async (t) => {
  const { a, b, peer, modelA, modelB } = await pair(t);
  const chosen = `${a.node.incarnation.slice(0, 8)}-${randomBytes(27).toString("hex")}`;
  const target = await b.ferry.alloc(1);
  const request = { peer, model: modelB, source: { handle: chosen }, into: [{ group: 0, blocks: target, tokens: 5 }] };
  await assert.rejects((await b.ferry.fetch(request)).done, { code: "handle_unknown" });
  const source = await a.ferry.alloc(1);
  fill(a, source);
  const offered = (handle: string) => a.ferry.offer({ model: modelA, groups: [{ group: 0, blocks: source, tokens: 5 }], handle });
  await assert.rejects(offered("any name"), { code: "invalid_argument" });
  const former = `${a.node.incarnation.startsWith("0") ? "1" : "0"}${chosen.slice(1)}`;
  await assert.rejects(offered(former), { code: "incarnation_mismatch" });
  assert.equal(await offered(chosen), chosen);
  await assert.rejects(offered(chosen), { code: "invalid_argument" });
  const forOne = { model: modelA, groups: [{ group: 0, blocks: source, tokens: 5 }], peers: ["urn:one"] };
  await assert.rejects(a.ferry.offer(forOne), { code: "invalid_argument", message: /needs TLS/ }, "without certificates nobody is anybody");
  await (await b.ferry.fetch(request)).done;
  await a.ferry.free(source);
});
