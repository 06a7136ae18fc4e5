/** Every transition of the receiver, one scenario each. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AssertionError } from "../../transport/check.ts";
import { bitmap, CHUNK_BYTES, DEADLINE_US, eventsOf, newReceiver, STALL_US } from "./build.ts";

test("tells each layer when its last chunk is placed, and done after the last", () => {
  const receiver = newReceiver({ chunks: 4, layers: 2 });
  for (const chunk of [3, 0, 1]) receiver.handleCommitted(1, chunk);
  assert.deepEqual(eventsOf(receiver), [{ kind: "layer", layer: 0 }]);
  assert.deepEqual(receiver.committedChunks(), [0, 1, 3]);
  receiver.handleCommitted(2, 2);
  assert.deepEqual(eventsOf(receiver), [
    { kind: "layer", layer: 1 },
    { kind: "done", bytes: 4 * CHUNK_BYTES },
  ]);
  assert.equal(receiver.state, "done");
  assert.equal(receiver.nextDeadlineUs(), Number.POSITIVE_INFINITY);
});

test("its bitmap is a copy and survives a lost connection; late commits count", () => {
  const receiver = newReceiver({ chunks: 10 });
  receiver.handleCommitted(1, 9);
  receiver.handleDisconnected(2);
  assert.equal(receiver.state, "suspended");
  receiver.handleCommitted(3, 0);
  const copy = receiver.committed();
  assert.deepEqual(copy, bitmap(10, [0, 9]));
  copy.fill(0);
  receiver.handleResumed(4);
  assert.equal(receiver.state, "granted");
  assert.deepEqual(receiver.committed(), bitmap(10, [0, 9]));
  assert.equal(receiver.committedBytes, 2 * CHUNK_BYTES);
});

test("may be done while the connection is away", () => {
  const receiver = newReceiver({ chunks: 1 });
  receiver.handleDisconnected(1);
  receiver.handleCommitted(2, 0);
  receiver.handleResumed(3);
  assert.equal(receiver.state, "done");
});

test("a second commit of a chunk, or one of a chunk that is not there, is a bug of the link", () => {
  const receiver = newReceiver({ chunks: 2 });
  receiver.handleCommitted(1, 0);
  assert.throws(() => receiver.handleCommitted(2, 0), AssertionError);
  assert.throws(() => receiver.handleCommitted(2, 2), AssertionError);
});

test("a rejected chunk is counted and is no progress", () => {
  const receiver = newReceiver({ chunks: 2 });
  receiver.handleRejected(STALL_US - 1, 0, "checksum_mismatch");
  assert.equal(receiver.receivedBytes - receiver.committedBytes, CHUNK_BYTES, "what was thrown away came over the link, too");
  assert.equal(receiver.rejected, 1);
  receiver.handleTimeout(STALL_US);
  assert.deepEqual(eventsOf(receiver), [{ kind: "stalled", silentUs: STALL_US }]);
});

test("a stall is told once, its end too; a new connection gets its own time", () => {
  const receiver = newReceiver({ chunks: 3 });
  receiver.handleTimeout(STALL_US);
  receiver.handleTimeout(STALL_US + 1);
  assert.equal(eventsOf(receiver).length, 1);
  receiver.handleCommitted(STALL_US + 2, 0);
  assert.deepEqual(eventsOf(receiver), [{ kind: "moving" }]);
  receiver.handleDisconnected(STALL_US + 3);
  receiver.handleResumed(STALL_US + 1_000_000);
  assert.equal(receiver.nextDeadlineUs(), 2 * STALL_US + 1_000_000);
});

test("ends at its deadline or with a cancel, once", () => {
  const late = newReceiver({ chunks: 1 });
  late.handleTimeout(DEADLINE_US);
  late.handleCancel(DEADLINE_US, "cancelled");
  late.handleCommitted(DEADLINE_US, 0);
  assert.deepEqual(eventsOf(late), [{ kind: "failed", code: "deadline_exceeded" }]);
  assert.equal(late.committedBytes, 0);
  const cancelled = newReceiver({ chunks: 1 });
  cancelled.handleCancel(1, "peer_restarted");
  cancelled.handleRejected(2, 0, "cancelled");
  assert.deepEqual(eventsOf(cancelled), [{ kind: "failed", code: "peer_restarted" }]);
  assert.equal(cancelled.rejected, 0);
});

test("a transfer of nothing is done at once", () => {
  const receiver = newReceiver({ chunks: 0 });
  assert.deepEqual(eventsOf(receiver), [{ kind: "done", bytes: 0 }]);
});
