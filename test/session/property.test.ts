/**
 * Random sequences of events against a sender and a receiver, with a small model of the link between them: what was submitted and not
 * answered, what the receiver has, whether the connection is there. After each step the promises hold; at the end the deadline ends it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { ErrorCode } from "../../transport/errors.ts";
import type { Receiver } from "../../transport/session/receiver.ts";
import type { Attempt, Sender } from "../../transport/session/sender.ts";
import { CHUNK_BYTES, DEADLINE_US, eventsOf, newReceiver, newSender } from "./build.ts";

type Step =
  | { readonly kind: "poll" | "drop" | "resume" | "done" | "timeout" | "full" }
  | { readonly kind: "ready"; readonly layer: number }
  | { readonly kind: "answer"; readonly pick: number; readonly outcome: "acked" | ErrorCode; readonly landed: boolean }
  | { readonly kind: "wait"; readonly us: number };

const outcome = fc.constantFrom<"acked" | ErrorCode>("acked", "acked", "acked", "lane_lost", "checksum_mismatch", "chunk_busy", "full");
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.constant<Step>({ kind: "poll" }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant("answer" as const), pick: fc.nat(99), outcome, landed: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("ready" as const), layer: fc.nat(3) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("wait" as const), us: fc.nat(600_000) }) },
  {
    weight: 4,
    arbitrary: fc.constantFrom<Step>({ kind: "drop" }, { kind: "resume" }, { kind: "done" }, { kind: "timeout" }, { kind: "full" }),
  },
);

interface World {
  readonly sender: Sender;
  readonly receiver: Receiver;
  readonly windowChunks: number;
  readonly flights: Attempt[];
  readonly acked: Set<number>;
  readonly seen: { readonly kind: string }[];
  nowUs: number;
}

const shape = fc.record({
  chunks: fc.integer({ min: 1, max: 40 }),
  layers: fc.integer({ min: 1, max: 4 }),
  windowChunks: fc.integer({ min: 1, max: 5 }),
});

test("property: in flight <= window, each chunk placed once, one end, the bitmap survives", () => {
  fc.assert(
    fc.property(shape, fc.array(step, { maxLength: 200 }), (size, steps) => {
      const world: World = {
        sender: newSender(size),
        receiver: newReceiver(size),
        windowChunks: size.windowChunks,
        flights: [],
        acked: new Set(),
        seen: [],
        nowUs: 0,
      };
      for (const one of steps) {
        play(world, one);
        check(world);
      }
      world.sender.handleTimeout(DEADLINE_US);
      world.receiver.handleTimeout(DEADLINE_US);
      check(world);
      const ends = world.seen.filter(({ kind }) => kind === "done" || kind === "failed");
      assert.equal(ends.length, 1, "the sender ends once, at the latest at its deadline");
      assert.notEqual(world.receiver.state, "granted");
    }),
    { numRuns: 300 },
  );
});

function play(world: World, one: Step): void {
  const { sender, receiver } = world;
  if (one.kind === "wait") world.nowUs += one.us;
  else if (one.kind === "ready") sender.handleReady(world.nowUs, one.layer);
  else if (one.kind === "timeout") sender.handleTimeout(world.nowUs);
  else if (one.kind === "poll" || one.kind === "full") pollInto(world, one.kind === "full");
  else if (one.kind === "answer") answer(world, one.pick, one.outcome, one.landed);
  else if (one.kind === "drop") drop(world);
  else if (one.kind === "resume") resume(world);
  else if (receiver.state === "done") sender.handleDone(world.nowUs);
}

function pollInto({ sender, flights, nowUs, windowChunks, acked }: World, full: boolean): void {
  const before = flights.length;
  const due = sender.pollSend(nowUs, 7);
  for (const { chunk, sequence } of due) {
    assert.ok(!acked.has(chunk), "what is acknowledged is not sent again");
    assert.ok(!flights.some((flight) => flight.chunk === chunk), "a chunk is under way once");
    assert.ok(sequence >= 1);
  }
  if (due.length > 0) assert.ok(before + due.length <= windowChunks, "a poll fills the window at most");
  const taken = full ? due.slice(0, Math.floor(due.length / 2)) : due;
  flights.push(...taken);
  if (full) sender.handleFull(nowUs, due.slice(taken.length));
}

/** An attempt that failed without a word may have landed all the same. */
function answer({ sender, receiver, flights, acked, nowUs }: World, pick: number, result: "acked" | ErrorCode, landed: boolean): void {
  const [flight] = flights.splice(pick % Math.max(flights.length, 1), 1);
  if (flight === undefined) return;
  const { chunk, sequence } = flight;
  const has = receiver.committedChunks().includes(chunk);
  if ((result === "acked" || (result === "lane_lost" && landed)) && !has) receiver.handleCommitted(nowUs, chunk);
  if (result === "acked") {
    if (sender.state !== "done" && sender.state !== "failed") acked.add(chunk);
    sender.handleAcked(nowUs, chunk);
  } else sender.handleFailed(nowUs, chunk, sequence, has ? "duplicate_chunk" : result);
  if (has && sender.state !== "done" && sender.state !== "failed") acked.add(chunk);
}

function drop({ sender, receiver, flights, nowUs }: World): void {
  if (sender.state !== "sending") return;
  flights.length = 0;
  const before = receiver.committed();
  sender.handleDisconnected(nowUs);
  receiver.handleDisconnected(nowUs);
  assert.deepEqual(receiver.committed(), before);
}

function resume({ sender, receiver, nowUs, acked }: World): void {
  if (sender.state === "done" || sender.state === "failed" || sender.state === "sending") return;
  receiver.handleResumed(nowUs);
  for (const chunk of receiver.committedChunks()) acked.add(chunk);
  sender.handleAccept(nowUs, receiver.committed());
}

function check({ sender, receiver, acked, flights, seen }: World): void {
  seen.push(...eventsOf(sender));
  const over = sender.state === "done" || sender.state === "failed";
  if (over) {
    assert.equal(sender.inFlightBytes, 0);
    assert.equal(sender.nextDeadlineUs(), Number.POSITIVE_INFINITY);
    assert.deepEqual(sender.pollSend(DEADLINE_US, 9), []);
  } else {
    assert.equal(sender.inFlightBytes, flights.length * CHUNK_BYTES);
    assert.equal(sender.ackedBytes, acked.size * CHUNK_BYTES);
    assert.ok(sender.nextDeadlineUs() <= DEADLINE_US, "it can always be woken by its deadline");
  }
  if (sender.state === "done") assert.equal(receiver.state, "done");
  assert.equal(receiver.committedBytes, receiver.committedChunks().length * CHUNK_BYTES);
}

test("property: if whatever is sent is acknowledged, every chunk is, whatever happened before", () => {
  fc.assert(
    fc.property(shape, fc.array(step, { maxLength: 60 }), (size, steps) => {
      const sender = newSender(size);
      const receiver = newReceiver(size);
      const world: World = { sender, receiver, windowChunks: size.windowChunks, flights: [], acked: new Set(), seen: [], nowUs: 0 };
      for (const one of steps) {
        if (one.kind === "timeout" || one.kind === "wait") continue;
        play(world, one);
        check(world);
      }
      fc.pre(sender.state !== "failed");
      drop(world);
      resume(world);
      for (let layer = 0; layer < size.layers; layer++) sender.handleReady(world.nowUs, layer);
      for (let turn = 0; turn < 100 && receiver.state !== "done"; turn++) {
        pollInto(world, false);
        while (world.flights.length > 0) answer(world, 0, "acked", true);
      }
      sender.handleDone(world.nowUs);
      assert.equal(sender.state, "done");
    }),
    { numRuns: 300 },
  );
});
