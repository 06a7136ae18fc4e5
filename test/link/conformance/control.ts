/** Control messages: both ways, in order, of every size, held back when nobody takes them, flushed before the end. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { limits } from "../../../transport/limits.ts";
import { isError } from "./connections.ts";
import { fillPattern } from "./memory.ts";
import { numberOf, openPair, type Suite } from "./pair.ts";

function message(bytes: number, seed: number): Uint8Array {
  const content = new Uint8Array(bytes);
  fillPattern(content, seed);
  return content;
}

export function controlTests(suite: Suite): void {
  test("messages go both ways, in order, from one byte to the largest", async (t) => {
    const { a, b, atA, atB } = await openPair(t, suite, { lanes: 0 });
    const sizes = [1, 2, 47, 48, 1_000, 65_536, limits.controlMessageBytes, 3, 100_001];
    sizes.forEach((bytes, at) => {
      assert.equal(a.link.send(atA, message(bytes, at)), true);
      assert.equal(b.link.send(atB, message(bytes, at + 100)), true);
    });
    for (const [end, connection, seed] of [[b, atB, 0] as const, [a, atA, 100] as const]) {
      const come = await end.eventCount(sizes.length, "message", { connection });
      come.forEach(({ bytes }, at) => assert.ok(Buffer.compare(bytes, message(sizes[at] as number, seed + at)) === 0, `message ${at}`));
    }
  });

  test("the sender's buffer is its own again when send returns, and what came is the receiver's", async (t) => {
    const { a, b, atA } = await openPair(t, suite, { lanes: 0 });
    const content = message(5_000, 1);
    a.link.send(atA, content);
    content.fill(0xff);
    a.link.send(atA, message(5_000, 2));
    const [first] = await b.eventCount(2, "message");
    assert.deepEqual(Buffer.from(first?.bytes ?? []), Buffer.from(message(5_000, 1)));
  });

  test("messages may be sent before the connection is there", async (t) => {
    const { a, b, endpoint } = await openPair(t, suite, { lanes: 0 });
    const connection = a.link.dial(endpoint, 5_000);
    assert.equal(a.link.send(connection, message(300, 1)), true);
    const { bytes } = await b.event("message");
    assert.deepEqual(Buffer.from(bytes), Buffer.from(message(300, 1)));
  });

  test("a message that is empty or too large is refused before it is sent", async (t) => {
    const { a, b, atA } = await openPair(t, suite, { lanes: 0 });
    assert.throws(() => a.link.send(atA, new Uint8Array(0)), isError("invalid_argument"));
    assert.throws(() => a.link.send(atA, new Uint8Array(limits.controlMessageBytes + 1)), isError("message_too_large"));
    assert.equal(a.link.send(atA, Uint8Array.of(9)), true);
    assert.equal((await b.event("message")).bytes.length, 1);
  });

  test("a peer that takes no messages makes send say full, and nothing is lost", async (t) => {
    const bounds = { controlMessageBytes: 65_536, controlQueueBytes: 262_144 };
    const { a, b, atA, atB } = await openPair(t, suite, { lanes: 0, limits: bounds });
    b.polls = false;
    let sent = 0;
    // Both queues and the kernel's buffers fill; what a peer can make us hold is bounded.
    const most = 16_384;
    for (let refused = 0; refused < 20 && sent < most; ) {
      if (a.link.send(atA, message(65_536, sent))) {
        sent += 1;
        refused = 0;
      } else {
        refused += 1;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    assert.ok(sent < most, "send says full at last");
    b.polls = true;
    b.poll();
    await b.eventCount(sent, "message", { connection: atB });
    b.all("message").forEach(({ bytes }, at) => {
      if (at % 16 === 0) assert.ok(Buffer.compare(bytes, message(65_536, at)) === 0, `message ${at}`);
    });
    while (!a.link.send(atA, message(10, 1))) await new Promise((resolve) => setTimeout(resolve, 5));
    await b.eventCount(sent + 1, "message");
  });

  test("many small messages wait when their events do", async (t) => {
    const { a, b, atA } = await openPair(t, suite, { lanes: 0, limits: { completionsMax: 8 } });
    b.polls = false;
    let sent = 0;
    for (let turn = 0; b.all("message").length < 100; turn++) {
      assert.ok(turn < 20_000, `messages go on\n${b.describe()}`);
      // Full or not, as the link's queues are; none may be lost or overtake another.
      while (sent < 100 && a.link.send(atA, Uint8Array.of(sent))) sent += 1;
      const handed = b.poll(3);
      assert.ok(handed <= 3);
      if (handed === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    assert.deepEqual(
      b.all("message").map(({ bytes }) => bytes[0]),
      Array.from({ length: 100 }, (_, at) => at),
    );
  });

  test("disconnect flushes what was sent", async (t) => {
    const { a, b, atA, atB } = await openPair(t, suite, { lanes: 0 });
    for (let at = 0; at < 8; at++) assert.equal(a.link.send(atA, message(100_000, at)), true);
    a.link.disconnect(atA);
    a.link.send(atA, Uint8Array.of(1));
    await b.event("disconnected", { connection: atB });
    const come = b.all("message").filter(({ bytes }) => bytes.length > 1);
    come.forEach(({ bytes }, at) => assert.ok(Buffer.compare(bytes, message(100_000, at)) === 0, `message ${at}`));
    assert.equal(come.length, 8);
    assert.equal((await a.event("disconnected", { connection: atA })).code, numberOf("closed"));
  });
}
