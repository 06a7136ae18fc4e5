/**
 * Clients that come, go, come back and die: whose blocks end when. Connections are cut at the socket; a process "dies" when the test's own
 * process table says so, and once for real with kill -9.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, writeFileSync } from "node:fs";
import { connect as connectSocket, createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { createApiServer } from "../../transport/api/server.ts";
import { KvferryError } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import { FakeHost } from "./fake-host.ts";
import { HELLO, RawClient } from "./raw.ts";
import { fakeProcesses, kinds, serve, temporaryFolder, until } from "./world.ts";

function code(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof KvferryError && error.code === wanted;
}

for (const kind of kinds) {
  test(`${kind}: a dropped connection keeps what its living process holds, and hello takes it up again`, async (t) => {
    const processes = fakeProcesses();
    const { host, server, socket } = await serve(t, kind, { processes });
    const raw = await RawClient.open(socket);
    const { ok } = await raw.ask(HELLO);
    await raw.ask({ id: 2, op: "alloc", count: 3 });
    const session = host.only;
    raw.end();
    await until(() => server.clients === 0);
    assert.deepEqual(session.closes, [true]);
    assert.equal(host.pool.stats().held, 3);
    assert.equal(session.listeners, 0);

    const { resume } = ok as { resume: string };
    const stranger = await RawClient.open(socket);
    const fresh = await stranger.ask({ ...HELLO, resume, processId: 0 });
    assert.equal((fresh["ok"] as { resumed: boolean }).resumed, false);
    const back = await RawClient.open(socket);
    const again = await back.ask({ ...HELLO, resume });
    assert.equal((again["ok"] as { resumed: boolean }).resumed, true);
    processes.kill(process.pid);
    assert.equal(await back.closed(), 4005);
    assert.deepEqual(session.closes, [true, false]);
    assert.equal(host.pool.stats().held, 0);
    stranger.end();
  });

  test(`${kind}: death after the connection was lost ends the session too`, async (t) => {
    const processes = fakeProcesses();
    const { host, server, socket } = await serve(t, kind, { processes });
    const raw = await RawClient.open(socket);
    await raw.ask(HELLO);
    await raw.ask({ id: 2, op: "alloc", count: 3 });
    raw.end();
    await until(() => server.clients === 0);
    processes.kill(process.pid);
    assert.equal(host.sessions.size, 0);
    assert.equal(host.pool.stats().held, 0);
    assert.equal(processes.watched, 0);
  });

  test(`${kind}: a client faster than the news of its own loss takes its session over`, async (t) => {
    const { host, socket } = await serve(t, kind, { processes: fakeProcesses() });
    const first = await RawClient.open(socket);
    const { ok } = await first.ask(HELLO);
    const { resume } = ok as { resume: string };
    const second = await RawClient.open(socket);
    const again = await second.ask({ ...HELLO, resume });
    assert.equal((again["ok"] as { resumed: boolean }).resumed, true);
    assert.equal(await first.closed(), 4001);
    assert.deepEqual(host.only.closes, [true]);
    assert.ok("ok" in (await second.ask({ id: 2, op: "alloc", count: 1 })));
    second.end();
  });

  test(`${kind}: what an answer gave that was lost with its connection is given back by the next hello`, async (t) => {
    const { host, socket } = await serve(t, kind, { processes: fakeProcesses() });
    const first = await RawClient.open(socket);
    const { ok } = await first.ask(HELLO);
    const { resume } = ok as { resume: string };
    const kept = (await first.ask({ id: 2, op: "alloc", count: 3 }))["ok"] as Blocks;
    const lost = (await first.ask({ id: 3, op: "alloc", count: 4 }))["ok"] as Blocks;
    const freed = (await first.ask({ id: 4, op: "alloc", count: 1 }))["ok"] as Blocks;
    await first.ask({ id: 5, op: "free", blocks: freed });
    first.end();
    const second = await RawClient.open(socket);
    // 4 was given back before, 99 was never asked: neither is an error.
    await second.ask({ ...HELLO, resume, unanswered: [3, 4, 99] });
    assert.equal(host.pool.stats().held, 3);
    const codeOfFree = (id: number, blocks: Blocks) => second.codeOf({ id, op: "free", blocks });
    assert.equal(await codeOfFree(6, lost), "generation_mismatch");
    assert.equal(await codeOfFree(7, kept), undefined);
    // Nothing of the first connection is left to be taken back over the third.
    await second.ask({ id: 3, op: "alloc", count: 2 });
    second.end();
    const third = await RawClient.open(socket);
    await third.ask({ ...HELLO, resume, unanswered: [2] });
    assert.equal(host.pool.stats().held, 2);
    third.end();
  });

  test(`${kind}: a client without a process may ask but not attach, and holds only while it is connected`, async (t) => {
    const { host, server, connect } = await serve(t, kind);
    const router = await connect({ attaches: false });
    assert.equal((await router.pool()).path, "");
    await assert.rejects(router.attach(), code("attach_unavailable"));
    await assert.rejects(router.createBuffer(4096), code("attach_unavailable"));
    await assert.rejects(router.registerBuffer(new Uint8Array(64)), code("unsupported"));
    await router.alloc(1);
    const session = host.only;
    assert.equal(session.options.processId, 0);
    await server.close();
    assert.deepEqual(session.closes, [false]);
  });

  test(`${kind}: reconnect takes up the session, or says that the server is another`, async (t) => {
    const { host, server, socket, connect } = await serve(t, kind);
    const ferry = await connect();
    const blocks = await ferry.alloc(2);
    assert.deepEqual(await ferry.reconnect(), { resumed: true, incarnationChanged: false });
    await ferry.free(blocks);
    const lost = new Promise<void>((resolve) => {
      ferry.on((event) => event.kind === "lost" && resolve());
    });
    await server.close();
    await lost;
    assert.equal(existsSync(socket), false);
    const next = await createApiServer({ host: new FakeHost("f".repeat(32)), backend: kind, socket });
    t.after(() => next.close());
    assert.deepEqual(await ferry.reconnect(), { resumed: false, incarnationChanged: true });
    assert.equal(ferry.incarnation, "f".repeat(32));
    assert.equal(host.sessions.size, 1);
  });

  test(`${kind}: closing many clients leaves nothing behind`, async (t) => {
    const processes = fakeProcesses();
    const { host, server, connect } = await serve(t, kind, { processes });
    for (let at = 0; at < 20; at++) await (await connect()).close();
    await until(() => server.clients === 0);
    assert.equal(host.sessions.size, 0);
    assert.equal(processes.watched, 0);
  });

  test(`${kind}: what the node refuses, hello refuses, and the next one may come in`, async (t) => {
    const { host, connect } = await serve(t, kind);
    host.refusal = new KvferryError("draining", "for a while");
    await assert.rejects(
      connect(),
      (error) => error instanceof KvferryError && error.code === "draining" && error.detail === "for a while",
    );
    host.refusal = undefined;
    await connect();
  });

  test(`${kind}: too many clients are refused by name, too many connections are closed`, async (t) => {
    const { host, socket } = await serve(t, kind);
    const clients: RawClient[] = [];
    t.after(() => clients.forEach((client) => client.end()));
    for (let at = 0; at < limits.apiClientsMax; at++) {
      const client = await RawClient.open(socket);
      clients.push(client);
      assert.ok("ok" in (await client.ask({ ...HELLO, processId: 0 })));
    }
    for (let at = limits.apiClientsMax; at < limits.apiConnectionsMax; at++) clients.push(await RawClient.open(socket));
    assert.equal(await clients.at(-1)!.codeOf({ ...HELLO, processId: 0 }), "too_many_clients");
    const last = await RawClient.open(socket);
    assert.equal(await last.closed(), 4003);
    clients[0]!.end();
    await until(() => host.sessions.size === limits.apiClientsMax - 1);
    assert.ok("ok" in (await clients.at(-1)!.ask({ ...HELLO, processId: 0 })));
  });

  test(`${kind}: a client that does not read is closed and the server's memory is not its buffer`, async (t) => {
    const { host, server, socket } = await serve(t, kind);
    const raw = await RawClient.open(socket);
    t.after(() => raw.end());
    await raw.ask({ ...HELLO, processId: 0 });
    raw.websocket.pause();
    const keys = new Uint8Array(1024 * 1024);
    const session = host.only;
    let told = 0;
    while (session.closes.length === 0) {
      assert.ok(++told * keys.length <= limits.apiBackpressureBytes + 16 * limits.apiMessageBytes, "it is closed in time");
      session.tell({ kind: "evicted", keys });
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.ok(told * keys.length > limits.apiBackpressureBytes / 2, "a client that is merely late is not closed");
    assert.equal(server.clients, 0);
  });

  test(`${kind}: kill -9 of an engine frees what it held`, async (t) => {
    const { host, socket } = await serve(t, kind);
    const script = `
      const { connect } = await import(${JSON.stringify(new URL("../../transport/api/client.ts", import.meta.url).href)});
      const ferry = await connect(${JSON.stringify(socket)});
      await ferry.alloc(5);
      console.log("held");
      setInterval(() => {}, 1000);
    `;
    const engine: ChildProcess = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => engine.kill("SIGKILL"));
    await once(engine.stdout!, "data");
    assert.equal(host.pool.stats().held, 5);
    assert.equal(host.only.options.processId, engine.pid);
    engine.kill("SIGKILL");
    await until(() => host.pool.stats().held === 0);
    assert.equal(host.sessions.size, 0);
  });

  test(`${kind}: the socket of a dead server is taken over, of a living one never`, async (t) => {
    const folder = temporaryFolder(t);
    const socket = join(folder, "api.sock");
    const dead = spawn(process.execPath, [
      "-e",
      `require("node:net").createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, "SIGKILL"))`,
    ]);
    await once(dead, "exit");
    assert.ok(existsSync(socket));
    const server = await createApiServer({ host: new FakeHost(), backend: kind, socket });
    t.after(() => server.close());
    await assert.rejects(createApiServer({ host: new FakeHost(), backend: kind, socket }), code("address_unavailable"));
    assert.ok(existsSync(socket), "the refused one has not taken the other's socket away");
    const file = join(folder, "file");
    writeFileSync(file, "");
    await assert.rejects(createApiServer({ host: new FakeHost(), backend: kind, socket: file }), code("address_unavailable"));
    const missing = join(folder, "no", "such", "folder", "api.sock");
    await assert.rejects(createApiServer({ host: new FakeHost(), backend: kind, socket: missing }), code("address_unavailable"));
    await server.close();
    assert.equal(existsSync(socket), false);
  });

  test(`${kind}: addresses and paths that cannot be served are refused before anything is bound`, async (t) => {
    const host = new FakeHost();
    const token = "0123456789abcdef";
    for (const listen of [
      { host: "0.0.0.0", port: 0, token },
      { host: "example.com", port: 0, token },
      { host: "127.0.0.1", port: 0, token: "short" },
    ]) {
      await assert.rejects(createApiServer({ host, backend: kind, listen }), code("invalid_argument"));
    }
    await assert.rejects(createApiServer({ host, backend: kind }), code("invalid_argument"));
    await assert.rejects(createApiServer({ host, backend: kind, socket: `/tmp/${"x".repeat(120)}` }), code("invalid_argument"));
    const taken = createServer();
    t.after(() => taken.close());
    await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
    const { port } = taken.address() as { port: number };
    await assert.rejects(createApiServer({ host, backend: kind, listen: { host: "127.0.0.1", port, token } }), code("address_unavailable"));
    taken.close();
    // A port that is named, because one that the kernel chose is nobody else's anyway.
    const listen = { host: "127.0.0.1", port, token };
    const server = await createApiServer({ host, backend: kind, listen });
    t.after(() => server.close());
    await assert.rejects(createApiServer({ host, backend: kind, listen }), code("address_unavailable"));
  });
}

test("a connection that never says hello is closed", async (t) => {
  const { socket } = await serve(t, kinds[0]!);
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const raw = connectSocket({ path: socket });
  raw.on("error", () => {});
  raw.write(
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
  );
  const [upgraded] = (await once(raw, "data")) as [Buffer];
  assert.match(upgraded.toString(), /101/);
  t.mock.timers.tick(limits.apiHelloTimeoutMs);
  const [close] = (await once(raw, "data")) as [Buffer];
  // A close frame: opcode 8, then the code in network order.
  assert.equal(close[0], 0x88);
  assert.equal(close.readUInt16BE(2), 4002);
  raw.destroy();
});
