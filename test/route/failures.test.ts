/**
 * What goes wrong behind and in front of the proxy. Method: decode engines that refuse, break and die, clients that leave; the bytes that
 * reach the client and the requests that reach the engines are compared whole.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";
import { type Behaviour, hangsUp, json, never, PARAMS, prefills, says, silent } from "./fake-engine.ts";
import { makeWorld, type Reply } from "./world.ts";

const BODY = '{"prompt":"tell me","max_tokens":50}';
const HANDED_OVER = `{"prompt":"tell me","max_tokens":50,"kv_transfer_params":${PARAMS}}`;

function errorOf({ status, headers, body }: Reply): { status: number; code: string; type: string; message: string } {
  assert.equal(headers["content-type"], "application/json");
  const { error } = JSON.parse(body) as { error: { code: string; type: string; message: string; param: null } };
  assert.deepEqual(Object.keys(error), ["message", "type", "param", "code"]);
  return { status, code: error.code, type: error.type, message: error.message };
}

const broken: readonly [string, Behaviour][] = [
  ["hangs up", hangsUp],
  ["answers 503", (_seen, response) => json(response, 503, '{"busy":1}')],
  [
    "dies behind its head",
    (_seen, response) => {
      response.writeHead(200).flushHeaders();
      setTimeout(() => response.destroy(), 20);
    },
  ],
];

for (const [name, behaviour] of broken) {
  test(`a decode engine that ${name} is replaced once, by a plain decode: its hand-over may be spent`, async (t) => {
    const world = await makeWorld(t, { prefill: [prefills], decode: [behaviour, says("second")] });
    const reply = await world.ask("/v1/completions", BODY);
    assert.equal(reply.status, 200);
    assert.match(reply.body, /second/);
    assert.equal((await world.decode[0]!.request(0)).body, HANDED_OVER);
    assert.equal((await world.decode[1]!.request(0)).body, BODY);
    assert.equal(world.said(/^DECODE FAILED/).length, 1);
  });
}

test("a decode engine that was never reached leaves the hand-over to the next", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [never, says("second")] });
  await world.decode[0]!.stop();
  assert.match((await world.ask("/v1/completions", BODY)).body, /second/);
  assert.equal((await world.decode[1]!.request(0)).body, HANDED_OVER);
  await world.metric('kvferry_route_decode_retries_total{reason="unsent"} 1');
});

test("the only decode engine, where it fails with the hand-over, is asked plainly; its other errors are its own", async (t) => {
  const refuses: Behaviour = ({ body }, response) =>
    body.includes("kv_transfer_params") ? json(response, 500, "KV load failure") : json(response, 200, "plain");
  const world = await makeWorld(t, { prefill: [prefills], decode: [refuses] });
  assert.equal((await world.ask("/v1/completions", BODY)).body, "plain");
  world.decode[0]!.behaviour = (_seen, response) => json(response, 500, '{"own":"error"}');
  const reply = await world.ask("/v1/completions", BODY);
  assert.deepEqual([reply.status, reply.body], [500, '{"own":"error"}']);
  world.decode[0]!.behaviour = (_seen, response) => json(response, 404, '{"no":"model"}');
  const wrong = await world.ask("/v1/completions", BODY);
  assert.deepEqual([wrong.status, wrong.body], [404, '{"no":"model"}']);
  assert.equal(world.decode[0]!.seen.length, 5, "a refusal is not asked for twice");
});

test("no decode engine answers: 502; none in time: 504", async (t) => {
  const world = await makeWorld(t, { prefill: [], decode: [hangsUp, hangsUp] }, { prefillTimeoutMs: 50, requestTimeoutMs: 400 });
  const lost = errorOf(await world.ask("/v1/completions", BODY));
  assert.deepEqual([lost.status, lost.code, lost.type], [502, "connection_lost", "server_error"]);
  for (const engine of world.decode) engine.behaviour = silent;
  const late = errorOf(await world.ask("/v1/chat/completions", '{"messages":[{"content":"x"}]}'));
  assert.deepEqual([late.status, late.code], [504, "deadline_exceeded"]);
  await Promise.all(world.decode.flatMap(({ seen }) => seen.slice(1).map(({ gone }) => gone)));
  for (const engine of world.decode) await engine.stop();
  const absent = errorOf(await world.ask("/v1/completions", BODY));
  assert.deepEqual([absent.status, absent.code], [502, "connect_failed"]);
  await world.metric('kvferry_route_requests_total{path="completions",result="5xx"} 2');
});

test("an answer that breaks off is cut off for the client: never ended as if it were whole", async (t) => {
  const dies: Behaviour = (_seen, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: 1\n\n", () => response.destroy());
  };
  const world = await makeWorld(t, { prefill: [prefills], decode: [dies, says("other")] });
  const reply = await world.ask("/v1/completions", BODY);
  assert.deepEqual([reply.status, reply.body, reply.isCutOff], [200, "data: 1\n\n", true]);
  assert.equal(world.decode[1]!.seen.length, 0, "bytes were out: there is no second attempt");
  await world.metric('kvferry_route_requests_total{path="completions",result="cut_off"} 1');
});

test("a client that leaves takes its request away from the engine, in either step and in mid-answer", async (t) => {
  const world = await makeWorld(t, { prefill: [never], decode: [never] });
  const leave = async (engine: { request(index: number): Promise<{ gone: Promise<void> }> }, begun?: Promise<void>): Promise<void> => {
    const leaving = new AbortController();
    const asked = world.ask("/v1/completions", BODY, { signal: leaving.signal });
    const seen = await engine.request(0);
    await begun;
    leaving.abort();
    await asked.catch(() => {});
    await seen.gone;
  };
  await leave(world.prefill[0]!);
  assert.equal(world.decode[0]!.seen.length, 0);
  world.prefill[0]!.behaviour = prefills;
  await leave(world.decode[0]!);
  world.decode[0]!.seen.length = 0;
  world.decode[0]!.behaviour = (_seen, response) => void response.writeHead(200).write("data: 1\n\n");
  await leave(world.decode[0]!);
  await world.metric('kvferry_route_requests_total{path="completions",result="aborted"} 3');
  assert.equal(world.said(/^(FALLBACK|DECODE FAILED|ENGINE DOWN)/).length, 0);
});

test("a connection that the engine closed while it was kept is no failure", async (t) => {
  const world = await makeWorld(t, { prefill: [], decode: [says("one")] });
  await world.ask("/v1/completions", BODY);
  // The engine resets the kept connection with the next request on it, as if its idle time had just ended.
  let isFirst = true;
  world.decode[0]!.behaviour = (seen, response) => {
    if (!isFirst) return says("two")(seen, response);
    isFirst = false;
    response.socket!.resetAndDestroy();
  };
  assert.match((await world.ask("/v1/completions", BODY)).body, /two/);
  assert.equal(world.decode[0]!.seen.length, 3);
  assert.equal(world.said(/^DECODE FAILED/).length, 0);
});

test("a client that reads slowly holds the engine back", async (t) => {
  const piece = Buffer.alloc(256 * 1024, "x");
  let writtenBytes = 0;
  let isHeld: () => void = () => {};
  const held = new Promise<void>((resolve) => (isHeld = resolve));
  const totalBytes = 256 * piece.length;
  const pours: Behaviour = async (_seen, response) => {
    response.writeHead(200);
    while (writtenBytes < totalBytes) {
      writtenBytes += piece.length;
      if (response.write(piece)) continue;
      const timer = setTimeout(isHeld, 1_000);
      await once(response, "drain");
      clearTimeout(timer);
    }
    response.end();
  };
  const world = await makeWorld(t, { prefill: [], decode: [pours] });
  const socket = connect(world.port, "127.0.0.1");
  socket.write(`POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${BODY.length}\r\n\r\n${BODY}`);
  await held;
  assert.ok(writtenBytes < totalBytes, `${writtenBytes} bytes were taken from the engine for a client that reads nothing`);
  let readBytes = 0;
  socket.on("data", (bytes) => (readBytes += bytes.length));
  await once(socket, "close");
  assert.ok(readBytes > totalBytes);
});

const GARBAGE: readonly [name: string, bytes: string][] = [
  ["no HTTP", "220 mail ready\r\n"],
  ["nothing", ""],
  ["a change of protocol", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"],
  ["endless headers", `HTTP/1.1 200 OK\r\nx: ${"x".repeat(100_000)}\r\n\r\n`],
  ["two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"],
  ["a status of 000", "HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\n{}"],
  ["a wrong chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"],
];

for (const [name, bytes] of GARBAGE) {
  test(`an engine that sends ${name} is a failure in either step`, async (t) => {
    const raw = createServer((socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end(bytes));
    }).listen(0, "127.0.0.1");
    await once(raw, "listening");
    t.after(() => raw.close());
    const url = `http://127.0.0.1:${(raw.address() as AddressInfo).port}`;
    const world = await makeWorld(t, { prefill: [], decode: [says("plain")] }, { prefill: [url] });
    assert.match((await world.ask("/v1/completions", BODY)).body, /plain/);
    assert.equal(world.decode[0]!.seen[0]!.body, BODY);
    assert.equal(world.said(/^FALLBACK/).length, 1);
    const only = await makeWorld(t, { prefill: [], decode: [] }, { decode: [url] });
    const error = errorOf(await only.ask("/v1/completions", BODY));
    assert.deepEqual([error.status, error.code], [502, "connection_lost"]);
    const read = errorOf(await only.ask("/v1/models", "", { method: "GET" }));
    assert.equal(read.status, 502);
  });
}
