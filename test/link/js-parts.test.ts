/**
 * The parts of the JavaScript link that can be looked at alone: the queue against a plain array, the token bucket against its definition over drawn
 * times, turns of placements by bytes, events by their reservations, and who gives way in a crowd.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { sourceOf, whoGivesWay } from "../../transport/link/crowd.ts";
import { EventQueue } from "../../transport/link/js-events.ts";
import { Fifo } from "../../transport/link/js-fifo.ts";
import { TokenBucket } from "../../transport/link/js-pace.ts";
import { Placement } from "../../transport/link/js-placement.ts";
import { SendQueue } from "../../transport/link/js-send-queue.ts";
import type { LinkEvent } from "../../transport/link/link.ts";
import { privateRegion } from "../../transport/memory/region.ts";
import { plainShape } from "./conformance/shapes.ts";

test("a fifo is an array with a head", () => {
  // More shifts than the head may lag behind, so that it moves for real.
  const steps = fc.array(fc.oneof({ weight: 3, arbitrary: fc.nat(900) }, { weight: 2, arbitrary: fc.integer({ min: -900, max: -1 }) }), {
    maxLength: 30,
  });
  fc.assert(
    fc.property(steps, (drawn) => {
      const fifo = new Fifo<number>();
      let model: number[] = [];
      let next = 0;
      for (const step of drawn) {
        for (let count = 0; count < step; count++) {
          fifo.push(next);
          model.push(next++);
        }
        for (let count = 0; count < -step; count++) assert.equal(fifo.shift(), model[count]);
        if (step < 0) model = model.slice(-step);
        assert.equal(fifo.length, model.length);
        assert.deepEqual([fifo.at(0), fifo.at(model.length - 1), fifo.at(model.length)], [model[0], model.at(-1), undefined]);
      }
    }),
  );
});

test("a bucket gives its rate over time, one burst ahead at most", () => {
  const turns = fc.array(fc.tuple(fc.nat(50_000), fc.nat(100_000)), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.integer({ min: 1_000, max: 10_000_000_000 }), turns, (rateBytesPerSecond, drawn) => {
      const bucket = new TokenBucket();
      bucket.setRate(rateBytesPerSecond, 0);
      let nowUs = 0;
      let spent = 0;
      const burst = Math.max(rateBytesPerSecond / 50, 16_384);
      for (const [passUs, wish] of drawn) {
        nowUs += passUs;
        const allowance = bucket.allowanceBytes(nowUs);
        const spend = Math.min(wish, Math.max(allowance, 0));
        bucket.spend(spend);
        spent += spend;
        assert.ok(spent <= burst + (rateBytesPerSecond * nowUs) / 1e6 + 1, `${spent} bytes in ${nowUs} us`);
      }
      const waitUs = bucket.waitUs();
      assert.ok(bucket.allowanceBytes(nowUs + waitUs + 1) >= Math.floor(burst / 2) - 1, "after the wait there is half a burst");
    }),
  );
});

test("an overdrawn bucket waits; one without a rate never does", () => {
  const bucket = new TokenBucket();
  assert.equal(bucket.allowanceBytes(0), Number.POSITIVE_INFINITY);
  bucket.spend(1e9);
  assert.equal(bucket.waitUs(), 0);
  bucket.setRate(1_000_000, 0);
  bucket.spend(100_000);
  assert.equal(bucket.allowanceBytes(50_000), -50_000);
  assert.equal(bucket.allowanceBytes(150_000), 20_000, "never more than a burst");
});

/** Placements of one plane each; the ids tell them apart. */
function placementOf(id: number, chunks: number, chunkBytes: number): Placement {
  const shape = plainShape(chunks, chunkBytes);
  const common = { connection: 1, grant: id, generation: 1, checksum: true, region: privateRegion(shape.bytes), chunks: shape.chunks };
  return new Placement(id, { direction: "out", ...common, ...shape.sender }, 16 * 1024 * 1024);
}

function queueAll(queue: SendQueue, placement: Placement): void {
  for (let chunk = 0; chunk < placement.chunks; chunk++) assert.ok(queue.push(placement, { chunk, sequence: 1, submittedUs: 0 }));
}

test("placements take turns by bytes, whatever their chunks", () => {
  const queue = new SendQueue(10_000);
  const [large, small] = [placementOf(1, 8, 4 * 1024 * 1024), placementOf(2, 512, 64 * 1024)];
  queueAll(queue, large);
  queueAll(queue, small);
  const bytes = new Map<number, number>();
  for (let taken = 0; taken < 16 * 1024 * 1024; ) {
    const { placement, queued } = queue.take() ?? assert.fail("there is more");
    bytes.set(placement.id, (bytes.get(placement.id) ?? 0) + placement.bytesOf(queued.chunk));
    taken += placement.bytesOf(queued.chunk);
  }
  const [first, second] = [bytes.get(1) ?? 0, bytes.get(2) ?? 0];
  assert.ok(Math.abs(first - second) <= 5 * 1024 * 1024, `${first} and ${second} bytes`);
});

test("who is ahead takes half turns until the others have caught up", () => {
  const queue = new SendQueue(1_000);
  const [early, late] = [placementOf(1, 100, 1024 * 1024), placementOf(2, 100, 1024 * 1024)];
  const ids = (count: number) => Array.from({ length: count }, () => queue.take()?.placement.id);
  queueAll(queue, early);
  ids(24);
  queueAll(queue, late);
  assert.equal(ids(30).filter((id) => id === 2).length, 20, "two of three");
  ids(30);
  const even = ids(30).filter((id) => id === 2).length;
  assert.ok(even >= 14 && even <= 16, `${even} of 30 when both have sent as much`);
});

test("a small message of a placement that had nothing goes first, once", () => {
  const queue = new SendQueue(100);
  const [large, small] = [placementOf(1, 8, 1024 * 1024), placementOf(2, 3, 4_096)];
  queueAll(queue, large);
  queue.take();
  queueAll(queue, small);
  const order = Array.from({ length: 6 }, () => queue.take()?.placement.id);
  assert.equal(order[0], 2);
  assert.ok(order.slice(1).includes(1));
});

test("every chunk comes out once, in the order of its placement, and what is taken back does not", () => {
  const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.constantFrom(100, 70_000, 1_100_000)), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(sizes, fc.nat(5), (drawn, revoked) => {
      const queue = new SendQueue(1_000);
      const placements = drawn.map(([chunks, bytes], at) => placementOf(at + 1, chunks, bytes));
      for (const placement of placements) queueAll(queue, placement);
      const gone = placements[revoked];
      if (gone !== undefined) while (queue.takeOf(gone) !== undefined);
      const seen = new Map<Placement, number[]>();
      for (let next = queue.take(); next !== undefined; next = queue.take()) {
        seen.set(next.placement, [...(seen.get(next.placement) ?? []), next.queued.chunk]);
      }
      assert.equal(queue.chunks, 0);
      for (const placement of placements) {
        const all = Array.from({ length: placement.chunks }, (_, chunk) => chunk);
        assert.deepEqual(seen.get(placement) ?? [], placement === gone ? [] : all);
      }
    }),
    { numRuns: 30 },
  );
});

test("a queue that is full says so and has room again", () => {
  const queue = new SendQueue(2);
  const placement = placementOf(1, 3, 100);
  const push = (chunk: number): boolean => queue.push(placement, { chunk, sequence: 1, submittedUs: 0 });
  assert.deepEqual([push(0), push(1), push(2)], [true, true, false]);
  queue.take();
  assert.equal(push(2), true);
});

const EVENT: LinkEvent = { kind: "revoked", placement: 1 };

test("reservations bound events, and come back when the events are taken", async () => {
  const events = new EventQueue(2, () => {});
  assert.deepEqual([events.reserve("arrival"), events.reserve("arrival"), events.reserve("arrival")], [true, true, false]);
  assert.equal(events.reserve("submission"), true, "quotas are apart");
  let retried = 0;
  events.waitForRoom(() => {
    retried += 1;
  });
  events.emit("arrival", EVENT);
  assert.equal(events.reserve("arrival"), false);
  assert.equal(
    events.drain(() => {}, 10),
    1,
  );
  assert.equal(retried, 0, "not from within poll");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(retried, 1);
  assert.equal(events.reserve("arrival"), true);
});

test("one wake for many events, later, and again for what poll left", async () => {
  let wakes = 0;
  const events = new EventQueue(10, () => {
    wakes += 1;
  });
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  for (let at = 0; at < 5; at++) events.emit("table", EVENT);
  assert.equal(wakes, 0);
  await turn();
  assert.equal(wakes, 1);
  events.emit("table", EVENT);
  await turn();
  assert.equal(wakes, 1, "told already");
  events.drain(() => {}, 2);
  await turn();
  assert.equal(wakes, 2);
  assert.throws(() => {
    events.drain(() => {
      throw new Error("the sink's own");
    }, 10);
  }, /the sink's own/);
  assert.equal(
    events.drain(() => {}, 10),
    3,
    "what the sink threw at is taken, the rest is not lost",
  );
  events.emit("table", EVENT);
  events.close();
  await turn();
  assert.equal(
    events.drain(() => {}, 10),
    0,
  );
});

test("who gives way is of the source that has most, with the newcomer; of those the one that has come least far, the oldest first", () => {
  const crowd = (text: string) => [...text].map((source, at) => ({ source, progress: 1, at }));
  const leaving = (text: string, source: string): number | undefined => whoGivesWay(crowd(text), source)?.at;
  assert.deepEqual([leaving("abbab", "a"), leaving("abbab", "b"), leaving("abbab", "c")], [0, 1, 1]);
  assert.deepEqual([leaving("abc", "a"), leaving("abc", "d"), leaving("", "a")], [0, 0, undefined]);
  const uneven = [3, 2, 1, 1, 0].map((progress, at) => ({ source: "a", progress, at }));
  assert.equal(whoGivesWay(uneven, "b")?.at, 2, "the newest quarter has not had time");
  const drawn = fc.array(fc.record({ source: fc.constantFrom(..."abcdefghijklmnopqrst"), progress: fc.nat(3) }), {
    minLength: 1,
    maxLength: 60,
  });
  fc.assert(
    fc.property(drawn, fc.constantFrom("a", "b", "z"), (callers, source) => {
      const count = (of: string): number => callers.filter((caller) => caller.source === of).length + (of === source ? 1 : 0);
      const chosen = whoGivesWay(callers, source) ?? assert.fail("there is somebody");
      const largest = Math.max(count(source), ...callers.map((caller) => count(caller.source)));
      const rivals = largest <= Math.floor(callers.length / 8) ? callers : callers.filter((caller) => count(caller.source) === largest);
      assert.ok(rivals.includes(chosen), "of the largest source, unless that has little");
      const older = rivals.slice(0, rivals.length - Math.floor(rivals.length / 4));
      for (const caller of older) assert.ok(caller.progress >= chosen.progress, "nobody but the newest has come less far");
      assert.equal(
        older.find((caller) => caller.progress === chosen.progress),
        chosen,
        "nobody has waited longer",
      );
    }),
  );
});

test("a source is an IPv4 address, or the first half of an IPv6 address", () => {
  const hosts = ["10.0.0.1", "::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::9", "2001:db8::7", "fe80::1", "1::"];
  const sources = ["10.0.0.1", "0:0:0:0", "2001:db8:1:2", "2001:db8:1:2", "2001:db8:0:0", "fe80:0:0:0", "1:0:0:0"];
  assert.deepEqual(hosts.map(sourceOf), sources);
});
