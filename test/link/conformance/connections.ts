/** Connections: dialled, refused, unanswered, ended by either side or by close. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KvferryError } from "../../../transport/errors.ts";
import { openListener, openPair, numberOf, placeBoth, type Suite, LANE, TOKEN } from "./pair.ts";
import { End } from "./end.ts";
import { flatShape } from "./shapes.ts";

export function connectionTests(suite: Suite): void {
  test("a dial is accepted, and both ends learn of it", async (t) => {
    const { a, b, atA, atB } = await openPair(t, suite, { lanes: 0 });
    assert.equal(a.all("connected").length, 1);
    assert.equal(b.all("accepted").length, 1);
    a.link.disconnect(atA);
    assert.equal((await a.event("disconnected", { connection: atA })).code, numberOf("closed"));
    assert.equal((await b.event("disconnected", { connection: atB })).code, numberOf("connection_lost"));
    a.check();
    b.check();
  });

  test("connections to one listener are told apart", async (t) => {
    const { a, b, endpoint } = await openPair(t, suite, { lanes: 0 });
    const others = [a.link.dial(endpoint, 5_000), a.link.dial(endpoint, 5_000)];
    await a.eventCount(3, "connected");
    const accepted = await b.eventCount(3, "accepted");
    assert.equal(new Set(accepted.map(({ connection }) => connection)).size, 3);
    a.link.disconnect(others[0] as number);
    await a.event("disconnected", { connection: others[0] as number });
    await b.event("disconnected");
    assert.equal(a.all("disconnected").length, 1);
    assert.equal(b.all("disconnected").length, 1);
    assert.equal(a.link.send(others[1] as number, Uint8Array.of(1)), true);
    await b.event("message");
  });

  test("a dial to nobody fails", async (t) => {
    const { b, endpoint } = await openListener(t, suite);
    await b.link.close();
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    const connection = a.link.dial(endpoint, 5_000);
    const { code } = await a.event("disconnected", { connection });
    assert.equal(code, numberOf("connect_failed"));
    assert.equal(a.all("connected").length, 0);
    assert.equal(a.link.send(connection, Uint8Array.of(1)), false, "nothing is sent over what is gone");
  });

  test("an address that is in use or not ours cannot be listened at", async (t) => {
    const { endpoint } = await openListener(t, suite);
    const other = await End.open("second listener", suite.makeListener);
    t.after(() => other.link.close());
    await assert.rejects(other.link.listen(endpoint), isError("address_unavailable"));
  });

  test("disconnect before the connection is there ends it as asked", async (t) => {
    const { endpoint } = await openListener(t, suite);
    const a = await End.open("dialler", suite.make);
    t.after(() => a.link.close());
    const connection = a.link.dial(endpoint, 5_000);
    a.link.disconnect(connection);
    assert.equal((await a.event("disconnected", { connection })).code, numberOf("closed"));
  });

  test("calls about a connection that is gone do nothing; place says so", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const { a, b, atA, atB } = pair;
    const transfer = placeBoth(pair, flatShape(2, 1_000, 1_000));
    a.link.disconnect(atA);
    await a.event("disconnected", { connection: atA });
    await b.event("disconnected", { connection: atB });
    for (const [end, connection] of [[a, atA] as const, [b, atB] as const]) {
      end.link.disconnect(connection);
      end.link.admitLanes(connection, TOKEN);
      end.link.openLane(connection, 5, TOKEN, LANE);
      end.link.tuneLane(connection, 0, LANE);
      end.link.closeLane(connection, 0);
      assert.equal(end.link.send(connection, Uint8Array.of(1)), false);
      assert.deepEqual(end.link.laneInfo(connection), []);
    }
    assert.throws(() => a.link.place(transfer.outSpec), isError("connection_lost"));
    assert.equal(a.trySubmit([{ placement: transfer.out, chunk: 0, sequence: 1 }]), 0, "a chunk for nobody is not taken");
    await a.revoke(transfer.out);
    await b.revoke(transfer.into);
    assert.equal(a.all("disconnected").length, 1);
    a.check();
    b.check();
  });

  test("connections beyond the limit are refused on both sides", async (t) => {
    const { a, b, endpoint } = await openPair(t, suite, { lanes: 0, limits: { connectionsMax: 2 } });
    a.link.dial(endpoint, 5_000);
    await b.eventCount(2, "accepted");
    assert.throws(() => a.link.dial(endpoint, 5_000), isError("full"));
    const other = await End.open("third", suite.make);
    t.after(() => other.link.close());
    other.link.dial(endpoint, 5_000);
    await other.event("disconnected");
    assert.equal(b.all("accepted").length, 2);
  });

  closeTests(suite);
}

function closeTests(suite: Suite): void {
  const isSilent = async (end: End): Promise<void> => {
    await end.link.close();
    await end.link.close();
    assert.equal(
      end.link.poll(() => assert.fail("an event after close"), 10),
      0,
    );
    assert.throws(() => end.link.dial({ host: "127.0.0.1", port: 1 }, 100), isError("closed"));
    assert.equal(end.link.send(1, Uint8Array.of(1)), false);
    end.link.disconnect(1);
    end.link.revoke(1);
    assert.deepEqual(end.link.laneInfo(1), []);
    await assert.rejects(end.link.listen(suite.listenAt()), isError("closed"));
    end.check();
  };

  test("close: nothing was done yet", async () => {
    await isSilent(await End.open("alone", suite.make));
  });

  test("close: listening", async (t) => {
    const { b } = await openListener(t, suite);
    await isSilent(b);
  });

  test("close: dialling", async (t) => {
    const { endpoint } = await openListener(t, suite);
    const a = await End.open("dialler", suite.make);
    a.link.dial(endpoint, 5_000);
    await isSilent(a);
  });

  for (const side of ["a", "b"] as const) {
    test(`close: ${side === "a" ? "the dialler" : "the listener"} goes while chunks are under way`, async (t) => {
      const pair = await openPair(t, suite, { lanes: 3 });
      const shape = flatShape(64, 40_000, 40_000);
      const transfers = [placeBoth(pair, shape), placeBoth(pair, shape, { backwards: true })];
      for (const { from, out } of transfers) {
        from.submit(
          out,
          shape.chunks.map((_, chunk) => chunk),
        );
      }
      const [goes, stays] = side === "a" ? [pair.a, pair.b] : [pair.b, pair.a];
      goes.polls = false;
      await isSilent(goes);
      await stays.event("disconnected");
      for (const { from, to, out, into } of transfers) {
        if (from === stays) {
          await stays.revoke(out);
          assert.equal(stays.all("acked", { placement: out }).length + stays.all("failed", { placement: out }).length, shape.chunks.length);
        }
        if (to === stays) await stays.revoke(into);
      }
      stays.check();
    });
  }
}

/** `codes`: one, or several with | between. */
export function isError(codes: string): (error: unknown) => boolean {
  return (error) => error instanceof KvferryError && codes.split("|").includes(error.code);
}
