/**
 * The client against servers that do not keep the protocol: one that never answers, one that is silent altogether, one that answers
 * nonsense. Every wait must end with a code. The servers are bare WebSocket servers in this process, the client's times short.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { type WebSocket, WebSocketServer } from "ws";
import { type ChannelHandlers, type ChannelTiming, openChannel } from "../../transport/api/channel.ts";
import { connect } from "../../transport/api/client.ts";
import { decodeMessage, encodeMessage, type Message } from "../../transport/api/codec.ts";
import { KvferryError } from "../../transport/errors.ts";
import type { FerryEvent } from "../../transport/ferry/ferry.ts";
import { limits } from "../../transport/limits.ts";
import { temporaryFolder, until } from "./world.ts";

function code(wanted: string): (error: unknown) => boolean {
  return (error) => error instanceof KvferryError && error.code === wanted;
}

/** `answer` gives what is sent back for a request, one frame each. */
async function serveBadly(
  t: TestContext,
  answer: (message: Message, socket: WebSocket) => (Message | Uint8Array | string)[],
): Promise<string> {
  const path = join(temporaryFolder(t), "bad.sock");
  const http = createServer();
  const server = new WebSocketServer({ server: http });
  server.on("connection", (socket) => {
    socket.on("message", (data) => {
      for (const frame of answer(decodeMessage(data as Buffer), socket)) {
        socket.send(typeof frame === "string" || frame instanceof Uint8Array ? frame : encodeMessage(frame));
      }
    });
  });
  await new Promise<void>((resolve) => http.listen(path, resolve));
  t.after(() => {
    for (const socket of server.clients) socket.terminate();
    http.close();
  });
  return path;
}

const WELCOME = { version: 1, incarnation: "f".repeat(32), resume: "token", resumed: false, limits: {} };

function open(path: string, handlers: Partial<ChannelHandlers> = {}, timing: Partial<ChannelTiming> = {}) {
  const ignore = { event() {}, lost() {} };
  return openChannel({ path, url: "ws://localhost/", token: "" }, { ...ignore, ...handlers }, timing);
}

test("a request that is never answered ends at its deadline, each at its own, and the connection goes on", async (t) => {
  const path = await serveBadly(t, ({ id, op }) => (op === "answered" ? [{ id, ok: {} }] : []));
  const channel = await open(path, {}, { requestTimeoutMs: 400 });
  const first = channel.request("never", {}, () => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  const second = channel.request("never", {}, () => {});
  await assert.rejects(first, code("deadline_exceeded"));
  await assert.rejects(second, code("deadline_exceeded"));
  await channel.request("answered", {}, () => {});
  await assert.rejects(
    channel.request("never", {}, () => {}),
    code("deadline_exceeded"),
  );
  await channel.close();
});

test("an answer that comes after its deadline is nobody's, and what it gives is given back", async (t) => {
  const undone: unknown[] = [];
  let late: unknown;
  const path = await serveBadly(t, ({ id, op }) => {
    if (op !== "now") {
      late = id;
      return [];
    }
    return [
      { id: late, ok: { wrong: true } },
      { id, ok: { right: true } },
    ];
  });
  const channel = await open(path, {}, { requestTimeoutMs: 400 });
  const later = channel.request(
    "later",
    {},
    () => {},
    (result) => undone.push(result),
  );
  await assert.rejects(later, code("deadline_exceeded"));
  assert.deepEqual(await channel.request("now", {}, (result) => result), { right: true });
  assert.deepEqual(undone, [{ wrong: true }]);
  await channel.close();
});

test("a client that is back names the requests that were not answered, also those whose deadline had passed", async (t) => {
  const hellos: Message[] = [];
  const asked: unknown[] = [];
  let cut = (): void => {};
  const path = await serveBadly(t, (message, socket) => {
    const { id, op } = message;
    if (op === "alloc") asked.push(id);
    if (op !== "hello") return [];
    hellos.push(message);
    cut = () => socket.terminate();
    return [{ id, ok: WELCOME }];
  });
  const client = await connect(path, { requestTimeoutMs: 300 });
  await assert.rejects(client.alloc(1), code("deadline_exceeded"));
  const lost = client.alloc(2);
  await until(() => asked.length === 2);
  cut();
  await assert.rejects(lost, code("connection_lost"));
  await client.reconnect();
  assert.deepEqual(
    hellos.map((hello) => hello["unanswered"]),
    [undefined, asked],
  );
  cut();
});

test("a server that is stopped is given up, and everything that waits is told", async (t) => {
  const path = join(temporaryFolder(t), "stopped.sock");
  const script = `
    const { WebSocketServer } = require("ws"); const http = require("node:http").createServer();
    new WebSocketServer({ server: http }); http.listen(${JSON.stringify(path)}, () => console.log("up"));
  `;
  const server = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => server.kill("SIGKILL"));
  await once(server.stdout, "data");
  let lost = "";
  const channel = await open(path, { lost: (detail) => (lost = detail) }, { pingMs: 20, silentMs: 200 });
  const waiting = channel.request("anything", {}, () => {});
  server.kill("SIGSTOP");
  await assert.rejects(waiting, code("connection_lost"));
  assert.match(lost, /silent/);
  assert.equal(channel.open, false);
  await assert.rejects(
    channel.request("more", {}, () => {}),
    code("connection_lost"),
  );
});

test("frames that are no messages end the connection with a reason", async (t) => {
  for (const frame of ["text", Uint8Array.of(0xc1), new Uint8Array(0)]) {
    let lost = "";
    const path = await serveBadly(t, () => [frame]);
    const channel = await open(path, { lost: (detail) => (lost = detail) });
    await assert.rejects(
      channel.request("anything", {}, () => {}),
      code("connection_lost"),
    );
    assert.notEqual(lost, "");
  }
});

test("answers of another shape are protocol errors of their request alone", async (t) => {
  const answers: Record<string, Message> = {
    hello: { ok: WELCOME },
    alloc: { ok: { ids: Uint8Array.of(1, 0, 0, 0), generations: new Uint8Array(8) } },
    pool: { ok: { path: 5 } },
    lease: { ok: [] },
    free: { error: { code: "of_the_future", detail: "new" } },
    release: { error: "nothing" },
    stats: {},
    fetch: { ok: { transfer: "1" } },
  };
  const path = await serveBadly(t, ({ id, op }) => [{ id, ...answers[op as string] }]);
  const ferry = await connect(path);
  t.after(() => ferry.close());
  const blocks = { ids: Uint32Array.of(1), generations: Uint32Array.of(1) };
  await assert.rejects(ferry.alloc(1), code("protocol_error"));
  await assert.rejects(ferry.pool(), code("protocol_error"));
  await assert.rejects(ferry.lease(1, 0, new Uint8Array(32)), code("protocol_error"));
  await assert.rejects(
    ferry.free(blocks),
    (error) => error instanceof KvferryError && error.code === "internal" && /of_the_future/.test(error.detail),
  );
  await assert.rejects(ferry.release(blocks), code("internal"));
  await assert.rejects(ferry.stats(), code("internal"));
  const request = { peer: "b", model: 1, source: { handle: "h" }, into: [{ group: 0, blocks, tokens: 1 }] };
  await assert.rejects(ferry.fetch(request), code("protocol_error"));
});

test("events that nobody knows are passed over", async (t) => {
  const path = await serveBadly(t, ({ id, op }) => {
    if (op === "hello") return [{ id, ok: WELCOME }];
    return [
      { event: "of the future", x: 1 },
      { event: "layer", transfer: "one" },
      { event: "evicted", keys: new Uint8Array(32) },
      { id, ok: {} },
    ];
  });
  const ferry = await connect(path);
  t.after(() => ferry.close());
  const events: FerryEvent[] = [];
  ferry.on((event) => events.push(event));
  await ferry.release({ ids: new Uint32Array(0), generations: new Uint32Array(0) });
  assert.deepEqual(events, [{ kind: "evicted", keys: new Uint8Array(32) }]);
});

test("requests without an answer are bounded", async (t) => {
  const path = await serveBadly(t, () => []);
  const channel = await open(path);
  const waiting = Array.from({ length: limits.apiPendingMax }, () => channel.request("never", {}, () => {}));
  await assert.rejects(
    channel.request("one more", {}, () => {}),
    code("full"),
  );
  const settled = Promise.allSettled(waiting);
  await channel.close();
  assert.ok((await settled).every(({ status }) => status === "rejected"));
});

test("places where no server is", async (t) => {
  await assert.rejects(connect(join(temporaryFolder(t), "none.sock")), code("connect_failed"));
  await assert.rejects(connect(""), code("invalid_argument"));
  await assert.rejects(connect(`/${"x".repeat(200)}`), code("invalid_argument"));
  await assert.rejects(connect("ws://"), code("invalid_argument"));
  await assert.rejects(connect("/tmp/x", { requestTimeoutMs: 0 }), code("invalid_argument"));
  const deaf = createTcpServer((socket) => socket.end("SSH-2.0-x\r\n"));
  await new Promise<void>((resolve) => deaf.listen(0, "127.0.0.1", resolve));
  t.after(() => deaf.close());
  await assert.rejects(connect(`ws://127.0.0.1:${(deaf.address() as AddressInfo).port}`), code("connect_failed"));
});
