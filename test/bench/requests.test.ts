/** The bench's requests. Method: a link that only writes down what was submitted; events are handed over by hand, in the orders that a network allows. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AskedPusher, goMessage, Pusher, slotOfMessage } from "../../bench/requests.ts";
import type { ChunkSend, Link, LinkEvent } from "../../transport/link/link.ts";

const CHUNKS = 3;

function recorder(): { link: Link; sent: ChunkSend[] } {
  const sent: ChunkSend[] = [];
  const link = { submit: (batch: readonly ChunkSend[]) => sent.push(...batch) && batch.length } as unknown as Link;
  return { link, sent };
}

function acked({ placement, chunk, sequence }: ChunkSend): LinkEvent {
  return { kind: "acked", placement, chunk, sequence, lane: 0, durationUs: 1 };
}

test("a go that overtakes the acknowledgements of the last request begins when they are here, once", () => {
  const { link, sent } = recorder();
  const asked = new AskedPusher(link, [7, 8], CHUNKS);
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
  const pusher = new Pusher(link, [7], 1, () => {});
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

test("a slot number from the wire is bounded", () => {
  assert.equal(slotOfMessage(goMessage(3), 4), 3);
  for (const bytes of [goMessage(4), new Uint8Array(3), new Uint8Array(0), new Uint8Array(5)])
    assert.throws(() => slotOfMessage(bytes, 4), { code: "protocol_error" });
});
