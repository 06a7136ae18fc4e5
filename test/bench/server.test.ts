/**
 * The bench server and clients without manners, over real sockets: who goes while it waits, who comes when nobody can wait any more, who asks
 * out of turn. Method: raw lines; then a well-behaved client must still be served.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { type Call, CONTROL_VERSION, replies } from "../../bench/calls.ts";
import { type Control, dialControl } from "../../bench/control.ts";
import type { BenchServer } from "../../bench/server.ts";
import { KvferryError } from "../../transport/errors.ts";
import { endBench, serveBench } from "./serving.ts";

const OPEN = {
  call: "open",
  version: CONTROL_VERSION,
  link: "js",
  ioThreads: 1,
  poolBytes: 65_536,
  token: "0".repeat(32),
  dataPort: 0,
  way: { lanes: 1, isLocal: true, rateBytesPerSecond: 0, congestionControl: "", socketBufferBytes: 0, dscp: 0 },
  tls: "off",
} as const;
const WORKLOAD = { blockBytes: 1_024, batch: 4, chunkBytes: 4_096, poolBytes: 65_536, seed: 1 };

async function serve(t: TestContext): Promise<BenchServer> {
  const server = await serveBench();
  t.after(() => endBench(server));
  return server;
}

async function knock({ port }: BenchServer): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.on("error", () => {});
  await once(socket, "connect");
  return socket;
}

async function opened(server: BenchServer): Promise<Control> {
  const control = await dialControl("127.0.0.1", server.port);
  await control.call(OPEN, replies.open);
  return control;
}

async function codeOf(control: Control, call: Call): Promise<string> {
  const failure: unknown = await control.call(call, replies.nothing).catch((error: unknown) => error);
  assert.ok(failure instanceof KvferryError, `${call.call} is refused`);
  return failure.code;
}

test("clients that go while they wait do not keep the next one from its turn", async (t) => {
  const server = await serve(t);
  const first = await opened(server);
  for (let client = 0; client < 3; client++) (await knock(server)).resetAndDestroy();
  const last = dialControl("127.0.0.1", server.port);
  first.close();
  const control = await last;
  assert.equal((await control.call(OPEN, replies.open)).link, "js");
  control.close();
});

test("whoever comes when nobody can wait any more is told so, and may go as it likes", async (t) => {
  const server = await serve(t);
  const first = await opened(server);
  const waiting = await Promise.all(Array.from({ length: 8 }, () => knock(server)));
  const late = await knock(server);
  const [answer] = (await once(late, "data")) as [Buffer];
  assert.match(answer.toString(), /"number":7/);
  late.resetAndDestroy();
  for (const socket of waiting) socket.resetAndDestroy();
  assert.equal((await first.call({ call: "use" }, replies.use)).retries, 0);
  first.close();
});

test("a call before the last one was answered ends the connection", async (t) => {
  const server = await serve(t);
  const socket = await knock(server);
  const line = `${JSON.stringify(OPEN)}\n`;
  socket.write(line + line);
  await once(socket, "close");
  (await opened(server)).close();
});

test("calls out of turn are refused by name, and the session goes on", async (t) => {
  const server = await serve(t);
  const control = await dialControl("127.0.0.1", server.port);
  for (const call of [{ call: "admit" }, { call: "use" }, { call: "endCase" }, { call: "poison", slots: [] }] as const) {
    assert.equal(await codeOf(control, call), "protocol_error", call.call);
  }
  await control.call(OPEN, replies.open);
  assert.equal(await codeOf(control, OPEN), "protocol_error");
  const larger = { call: "prepare", workload: { ...WORKLOAD, poolBytes: 131_072 }, write: true, read: true, checksum: true } as const;
  assert.equal(await codeOf(control, larger), "invalid_argument", "not more than the pool that was opened");
  assert.equal(await codeOf(control, { call: "fill", seed: 1, slots: [] }), "protocol_error");
  assert.ok((await control.call({ call: "use" }, replies.use)).residentBytes > 0);
  control.close();
});

test("a workload that would fill memory with descriptions of itself is refused", async () => {
  const { buildWorkload, PLACES_MAX } = await import("../../bench/workload.ts");
  const refused = (error: unknown): boolean => error instanceof KvferryError && error.code === "invalid_argument";
  const gibibyte = 2 ** 30;
  assert.throws(() => buildWorkload({ ...WORKLOAD, blockBytes: 1, batch: 1, poolBytes: 2 * PLACES_MAX }), refused);
  assert.throws(() => buildWorkload({ ...WORKLOAD, blockBytes: gibibyte, batch: 1, chunkBytes: 1, poolBytes: gibibyte }), refused);
});
