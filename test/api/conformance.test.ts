/**
 * The engine API end to end, the same for each backend and for both kinds of address: the real server over a fake node, the real client.
 * Every operation goes through once and must arrive as it was said; then what goes wrong must come back by name and leave the rest alone.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { statSync } from "node:fs";
import { test } from "node:test";
import { KvferryError } from "../../transport/errors.ts";
import type { FerryEvent } from "../../transport/ferry/ferry.ts";
import { limits } from "../../transport/limits.ts";
import { REPORT } from "./fake-host.ts";
import { kinds, serve, TOKEN, until } from "./world.ts";

function code(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof KvferryError && error.code === wanted;
}

const LAYOUT = {
  blockCount: 4,
  groups: [
    {
      blockTokens: 16,
      layers: [0, 1],
      components: [
        {
          name: "kv" as const,
          element: "bf16" as const,
          heads: 2,
          firstHead: 0,
          channels: 64,
          offsets: [0, 2 ** 33],
          blockStride: 4096,
          tokenStride: 256,
          headStride: 128,
          channelStride: 2,
        },
      ],
    },
  ],
};
const IDENTITY = { model: "m", revision: "r", element: "bf16", rope: "", profile: "", extra: "é" };

for (const kind of kinds) {
  for (const listen of [undefined, { host: "127.0.0.1", port: 0, token: TOKEN }]) {
    const where = `${kind} on ${listen === undefined ? "a unix socket" : "loopback"}`;
    const options = listen === undefined ? {} : { listen };
    const token = listen === undefined ? {} : { token: TOKEN };

    test(`${where}: every operation arrives as it was said`, async (t) => {
      const { host, connect } = await serve(t, kind, options);
      const ferry = await connect(token);
      assert.equal(ferry.incarnation, host.incarnation);
      assert.deepEqual(await ferry.pool(), await host.only.pool());
      assert.deepEqual(await ferry.registerModel(IDENTITY, LAYOUT, "public/x"), { model: 3, fingerprint: "ab".repeat(32) });
      assert.deepEqual(host.calls.at(-1)?.args, [IDENTITY, LAYOUT, "public/x"]);
      const tokens = Uint32Array.of(1, 2 ** 31, 0xffff_ffff);
      assert.deepEqual(
        await ferry.keys(3, 0, tokens, { salt: "s" }),
        Uint8Array.from({ length: 64 }, (_, at) => at),
      );
      assert.deepEqual(host.calls.at(-1)?.args, [3, 0, tokens, { salt: "s" }]);

      const blocks = await ferry.alloc(64);
      assert.equal(new Set(blocks.ids).size, 64);
      const keys = new Uint8Array(64 * 32).map((_, at) => at * 7 + (at >> 5));
      await ferry.publish(3, 1, blocks, keys);
      assert.deepEqual(host.calls.at(-1)?.args, [3, 1, blocks, keys]);
      assert.deepEqual(await ferry.lease(3, 1, keys), blocks);
      await ferry.release(blocks);
      await assert.rejects(ferry.release(blocks), code("not_owner"));
      assert.deepEqual(await ferry.lookup(3, 1, keys, ["b"]), [
        { peer: "", matched: 2, code: "" },
        { peer: "b", matched: 0, code: "peer_silent" },
      ]);

      const held = await ferry.alloc(2);
      const groups = [{ group: 0, blocks: held, tokens: 32 }];
      const chosen = `01234567-${"8".repeat(32)}`;
      const handle = await ferry.offer({ model: 3, groups, handle: chosen, ready: false, deadlineMs: 500 });
      assert.deepEqual(host.calls.at(-1)?.args, [{ model: 3, groups, handle: chosen, ready: false, deadlineMs: 500 }]);
      await ferry.ready(handle, 31);
      await ferry.withdraw(handle);
      await ferry.discard("b", handle);
      await ferry.prewarm({ peer: "b", bytes: 250_000_000, inMs: 300, direction: "in" });
      assert.deepEqual(host.calls.slice(-4), [
        { op: "ready", args: [handle, 31] },
        { op: "withdraw", args: [handle] },
        { op: "discard", args: ["b", handle] },
        { op: "prewarm", args: [{ peer: "b", bytes: 250_000_000, inMs: 300, direction: "in" }] },
      ]);
      await ferry.free(held);
      await assert.rejects(ferry.free(held), code("generation_mismatch"));

      assert.deepEqual(await ferry.registerBuffer({ path: "/dev/shm/x", bytes: 4096 }, "public/y"), { handle: "buffer", bytes: 4096 });
      assert.deepEqual(host.calls.at(-1)?.args, [{ path: "/dev/shm/x", bytes: 4096 }, "public/y"]);
      await ferry.unregisterBuffer("buffer");
      assert.deepEqual(await ferry.stats(), await host.only.stats());
      assert.deepEqual(await ferry.info(), { name: "fake", address: "[::1]:7411", link: "fake" });
    });

    test(`${where}: transfers start with a number and end with an event`, async (t) => {
      const { host, connect } = await serve(t, kind, options);
      const ferry = await connect(token);
      const events: FerryEvent[] = [];
      ferry.on((event) => events.push(event));
      const session = host.only;
      const into = [{ group: 0, blocks: await ferry.alloc(1), tokens: 16 }];
      const fetch = { peer: "b", model: 3, source: { handle: "h" }, into, heads: { first: 0, count: 2 }, trace: "t" };
      const first = await ferry.fetch(fetch);
      assert.deepEqual(host.calls.at(-1)?.args, [fetch]);
      session.tell({ kind: "layer", transfer: first.transfer, layer: 5 });
      session.tell({ kind: "stalled", transfer: first.transfer, silentMs: 2000 });
      session.tell({ kind: "moving", transfer: first.transfer });
      session.tell({ kind: "done", transfer: first.transfer, report: { transfer: first.transfer, ...REPORT } });
      assert.deepEqual(await first.done, { transfer: first.transfer, ...REPORT });
      assert.deepEqual(
        events.map((event) => event.kind),
        ["layer", "stalled", "moving", "done"],
      );

      const keys = new Uint8Array(32).fill(3);
      const push = { peer: "b", model: 3, group: 0, blocks: into[0]!.blocks, tokens: 16, keys: keys, deadlineMs: 9 };
      const second = await ferry.push(push);
      assert.deepEqual(host.calls.at(-1)?.args, [push]);
      second.cancel();
      await assert.rejects(second.done, code("cancelled"));
      assert.deepEqual(session.cancelled, [second.transfer]);

      const ranges = { peer: "b", remote: "r", local: "l", ranges: [{ local: 0, remote: 2 ** 35, bytes: 4096 }] };
      await ferry.read(ranges);
      await ferry.write(ranges);
      assert.deepEqual(host.calls.slice(-2), [
        { op: "read", args: [ranges] },
        { op: "write", args: [ranges] },
      ]);
      await assert.rejects(ferry.fetch({ ...fetch, peer: "nobody" }), code("peer_not_allowed"));
      const { peer, model } = fetch;
      await ferry.fetch({ peer, model, into, source: { keys: keys, group: 0, tokens: 16 } });
    });

    test(`${where}: an event of a transfer never overtakes its number`, async (t) => {
      const { host, connect } = await serve(t, kind, options);
      const ferry = await connect(token);
      const session = host.only;
      session.whileStarting = (transfer) => session.tell({ kind: "failed", transfer, code: "connect_failed", detail: "at once" });
      const transfer = await ferry.fetch({
        peer: "b",
        model: 3,
        source: { handle: "h" },
        into: [{ group: 0, blocks: await ferry.alloc(1), tokens: 1 }],
      });
      await assert.rejects(transfer.done, code("connect_failed"));
    });

    test(`${where}: requests answer each under its own number, in any order`, async (t) => {
      const { connect } = await serve(t, kind, options);
      const ferry = await connect(token);
      const blocks = await ferry.alloc(8);
      const keys = new Uint8Array(8 * 32).map((_, at) => at);
      const published = ferry.publish(3, 0, blocks, keys);
      // Publishing takes a turn of the server's loop; these overtake it.
      const batches = await Promise.all(Array.from({ length: 50 }, () => ferry.alloc(3)));
      assert.equal(new Set(batches.flatMap(({ ids }) => [...ids])).size, 150);
      await published;
      await assert.rejects(ferry.alloc(10_000), code("pool_exhausted"));
      await Promise.all(batches.map((batch) => ferry.free(batch)));
    });

    test(`${where}: a batch as large as allowed fits`, async (t) => {
      const { host, connect } = await serve(t, kind, options);
      const ferry = await connect(token);
      const keys = new Uint8Array(limits.apiBatchMax * 32);
      await ferry.lookup(3, 0, keys);
      assert.deepEqual(host.calls.at(-1)?.args, [3, 0, keys, undefined]);
      await assert.rejects(ferry.lookup(3, 0, new Uint8Array(keys.length + 32)), code("message_malformed"));
      await assert.rejects(ferry.lookup(3, 0, new Uint8Array(limits.apiMessageBytes)), code("message_too_large"));
      await ferry.stats();
    });
  }

  test(`${kind}: every event arrives as it was told`, async (t) => {
    const { host, connect } = await serve(t, kind);
    const ferry = await connect();
    const events: FerryEvent[] = [];
    ferry.on((event) => events.push(event));
    const told: FerryEvent[] = [
      { kind: "offerEnded", handle: "h", ok: false, code: "cancelled" },
      { kind: "published", model: 1, group: 2, keys: new Uint8Array(64).fill(9), from: "b" },
      { kind: "evicted", keys: new Uint8Array(32).fill(8) },
      { kind: "peer", peer: "b", up: true, detail: "hello" },
    ];
    for (const event of told) host.only.tell(event);
    await ferry.stats();
    assert.deepEqual(events, told);
  });

  test(`${kind}: the socket is its user's alone`, async (t) => {
    const { socket } = await serve(t, kind);
    assert.equal(statSync(socket).mode & 0o777, 0o600);
  });

  test(`${kind}: a closed client gives everything back`, async (t) => {
    const { host, server, connect } = await serve(t, kind);
    const one = await connect();
    await one.alloc(4);
    const session = host.only;
    await one.close();
    assert.deepEqual(session.closes, [false]);
    await until(() => server.clients === 0);
    assert.equal(host.pool.stats().held, 0);
    await assert.rejects(one.alloc(1), code("closed"));
  });

  test(`${kind}: the server's end is a lost event, and everything that waits rejects`, async (t) => {
    const { host, server, connect } = await serve(t, kind);
    const ferry = await connect();
    const events: FerryEvent[] = [];
    ferry.on((event) => events.push(event));
    const transfer = await ferry.fetch({
      peer: "b",
      model: 3,
      source: { handle: "h" },
      into: [{ group: 0, blocks: await ferry.alloc(1), tokens: 1 }],
    });
    host.only.lookup = () => new Promise(() => {});
    const waiting = ferry.lookup(3, 0, new Uint8Array(32));
    const [, , closed] = await Promise.allSettled([waiting, transfer.done, server.close()]);
    assert.equal(closed.status, "fulfilled");
    await assert.rejects(waiting, code("connection_lost"));
    await assert.rejects(transfer.done, code("connection_lost"));
    assert.deepEqual(
      events.map((event) => event.kind),
      ["lost"],
    );
    await assert.rejects(ferry.stats(), code("connection_lost"));
    await assert.rejects(ferry.reconnect(), code("connect_failed"));
  });

  test(`${kind}: a TCP listener opens to its token only`, async (t) => {
    const { server, connect } = await serve(t, kind, { listen: { host: "127.0.0.1", port: 0, token: TOKEN } });
    await assert.rejects(connect(), code("peer_not_allowed"));
    await assert.rejects(connect({ token: `${TOKEN}!` }), code("peer_not_allowed"));
    await connect({ token: TOKEN });
    assert.equal(server.clients, 1);
  });

  test(`${kind}: plain HTTP beside the API`, async (t) => {
    const metrics = async (): Promise<{ contentType: string; text: string }> => ({
      contentType: "text/plain; version=0.0.4",
      text: "kvferry_up 1\n",
    });
    const status = (): unknown => ({ bytes: 2n ** 40n, key: Uint8Array.of(1, 255) });
    const { server } = await serve(t, kind, { listen: { host: "127.0.0.1", port: 0, token: TOKEN }, metrics, status });
    const get = (path: string, headers = { authorization: `Bearer ${TOKEN}` }): Promise<Response> =>
      fetch(`http://127.0.0.1:${server.port}${path}`, { headers });
    assert.equal(await (await get("/metrics")).text(), "kvferry_up 1\n");
    assert.equal((await get("/metrics")).headers.get("content-type"), "text/plain; version=0.0.4");
    assert.deepEqual(await (await get("/status")).json(), { bytes: 2 ** 40, key: "01ff" });
    assert.equal((await get("/elsewhere")).status, 404);
    assert.equal((await get("/metrics", { authorization: "" })).status, 401);
    assert.equal((await get("/healthz", { authorization: "" })).status, 200);
    assert.equal((await fetch(`http://127.0.0.1:${server.port}/status`, { method: "POST", body: "x" })).status, 405);
    server.drain();
    assert.equal((await get("/healthz")).status, 503);
  });
}

test("nothing of the server keeps a process alive once it is closed", async (t) => {
  const { spawn } = await import("node:child_process");
  for (const kind of kinds) {
    const script = `
      const { createApiServer } = await import(${JSON.stringify(new URL("../../transport/api/server.ts", import.meta.url).href)});
      const host = { incarnation: "", openSession() { throw new Error("nobody comes"); } };
      const listen = { host: "127.0.0.1", port: 0, token: ${JSON.stringify(TOKEN)} };
      const server = await createApiServer({ host, backend: ${JSON.stringify(kind)}, listen });
      await server.close();
    `;
    const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    t.after(() => child.kill("SIGKILL"));
    const [exitCode] = await once(child, "exit");
    assert.equal(exitCode, 0);
  }
});
