/** Every transition of the sender, one scenario each: events go in with a time, what it wants sent and what it tells is compared. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { limits } from "../../transport/limits.ts";
import { bitmap, CHUNK_BYTES, chunksSent, DEADLINE_US, eventsOf, movingSender, newSender, STALL_US, send } from "./build.ts";

const failed = (code: string) => [{ kind: "failed", code }];

test("sends nothing before it is accepted, and only layers that are ready", () => {
  const sender = newSender({ chunks: 6, layers: 3 });
  sender.handleReady(0, 1);
  assert.deepEqual(send(sender, 0), []);
  sender.handleAccept(1, new Uint8Array(0));
  assert.equal(sender.state, "sending");
  assert.deepEqual(send(sender, 1), [
    { chunk: 2, sequence: 1 },
    { chunk: 3, sequence: 1 },
  ]);
  assert.deepEqual(send(sender, 2), []);
  sender.handleReady(3, 0);
  sender.handleReady(3, 0);
  sender.handleReady(3, 99);
  assert.deepEqual(chunksSent(send(sender, 3)), [0, 1]);
  sender.handleReady(4, 2);
  assert.deepEqual(chunksSent(send(sender, 4)), [4, 5]);
});

test("is done when the receiver says so, not when the last chunk is acknowledged", () => {
  const sender = movingSender({ chunks: 2 });
  for (const { chunk } of send(sender, 1)) sender.handleAcked(2, chunk);
  assert.equal(sender.state, "sending");
  assert.equal(sender.ackedBytes, 2 * CHUNK_BYTES);
  assert.deepEqual(eventsOf(sender), []);
  sender.handleDone(3);
  assert.equal(sender.state, "done");
  assert.deepEqual(eventsOf(sender), [{ kind: "done", bytes: 2 * CHUNK_BYTES, retries: 0 }]);
  assert.equal(sender.nextDeadlineUs(), Number.POSITIVE_INFINITY);
});

test("Done for a chunk that was never sent is a lie", () => {
  const sender = movingSender({ chunks: 2, windowChunks: 1 });
  send(sender, 1);
  sender.handleDone(2);
  assert.deepEqual(eventsOf(sender), failed("protocol_error"));
});

test("Done before the last acknowledgement counts every chunk", () => {
  const sender = movingSender({ chunks: 2 });
  send(sender, 1);
  sender.handleDone(2);
  assert.deepEqual(eventsOf(sender), [{ kind: "done", bytes: 2 * CHUNK_BYTES, retries: 0 }]);
  assert.equal(sender.inFlightBytes, 0);
});

test("keeps to the window in chunks and in bytes, but one chunk may always go", () => {
  const byChunks = movingSender({ chunks: 9, windowChunks: 2 });
  assert.deepEqual(chunksSent(send(byChunks, 1)), [0, 1]);
  assert.deepEqual(send(byChunks, 1), []);
  byChunks.handleAcked(2, 1);
  assert.deepEqual(chunksSent(send(byChunks, 2)), [2]);
  const byBytes = movingSender({ chunks: 9, windowBytes: 3 * CHUNK_BYTES + 1 });
  assert.deepEqual(chunksSent(send(byBytes, 1)), [0, 1, 2]);
  assert.equal(byBytes.inFlightBytes, 3 * CHUNK_BYTES);
  const tiny = movingSender({ chunks: 9, windowBytes: 1 });
  assert.deepEqual(chunksSent(send(tiny, 1)), [0]);
  assert.deepEqual(send(tiny, 1), []);
});

test("gives at most as many as asked for", () => {
  const sender = movingSender({ chunks: 5 });
  assert.deepEqual(chunksSent(send(sender, 1, 2)), [0, 1]);
  assert.deepEqual(chunksSent(send(sender, 1, 2)), [2, 3]);
  assert.deepEqual(chunksSent(send(sender, 1, 2)), [4]);
});

test("a lost chunk is sent again after a pause, before fresh ones, with the next sequence", () => {
  const sender = movingSender({ chunks: 3, windowChunks: 1 });
  send(sender, 1);
  sender.handleFailed(10, 0, 1, "lane_lost");
  assert.deepEqual(chunksSent(send(sender, 10)), [1], "the pause is not the others'");
  sender.handleAcked(20, 1);
  const againUs = 10 + limits.retryPauseMinUs;
  assert.deepEqual(send(sender, againUs), [{ chunk: 0, sequence: 2 }]);
  assert.equal(sender.retries, 1);
});

test("wakes for a retry once, and then waits for the window", () => {
  const sender = movingSender({ chunks: 2, windowChunks: 1 });
  send(sender, 1);
  sender.handleFailed(10, 0, 1, "lane_lost");
  assert.equal(sender.nextDeadlineUs(), 10 + limits.retryPauseMinUs);
  send(sender, 11);
  const dueUs = 10 + limits.retryPauseMinUs;
  sender.handleTimeout(dueUs);
  assert.deepEqual(send(sender, dueUs), [], "chunk 1 fills the window");
  assert.ok(sender.nextDeadlineUs() > dueUs, "no timer can help");
  sender.handleAcked(dueUs + 1, 1);
  assert.deepEqual(chunksSent(send(sender, dueUs + 1)), [0]);
});

test("a wrong checksum is sent again at once", () => {
  const sender = movingSender({ chunks: 1 });
  send(sender, 1);
  sender.handleFailed(10, 0, 1, "checksum_mismatch");
  assert.deepEqual(send(sender, 10), [{ chunk: 0, sequence: 2 }]);
});

test("gives up when one chunk fails again and again and nothing else moves", () => {
  const sender = movingSender({ chunks: 1 });
  for (let attempt = 1; attempt <= limits.attemptsWithoutProgress; attempt++) {
    assert.equal(sender.state, "sending");
    const [again] = send(sender, attempt);
    sender.handleFailed(attempt, 0, again?.sequence ?? -1, "checksum_mismatch");
  }
  assert.deepEqual(eventsOf(sender), failed("checksum_mismatch"));
});

test("goes on with a failing chunk while others move", () => {
  const sender = movingSender({ chunks: 50, windowChunks: 2 });
  let failures = 0;
  let lastSequence = 0;
  for (let now = 1; failures < 20; now++) {
    for (const { chunk, sequence } of send(sender, now)) {
      if (chunk !== 0) {
        sender.handleAcked(now, chunk);
        continue;
      }
      assert.equal(sequence, ++lastSequence);
      sender.handleFailed(now, 0, sequence, "checksum_mismatch");
      failures += 1;
    }
  }
  assert.equal(sender.state, "sending");
});

test("bytes given to the link count repeats, and not what it had no room for", () => {
  const sender = movingSender({ chunks: 2 });
  const first = send(sender, 1);
  const each = sender.sentBytes / 2;
  assert.ok(first.length === 2 && each > 0);
  sender.handleFailed(2, 0, 1, "checksum_mismatch");
  assert.equal(send(sender, 2).length, 1);
  assert.equal(sender.sentBytes, 3 * each);
  sender.handleFailed(3, 0, 2, "checksum_mismatch");
  sender.handleFull(3, send(sender, 3));
  assert.equal(sender.sentBytes, 3 * each);
});

test("a busy chunk and a full link are waited for, not counted", () => {
  const sender = movingSender({ chunks: 1 });
  let now = 1;
  for (let attempt = 0; attempt < 50; attempt++) {
    const [sent] = send(sender, now);
    assert.ok(sent, `attempt ${attempt} goes out`);
    if (attempt % 2 === 0) sender.handleFailed(now, 0, sent.sequence, "chunk_busy");
    else sender.handleFull(now, [sent]);
    assert.ok(sender.nextDeadlineUs() > now && sender.nextDeadlineUs() <= now + limits.fullPauseMaxUs);
    now = sender.nextDeadlineUs();
  }
  assert.equal(sender.state, "sending");
});

for (const code of ["cancelled", "seal_broken", "peer_restarted"] as const) {
  test(`${code} ends the transfer at once`, () => {
    const sender = movingSender({ chunks: 2, windowChunks: 1 });
    send(sender, 1);
    sender.handleFailed(2, 0, 1, code);
    assert.deepEqual(eventsOf(sender), failed(code));
    assert.equal(sender.inFlightBytes, 0);
    assert.deepEqual(send(sender, 3), []);
  });
}

test("grant_unknown for a repeated chunk waits for Done: the lost attempt may have been the last that was missing", () => {
  const sender = movingSender({ chunks: 2 });
  send(sender, 1);
  sender.handleAcked(2, 0);
  sender.handleFailed(2, 1, 1, "lane_lost");
  const againUs = sender.nextDeadlineUs();
  assert.deepEqual(send(sender, againUs), [{ chunk: 1, sequence: 2 }]);
  sender.handleFailed(againUs + 1, 1, 2, "grant_unknown");
  assert.equal(sender.state, "sending");
  assert.deepEqual(send(sender, againUs + 1_000_000), [], "nothing is sent into memory that is gone");
  sender.handleDone(againUs + 2);
  assert.deepEqual(eventsOf(sender), [{ kind: "done", bytes: 2 * CHUNK_BYTES, retries: 1 }]);
});

test("grant_unknown waits for what the receiver says of it, which may be a new grant, and not for ever", () => {
  const refused = (): ReturnType<typeof movingSender> => {
    const sender = movingSender({ chunks: 2, windowChunks: 1 });
    send(sender, 1);
    sender.handleFailed(2, 0, 1, "grant_unknown");
    assert.deepEqual(send(sender, 3), [], "nothing is sent into memory that is gone");
    return sender;
  };
  const granted = refused();
  granted.handleAccept(30_000, new Uint8Array(1));
  assert.equal(send(granted, 30_000).length, 1);
  const left = refused();
  const untilUs = 2 + limits.silentMs * 1000;
  left.handleTimeout(untilUs - 1);
  assert.equal(left.state, "sending");
  left.handleTimeout(untilUs);
  assert.deepEqual(eventsOf(left).at(-1), { kind: "failed", code: "grant_unknown" });
});

test("after such a grant_unknown it goes on with a new grant, or ends at its deadline", () => {
  const ambiguous = (): ReturnType<typeof movingSender> => {
    const sender = movingSender({ chunks: 1 });
    send(sender, 1);
    sender.handleFailed(2, 0, 1, "lane_lost");
    send(sender, sender.nextDeadlineUs());
    sender.handleFailed(20_000, 0, 2, "grant_unknown");
    return sender;
  };
  const granted = ambiguous();
  granted.handleAccept(30_000, new Uint8Array(1));
  assert.deepEqual(send(granted, 30_000), [{ chunk: 0, sequence: 3 }]);
  const silent = ambiguous();
  silent.handleTimeout(DEADLINE_US);
  assert.deepEqual(eventsOf(silent), failed("deadline_exceeded"));
});

test("duplicate_chunk is an acknowledgement", () => {
  const sender = movingSender({ chunks: 1 });
  send(sender, 1);
  sender.handleFailed(2, 0, 1, "duplicate_chunk");
  assert.equal(sender.ackedBytes, CHUNK_BYTES);
  assert.equal(sender.retries, 0);
});

test("each chunk is acknowledged once, also by a word for another attempt", () => {
  const sender = movingSender({ chunks: 1 });
  send(sender, 1);
  sender.handleFailed(2, 0, 1, "lane_lost");
  sender.handleAcked(3, 0);
  sender.handleAcked(4, 0);
  assert.equal(sender.ackedBytes, CHUNK_BYTES);
  assert.deepEqual(send(sender, 1_000_000), [], "it is not sent again");
});

test("what the link refused goes first, in order, and no attempt is counted", () => {
  const sender = movingSender({ chunks: 4, windowChunks: 3 });
  const first = send(sender, 1);
  sender.handleFull(1, first.slice(1));
  assert.equal(sender.inFlightBytes, CHUNK_BYTES);
  assert.deepEqual(send(sender, 1), [], "the link is full for a while");
  assert.equal(sender.nextDeadlineUs(), 1 + limits.fullPauseMinUs);
  assert.deepEqual(send(sender, 1 + limits.fullPauseMinUs), [
    { chunk: 1, sequence: 1 },
    { chunk: 2, sequence: 1 },
  ]);
});

test("an acknowledgement shows that the link has room again", () => {
  const sender = movingSender({ chunks: 3 });
  const first = send(sender, 1);
  sender.handleFull(1, first.slice(1));
  sender.handleAcked(2, 0);
  assert.deepEqual(chunksSent(send(sender, 2)), [1, 2]);
});

test("a lost connection suspends; the bitmap says what is still to be sent", () => {
  const sender = movingSender({ chunks: 4 });
  send(sender, 1);
  sender.handleAcked(2, 0);
  sender.handleDisconnected(3);
  assert.equal(sender.state, "suspended");
  assert.equal(sender.inFlightBytes, 0);
  sender.handleFailed(4, 1, 1, "cancelled");
  assert.equal(sender.state, "suspended", "attempts over the old connection do not count");
  assert.deepEqual(send(sender, 5), []);
  sender.handleAccept(6, bitmap(4, [0, 2]));
  assert.equal(sender.ackedBytes, 2 * CHUNK_BYTES);
  assert.deepEqual(send(sender, 6), [
    { chunk: 1, sequence: 2 },
    { chunk: 3, sequence: 2 },
  ]);
});

test("a bitmap that lacks an acknowledged chunk, or has more than there are, is a protocol error", () => {
  const lacking = movingSender({ chunks: 4 });
  send(lacking, 1);
  lacking.handleAcked(2, 0);
  lacking.handleDisconnected(3);
  lacking.handleAccept(4, bitmap(4, [1]));
  assert.deepEqual(eventsOf(lacking), failed("protocol_error"));
  const extra = newSender({ chunks: 4 });
  extra.handleAccept(0, Uint8Array.of(0b0001_0000));
  assert.deepEqual(eventsOf(extra), failed("protocol_error"));
  const long = newSender({ chunks: 4 });
  long.handleAccept(0, Uint8Array.of(0, 0, 0));
  assert.equal(long.state, "sending", "zeros name nothing");
});

test("Done is believed after a lost connection too, if everything had been sent", () => {
  const sender = movingSender({ chunks: 2 });
  send(sender, 1);
  sender.handleDisconnected(2);
  sender.handleDone(3);
  assert.equal(sender.state, "done");
  const early = movingSender({ chunks: 2, windowChunks: 1 });
  send(early, 1);
  early.handleDisconnected(2);
  early.handleDone(3);
  assert.deepEqual(eventsOf(early), failed("protocol_error"));
});

test("two silent seconds are told once; going on is told too", () => {
  const sender = movingSender({ chunks: 2 });
  send(sender, 1);
  assert.equal(sender.nextDeadlineUs(), STALL_US);
  sender.handleTimeout(STALL_US);
  sender.handleTimeout(STALL_US + 1);
  assert.deepEqual(eventsOf(sender), [{ kind: "stalled", silentUs: STALL_US }]);
  assert.equal(sender.nextDeadlineUs(), DEADLINE_US);
  sender.handleAcked(STALL_US + 5, 0);
  assert.deepEqual(eventsOf(sender), [{ kind: "moving" }]);
  assert.equal(sender.nextDeadlineUs(), 2 * STALL_US + 5);
});

test("a stall that ended before anybody looked is not told", () => {
  const sender = movingSender({ chunks: 2 });
  send(sender, 1);
  sender.handleTimeout(STALL_US);
  sender.handleAcked(STALL_US + 1, 0);
  assert.deepEqual(eventsOf(sender), []);
});

test("waiting for an engine that has not produced its layer is no stall; waiting for Done is", () => {
  const sender = newSender({ chunks: 2, layers: 2 });
  sender.handleAccept(0, new Uint8Array(0));
  assert.equal(sender.nextDeadlineUs(), DEADLINE_US);
  sender.handleReady(3_000_000, 0);
  assert.equal(sender.nextDeadlineUs(), 3_000_000 + STALL_US, "the silence counts from when there was something to send");
  send(sender, 3_000_000);
  sender.handleAcked(3_000_001, 0);
  sender.handleTimeout(3_000_001 + 2 * STALL_US);
  assert.deepEqual(eventsOf(sender), []);
  sender.handleReady(7_500_000, 1);
  send(sender, 7_500_000);
  sender.handleAcked(7_500_001, 1);
  sender.handleTimeout(7_500_001 + STALL_US);
  assert.deepEqual(eventsOf(sender), [{ kind: "stalled", silentUs: STALL_US }]);
});

test("the deadline ends it in every state", () => {
  const offered = newSender({ chunks: 1 });
  const suspended = movingSender({ chunks: 1 });
  suspended.handleDisconnected(1);
  for (const sender of [offered, suspended, movingSender({ chunks: 1 })]) {
    sender.handleTimeout(DEADLINE_US - 1);
    assert.deepEqual(
      eventsOf(sender)
        .map(({ kind }) => kind)
        .filter((kind) => kind !== "stalled"),
      [],
    );
    sender.handleTimeout(DEADLINE_US);
    assert.deepEqual(eventsOf(sender), failed("deadline_exceeded"));
  }
});

test("cancel ends it with the given code, once; afterwards nothing changes it", () => {
  const sender = movingSender({ chunks: 2 });
  send(sender, 1);
  sender.handleCancel(2, "handle_unknown");
  sender.handleCancel(3, "cancelled");
  sender.handleDone(4);
  sender.handleAcked(4, 0);
  sender.handleFailed(4, 1, 1, "lane_lost");
  sender.handleAccept(4, new Uint8Array(0));
  sender.handleDisconnected(4);
  sender.handleTimeout(DEADLINE_US);
  assert.deepEqual(eventsOf(sender), failed("handle_unknown"));
  assert.equal(sender.state, "failed");
  assert.equal(sender.ackedBytes, 0);
});
