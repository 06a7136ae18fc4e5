/**
 * Who may ask for what. Method: requests that lie about prefillers, parameters, paths and encodings are refused before any engine hears of
 * them; what is passed on arrives as it was sent; bounds are answered, not hung on.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import { test } from "node:test";
import { limits } from "../../transport/limits.ts";
import { type Behaviour, json, never, PARAMS, prefills, says } from "./fake-engine.ts";
import { makeWorld, type World } from "./world.ts";

const BODY = '{"prompt":"tell me","max_tokens":50}';

function codeOf(body: string): string {
  return (JSON.parse(body) as { error: { code: string } }).error.code;
}

function heard(world: World): number {
  return [...world.prefill, ...world.decode].reduce((sum, { seen }) => sum + seen.length, 0);
}

test("x-prefiller-host-port names one of the listed engines, or several of them", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills, prefills, prefills], decode: [says("x")] });
  const [, second, third] = world.prefill;
  for (let count = 0; count < 3; count++) {
    await world.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": second!.hostPort } });
  }
  assert.deepEqual(
    world.prefill.map(({ seen }) => seen.length),
    [0, 3, 0],
  );
  await world.ask("/v1/completions", BODY, { headers: { "X-Prefiller-Host-Port": [second!.hostPort, ` ${third!.hostPort}`] } });
  await world.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": `${second!.hostPort}, ${third!.hostPort}` } });
  assert.deepEqual(
    world.prefill.map(({ seen }) => seen.length),
    [0, 4, 1],
  );
  for (const engine of [...world.prefill, ...world.decode]) {
    for (const { headers } of engine.seen) assert.equal(headers["x-prefiller-host-port"], undefined);
  }
});

test("an empty x-prefiller-host-port is none; without --prefill there is none but the named", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("x")] });
  const [engine] = world.prefill;
  const open = await makeWorld(t, { prefill: [], decode: [says("y")] }, { allowPrefiller: ["127.0.0.0/8:*"] });
  await world.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": " , " } });
  assert.equal(engine!.seen.length, 1);
  await open.ask("/v1/completions", BODY);
  assert.equal(open.decode[0]!.seen[0]!.body, BODY);
  await open.metric('kvferry_route_direct_total{reason="no_prefill_engine"} 1');
  await open.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": engine!.hostPort } });
  assert.equal(engine!.seen.length, 2);
  assert.equal(open.decode[0]!.seen[1]!.body, `{"prompt":"tell me","max_tokens":50,"kv_transfer_params":${PARAMS}}`);
  await open.metric('kvferry_route_engine_outstanding{role="prefill",engine="by header"} 0');
});

test("however many prefillers were named, the next is used, and they share their metrics' label", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("x")] }, { allowPrefiller: ["127.0.0.0/8:*"] });
  const other = await makeWorld(t, { prefill: [prefills], decode: [says("y")] });
  const [engine] = other.prefill;
  const ask = (named: string) => world.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": named } });
  const port = engine!.hostPort.split(":")[1]!;
  // Nobody listens at these addresses of this host.
  const absent = Array.from({ length: limits.routeEnginesMax + 16 }, (_, index) => `127.1.${index >> 8}.${index & 0xff}:${port}`);
  while (absent.length > 0) await ask(absent.splice(0, limits.routePrefillersNamedMax).join(","));
  assert.equal((await ask(engine!.hostPort)).status, 200);
  assert.equal(engine!.seen.length, 1);
  await world.metric('kvferry_route_fallbacks_total{reason="connect_failed"} 65');
  const { text } = await world.server.metrics.scrape();
  const labels = new Set(Array.from(text.matchAll(/engine="([^"]*)"/g), ([, label]) => label));
  assert.deepEqual([...labels].sort(), ["by header", ...[...world.prefill, ...world.decode].map(({ url }) => url)].sort());
});

test("a prefiller that is not listed is refused, and nobody hears of the request", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("x")] }, { allowPrefiller: ["10.0.0.0/8:8100", "*.pool:8100"] });
  const outside = await makeWorld(t, { prefill: [], decode: [says("outside")] });
  const listed = world.prefill[0]!.hostPort;
  const port = listed.split(":")[1]!;
  const foreign = outside.decode[0]!.hostPort;
  for (const named of [
    foreign,
    `localhost:${port}`,
    "10.1.2.3:8101",
    "11.0.0.1:8100",
    "evil.pool.example:8100",
    `${listed},${foreign}`,
    "x.pool:80",
  ]) {
    const reply = await world.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": named } });
    assert.deepEqual([reply.status, codeOf(reply.body)], [400, "peer_not_allowed"], named);
    assert.ok(!reply.body.includes(named), "what was sent is not repeated");
  }
  for (const named of ["127.0.0.1", `http://${listed}`, `u@${listed}`, `${listed}/x`, "127.0.0.1:99999", "127.0.0.1:0", "[::1:80"]) {
    const reply = await world.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": named } });
    assert.deepEqual([reply.status, codeOf(reply.body)], [400, "invalid_argument"], named);
  }
  const many = await world.ask("/v1/completions", BODY, { headers: { "x-prefiller-host-port": Array(17).fill(listed).join(",") } });
  assert.equal(many.status, 400);
  assert.equal(heard(world) + heard(outside), 0);
});

test("bodies that engines could read otherwise than the proxy does are refused", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("x")] });
  const forged = '{"do_remote_prefill":true,"remote_host":"10.9.9.9"}';
  const bodies: readonly (string | Buffer)[] = [
    `{"prompt":"x","kv_transfer_params":${forged}}`,
    `{"prompt":"x","kv_transfer\\u005fparams":${forged}}`,
    `{"prompt":"x","vllm_xargs":{"kv_transfer_params":${forged}}}`,
    `{"prompt":"x","kv_transfer_params":null,"kv_transfer_params":${forged}}`,
    '{"prompt":"x","prompt":["a","b"]}',
    `{"prompt":"x","temperature":NaN,"kv_transfer_params":${forged}}`,
    "[]",
    '"x"',
    "{",
    "",
    Buffer.from(`\ufeff{"prompt":"x"}`),
    Buffer.from('{"prompt":"x"}', "utf16le"),
    Buffer.from([...Buffer.from('{"prompt":"'), 0xff, 0xfe, ...Buffer.from('"}')]),
    `{"prompt":"x","a":${"[".repeat(200)}${"]".repeat(200)}}`,
  ];
  for (const body of bodies) {
    const reply = await world.ask("/v1/chat/completions", body);
    assert.deepEqual([reply.status, codeOf(reply.body)], [400, "message_malformed"], String(body).slice(0, 80));
  }
  const zipped = await world.ask("/v1/completions", gzipSync(BODY), { headers: { "content-encoding": "gzip" } });
  assert.deepEqual([zipped.status, codeOf(zipped.body)], [415, "unsupported"]);
  assert.equal(heard(world), 0);
  const reply = await world.ask("/v1/completions", '{"prompt":"x","kv_transfer_params":null}');
  assert.equal(reply.status, 200);
  assert.equal(world.decode[0]!.seen[0]!.body, `{"prompt":"x","kv_transfer_params":${PARAMS}}`);
});

test("paths that an engine reads otherwise are not served", async (t) => {
  const world = await makeWorld(t, { prefill: [], decode: [says("x")] });
  for (const path of [
    "/v1/%63ompletions",
    "/v1//completions",
    "/v1/../metrics",
    "/v1/./completions",
    "/v1",
    "/",
    "/admin",
    "/v2/completions",
    "/v1/a;b",
    "/v1/a\\b",
    "http://127.0.0.1/v1/models",
  ]) {
    const reply = await world.ask(path, BODY);
    assert.deepEqual([reply.status, codeOf(reply.body)], [404, "not_found"], path);
  }
  assert.equal(heard(world), 0);
});

test("everything else under /v1/ passes as it is, streaming both ways", async (t) => {
  let echoed: () => void = () => {};
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("x"), says("y")] });
  const bytes = Buffer.from([0, 255, 1, 254, 13, 10]);
  for (const engine of world.decode) {
    engine.behaviour = (seen, response) => {
      response.writeHead(207, "Odd", { "x-a": ["1", "2"], "set-cookie": ["a=1", "b=2"], "content-type": "application/x-y" });
      response.end(`${seen.method} ${seen.url} ${seen.body}`);
      echoed();
    };
  }
  const models = await world.ask("/v1/models", "", { method: "GET", headers: { authorization: "Bearer k" } });
  assert.deepEqual([models.status, models.body], [207, "GET /v1/models "]);
  assert.deepEqual(models.headers["set-cookie"], ["a=1", "b=2"]);
  const seen = world.decode.flatMap((engine) => engine.seen);
  assert.equal(seen[0]!.headers["authorization"], "Bearer k");
  assert.equal(seen[0]!.headers["transfer-encoding"], undefined);
  const reply = await world.ask("/v1/audio/transcriptions?x=%20", bytes, { headers: { "x-prefiller-host-port": "10.9.9.9:1" } });
  assert.equal(reply.body, `POST /v1/audio/transcriptions?x=%20 ${bytes.toString("utf8")}`);

  // In pieces without a length: the first is at the engine before the last is sent.
  const socket = connect(world.port, "127.0.0.1");
  let answer = "";
  socket.setEncoding("utf8").on("data", (text: string) => (answer += text));
  socket.write("POST /v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  const whole = new Promise<void>((resolve) => (echoed = resolve));
  setTimeout(() => socket.write("2\r\nde\r\n0\r\n\r\n"), 50);
  await whole;
  await once(socket, "close");
  assert.match(answer, /^HTTP\/1\.1 207 Odd\r\n[\s\S]*POST \/v1\/files abcde/);
});

test("a body never becomes a request of its own, whatever the method", async (t) => {
  const world = await makeWorld(t, { prefill: [], decode: [says("x")] });
  const [engine] = world.decode;
  const hidden = "POST /v1/load_lora_adapter HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
  for (const [index, method] of ["DELETE", "GET", "OPTIONS", "PATCH"].entries()) {
    const headers: Record<string, string | string[]> =
      index % 2 === 0 ? { "content-length": [], "transfer-encoding": "chunked" } : { connection: "close, content-length" };
    const reply = await world.ask("/v1/files/a", hidden, { method, headers });
    assert.equal(reply.status, 200);
    assert.deepEqual([engine!.seen.length, engine!.seen[index]!.method, engine!.seen[index]!.body], [index + 1, method, hidden]);
  }
  const head = await world.ask("/v1/models", "", { method: "HEAD" });
  assert.deepEqual([head.status, head.body, engine!.seen.length], [200, "", 5]);
});

test("a passed request that only reads is asked again elsewhere; one with a body is not", async (t) => {
  const world = await makeWorld(t, { prefill: [], decode: [never, says("second")] });
  await world.decode[0]!.stop();
  assert.match((await world.ask("/v1/models", "", { method: "GET" })).body, /second/);
  const both = [await world.ask("/v1/embeddings", "{}"), await world.ask("/v1/embeddings", "{}")];
  assert.deepEqual(both.map(({ status }) => status).sort(), [200, 502]);
});

test("a body that is too long is refused, by its length or by what arrives", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("x")] }, { bodyBytesMax: "64KiB" });
  const long = `{"prompt":"${"x".repeat(200_000)}"}`;
  for (const path of ["/v1/completions", "/v1/embeddings"]) {
    const said = await world.ask(path, long);
    assert.deepEqual([said.status, codeOf(said.body)], [413, "message_too_large"]);
    const chunked = await world.ask(path, long, { headers: { "content-length": [], "transfer-encoding": "chunked" } });
    assert.deepEqual([chunked.status, codeOf(chunked.body)], [413, "message_too_large"]);
  }
  assert.equal(world.prefill[0]!.seen.length, 0);
  assert.equal((await world.ask("/v1/completions", BODY)).status, 200);
  await world.metric("kvferry_route_requests_running 0");
});

test("bodies that wait fill the memory kept for them, and give it back", async (t) => {
  const world = await makeWorld(t, { prefill: [], decode: [never] }, { bodyBytesMax: "64KiB", bodiesBytesMax: "64KiB" });
  const body = `{"prompt":"${"x".repeat(40_000)}"}`;
  const leaving = new AbortController();
  const first = world.ask("/v1/completions", body, { signal: leaving.signal });
  const { gone } = await world.decode[0]!.request(0);
  await world.metric(`kvferry_route_body_bytes_held ${body.length}`);
  const refused = await world.ask("/v1/completions", body);
  assert.deepEqual([refused.status, codeOf(refused.body)], [503, "full"]);
  await world.metric(`kvferry_route_body_bytes_held ${body.length}`);
  leaving.abort();
  await first.catch(() => {});
  await gone;
  world.decode[0]!.behaviour = says("x");
  assert.equal((await world.ask("/v1/completions", body)).status, 200);
});

test("a body that comes too slowly is waited for until the request's time or a drain ends, and its bytes are given back", async (t) => {
  const drain = async (world: World): Promise<void> => {
    await world.metric("kvferry_route_body_bytes_held 11");
    await world.server.stop(1);
  };
  const ends = [
    { input: { prefillTimeoutMs: 50, requestTimeoutMs: 300 }, end: () => {}, status: 504, code: "deadline_exceeded" },
    { input: {}, end: drain, status: 503, code: "draining" },
  ];
  for (const { input, end, status, code } of ends) {
    const world = await makeWorld(t, { prefill: [prefills], decode: [says("x")] }, input);
    const socket = connect(world.port, "127.0.0.1");
    socket.write('POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"prompt":"');
    const answered = once(socket, "data");
    await end(world);
    await world.metric('kvferry_route_requests_total{path="completions",result="5xx"} 1');
    await world.metric("kvferry_route_body_bytes_held 0");
    assert.match(String(await answered), new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*"code":"${code}"`));
    assert.equal(world.server.running + heard(world), 0);
    socket.destroy();
  }
});

test("headers that are too long are refused by their server, and a large body of an allowed size arrives whole", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("x")] });
  const reply = await world.ask("/v1/completions", BODY, { headers: { "x-long": "x".repeat(limits.routeHeaderBytes + 1) } });
  assert.equal(reply.status, 431);
  const text = `quotes \\" and \\\\ ${"\u00e9".repeat(4 * 2 ** 20)}`;
  assert.equal((await world.ask("/v1/completions", `{"prompt":"${text}"}`)).status, 200);
  assert.equal(world.decode[0]!.seen[0]!.body, `{"prompt":"${text}","kv_transfer_params":${PARAMS}}`);
});

test("more requests than allowed are told so; health and metrics are served beside them", async (t) => {
  const held: (() => void)[] = [];
  const holds: Behaviour = (_seen, response) => void held.push(() => json(response, 200, "{}"));
  const world = await makeWorld(t, { prefill: [], decode: [holds] }, { requestsMax: 2 });
  const asked = [world.ask("/v1/completions", BODY), world.ask("/v1/completions", BODY)];
  await world.decode[0]!.request(1);
  const refused = await world.ask("/v1/completions", BODY);
  assert.deepEqual([refused.status, codeOf(refused.body), refused.headers["retry-after"]], [503, "full", "1"]);
  assert.deepEqual([(await world.ask("/healthz", "", { method: "GET" })).body], ["ok\n"]);
  const metrics = await world.ask("/metrics", "", { method: "GET" });
  assert.match(metrics.body, /^kvferry_route_requests_running 2$/m);
  assert.match(String(metrics.headers["content-type"]), /^text\/plain/);
  for (const release of held) release();
  for (const reply of await Promise.all(asked)) assert.equal(reply.status, 200);
});

test("a drain lets what runs end, refuses what is new, and cuts off what does not end", async (t) => {
  let release: () => void = () => {};
  const holds: Behaviour = (_seen, response) => void (release = () => json(response, 200, '{"whole":1}'));
  const world = await makeWorld(t, { prefill: [], decode: [holds] });
  const asked = world.ask("/v1/completions", BODY);
  await world.decode[0]!.request(0);
  const stopped = world.server.stop(60_000);
  const refused = await world.ask("/v1/completions", BODY);
  assert.deepEqual([refused.status, codeOf(refused.body)], [503, "draining"]);
  assert.equal((await world.ask("/healthz", "", { method: "GET" })).status, 503);
  release();
  assert.equal((await asked).body, '{"whole":1}');
  assert.equal(await stopped, true);

  const other = await makeWorld(t, { prefill: [], decode: [never] });
  const cut = other.ask("/v1/completions", BODY);
  const { gone } = await other.decode[0]!.request(0);
  assert.equal(await other.server.stop(10), false);
  const reply = await cut;
  assert.deepEqual([reply.status, codeOf(reply.body)], [503, "draining"]);
  await gone;
});

test("a trace id that a log could not hold is replaced", async (t) => {
  const world = await makeWorld(t, { prefill: [], decode: [says("x")] });
  for (const given of ["a b", "x".repeat(limits.routeTraceCharacters + 1), 'a"b', ["one", "two"]]) {
    const reply = await world.ask("/v1/completions", BODY, { headers: { "x-request-id": given } });
    assert.match(String(reply.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
    assert.equal(world.decode[0]!.seen.at(-1)!.headers["x-request-id"], reply.headers["x-request-id"]);
  }
});
