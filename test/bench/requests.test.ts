/** The bench's requests. Method: a link that only writes down what was submitted; events are handed over by hand, in the orders that a network allows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AskedPusher, goMessage, Puller, Pusher, type Receiving, type Sending, slotOfMessage } from "../../bench/requests.ts";
import { ERRORS } from "../../transport/errors.ts";
import type { ChunkSend, Link, LinkEvent } from "../../transport/link/link.ts";

const CHUNKS = 3;
const SPANS = Array.from({ length: CHUNKS }, (_, chunk) => ({ plane: 0, start: chunk * 10, bytes: 10 + chunk }));

/** A path without bounds. */
const FREE: Sending = { window: () => ({ bytes: 1_000, chunks: 1_000 }), handleAcked: () => {} };
const DEAF: Receiving = { handleCommitted: () => {} };

function recorder(): { link: Link; sent: ChunkSend[] } {
  const sent: ChunkSend[] = [];
  const link = { submit: (batch: readonly ChunkSend[]) => sent.push(...batch) && batch.length } as unknown as Link;
  return { link, sent };
}

function acked({ placement, chunk, sequence }: ChunkSend): LinkEvent {
  return { kind: "acked", placement, chunk, sequence, lane: 0, bytes: SPANS[chunk]!.bytes, durationUs: 1 };
}

test("a go that overtakes the acknowledgements of the last request begins when they are here, once", () => {
  const { link, sent } = recorder();
  const asked = new AskedPusher(link, [7, 8], SPANS, FREE);
  asked.handleGo(1);
  assert.equal(sent.length, CHUNKS);
  asked.handleGo(1);
  asked.handleGo(1);
  assert.equal(sent.length, CHUNKS, "nothing goes twice at once");
  for (const chunk of sent.slice(0, CHUNKS)) assert.ok(asked.pusher.handle(acked(chunk)));
  assert.equal(sent.length, 2 * CHUNKS);
  assert.ok(
    sent.slice(CHUNKS).every((chunk) => chunk.placement === 8 && chunk.sequence > sent[0]!.sequence),
    "above every attempt of the last request",
  );
  for (const chunk of sent.slice(CHUNKS)) asked.pusher.handle(acked(chunk));
  assert.equal(sent.length, 2 * CHUNKS);
  assert.ok(!asked.pusher.isBusy(1));
});

test("a chunk that fails goes again, a bounded number of times", () => {
  const { link, sent } = recorder();
  const pusher = new Pusher(link, [7], SPANS.slice(0, 1), FREE, () => {});
  pusher.begin(0);
  const fail = (): void => {
    const { placement, chunk, sequence } = sent.at(-1)!;
    pusher.handle({ kind: "failed", placement, chunk, sequence, lane: 0, code: 15, durationUs: 0 } as LinkEvent);
    pusher.flush();
  };
  for (let attempt = 1; attempt < 5; attempt++) fail();
  assert.equal(pusher.retries, 4);
  assert.throws(fail, /failed 5 times/);
});

test("lanes that die under a chunk are not counted as its own failures; payload is counted by the lane that brought it", () => {
  const { link, sent } = recorder();
  const done: number[] = [];
  const pusher = new Pusher(link, [7], SPANS, FREE, (slot) => done.push(slot));
  pusher.begin(0);
  for (let lost = 0; lost < 8; lost++) {
    pusher.handle({ kind: "failed", ...sent.at(-1)!, lane: lost, code: ERRORS.lane_lost.number });
    pusher.flush();
  }
  const last = sent.at(-1)!;
  assert.equal(pusher.retries, 8);
  for (const chunk of [sent[0]!, sent[1]!, last])
    pusher.handle({ kind: "acked", ...chunk, lane: chunk === last ? 9 : 2, bytes: 64, durationUs: 1 });
  assert.deepEqual(done, [0]);
  assert.deepEqual([pusher.movedByLane[2], pusher.movedByLane[9]], [21, 12]);
});

test("a chunk that comes twice, because its acknowledgement was lost, completes nothing in its place", () => {
  const { link: pushing, sent } = recorder();
  const asked = new AskedPusher(pushing, [7], SPANS, FREE);
  const done: number[] = [];
  const puller = new Puller({ send: () => true } as unknown as Link, 1, [4], SPANS, DEAF, (slot) => done.push(slot));
  const arrive = ({ chunk, sequence }: ChunkSend): void => {
    puller.handle({ kind: "committed", placement: 4, chunk, sequence, lane: 1, bytes: SPANS[chunk]!.bytes });
  };
  const ask = (): void => {
    puller.begin(0);
    asked.handleGo(0);
  };
  ask();
  const [first, second, third] = sent as [ChunkSend, ChunkSend, ChunkSend];
  const again = { ...first, sequence: first.sequence + 1 };
  arrive(first);
  arrive(again);
  arrive(second);
  assert.deepEqual(done, [], "the third is not here");
  arrive(third);
  assert.deepEqual(done, [0]);
  for (const chunk of [first, second, third]) asked.pusher.handle(acked(chunk));
  ask();
  // A late repetition of the last request is no chunk of this one.
  arrive({ ...third, sequence: third.sequence + 1 });
  for (const chunk of sent.slice(CHUNKS, CHUNKS + 2)) arrive(chunk);
  assert.deepEqual(done, [0]);
  arrive(sent[CHUNKS + 2]!);
  assert.deepEqual(done, [0, 0]);
  assert.equal(puller.movedByLane[1], 2 * (10 + 11 + 12));
});

test("a second puller's slots have numbers behind the first one's", () => {
  const asked: Uint8Array[] = [];
  const link = { send: (_connection: number, bytes: Uint8Array) => asked.push(bytes) > 0 } as unknown as Link;
  const done: number[] = [];
  const puller = new Puller(link, 1, [9], SPANS.slice(0, 1), DEAF, (slot) => done.push(slot), 5);
  puller.begin(0);
  assert.equal(slotOfMessage(asked[0]!, 6), 5);
  puller.handle({ kind: "committed", placement: 9, chunk: 0, sequence: 16, lane: 0, bytes: 10 });
  assert.deepEqual(done, [0]);
});

test("no more is under way than the path's window has room for; one chunk always is, and the path hears of each", () => {
  const { link, sent } = recorder();
  const heard: number[] = [];
  let window = { bytes: 22, chunks: 9 };
  const pusher = new Pusher(link, [7, 8], SPANS, { window: () => window, handleAcked: (bytes) => heard.push(bytes) }, () => {});
  pusher.begin(0);
  pusher.begin(1);
  assert.deepEqual([sent.length, pusher.waitingBytes], [2, 12 + 33], "10 and 11 bytes fit, 12 do not");
  const answer = (): void => {
    pusher.handle(acked(sent[heard.length]!));
    pusher.flush();
  };
  answer();
  assert.equal(sent.length, 2, "11 are under way, and 12 more are too many");
  answer();
  assert.deepEqual([sent.length, pusher.waitingBytes], [4, 23]);
  window = { bytes: 5, chunks: 9 };
  answer();
  answer();
  assert.deepEqual([sent.length, pusher.waitingBytes], [5, 12], "larger than the window, it goes alone");
  window = { bytes: 1_000, chunks: 1 };
  answer();
  answer();
  assert.deepEqual([sent.length, pusher.waitingBytes, pusher.isBusy(0), pusher.isBusy(1)], [6, 0, false, false]);
  assert.deepEqual(heard, [10, 11, 12, 10, 11, 12]);
});

test("a slot number from the wire is bounded", () => {
  assert.equal(slotOfMessage(goMessage(3), 4), 3);
  for (const bytes of [goMessage(4), new Uint8Array(3), new Uint8Array(0), new Uint8Array(5)])
    assert.throws(() => slotOfMessage(bytes, 4), { code: "protocol_error" });
});
