/**
 * The two steps as engines see them. Method: engines on node:http remember every byte; the client's answer must be the decode engine's to
 * the byte, and whatever a prefill engine does wrong must end in the client's own bytes at a decode engine, with a line and a metric.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type Behaviour, hangsUp, json, never, PARAMS, prefills, says, silent } from "./fake-engine.ts";
import { makeWorld } from "./world.ts";

/** Odd spaces, a number that no double holds, an escape. */
const BODY = '{ "model":"m", "prompt" : "tell \\u00e9 me", "seed": 9223372036854775807, "max_tokens" :50,"min_tokens":5, "stream":false }';
const DECODED = JSON.stringify({ choices: [{ text: "plain" }] });

test("prefill for one token, then the client's own request with what came back, to the byte", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("plain")] });
  const reply = await world.ask("/v1/completions?a=b", BODY, {
    headers: {
      authorization: "Bearer secret",
      traceparent: "00-1-2-01",
      "x-request-id": "abc-1",
      connection: "close, x-hop",
      "x-hop": "1",
    },
  });
  assert.deepEqual([reply.status, reply.body, reply.isCutOff], [200, DECODED, false]);
  const [first, second] = [await world.prefill[0]!.request(0), await world.decode[0]!.request(0)];
  assert.equal(
    first.body,
    '{"model":"m","prompt":"tell \\u00e9 me","seed":9223372036854775807,"max_tokens":1,"stream":false,' +
      '"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false}}',
  );
  assert.equal(
    second.body,
    '{"model":"m","prompt":"tell \\u00e9 me","seed":9223372036854775807,"max_tokens":50,"min_tokens":5,"stream":false,' +
      `"kv_transfer_params":${PARAMS}}`,
  );
  for (const { url, headers, body } of [first, second]) {
    assert.equal(url, "/v1/completions?a=b");
    assert.equal(headers.authorization, "Bearer secret");
    assert.equal(headers.traceparent, "00-1-2-01");
    assert.equal(headers["x-request-id"], "abc-1");
    assert.equal(headers["x-hop"], undefined);
    assert.equal(headers["content-length"], String(Buffer.byteLength(body)));
  }
  assert.equal(reply.headers["x-request-id"], "abc-1");
  await world.metric('kvferry_route_requests_total{path="completions",result="2xx"} 1');
  await world.metric("kvferry_route_prefills_total 1");
});

test("a chat streams byte by byte, and a trace id is made where none came", async (t) => {
  const events = ['data: {"a":1}\n\n', 'data: {"b":"\u00e9"}\n\n', "data: [DONE]\n\n"];
  let next: () => void = () => {};
  const streams: Behaviour = async (_seen, response) => {
    response.writeHead(200, { "content-type": "text/event-stream", "x-engine": "d" });
    for (const event of events) {
      const taken = new Promise<void>((resolve) => (next = resolve));
      response.write(event);
      await taken;
    }
    response.end();
  };
  const world = await makeWorld(t, { prefill: [prefills], decode: [streams] });
  const body = JSON.stringify({
    messages: [{ role: "user", content: "hi" }],
    stream: true,
    stream_options: { include_usage: true },
    max_completion_tokens: 9,
    n: 1,
  });
  const pieces: string[] = [];
  // Each event is sent only when the one before has reached the client.
  const reply = await world.ask("/v1/chat/completions", body, {
    onData: (piece) => {
      pieces.push(piece);
      next();
    },
  });
  assert.deepEqual(pieces, events);
  assert.equal(reply.headers["x-engine"], "d");
  const [first, second] = [await world.prefill[0]!.request(0), await world.decode[0]!.request(0)];
  assert.deepEqual(JSON.parse(first.body), {
    messages: [{ role: "user", content: "hi" }],
    max_completion_tokens: 1,
    n: 1,
    max_tokens: 1,
    stream: false,
    kv_transfer_params: { do_remote_decode: true, do_remote_prefill: false },
  });
  assert.match(String(first.headers["x-request-id"]), /^[0-9a-f-]{36}$/);
  assert.equal(second.headers["x-request-id"], first.headers["x-request-id"]);
  assert.equal(reply.headers["x-request-id"], first.headers["x-request-id"]);
});

const answers =
  (text: string, status = 200): Behaviour =>
  (_seen, response) =>
    json(response, status, text);

const FALLBACKS: readonly [reason: string, behaviour: Behaviour][] = [
  ["status", answers('{"error":{}}', 500)],
  ["status", answers('{"error":{}}', 400)],
  ["timeout", never],
  ["timeout", silent],
  ["connection_lost", hangsUp],
  [
    "connection_lost",
    (_seen, response) => {
      response.writeHead(200, { "content-length": "100" }).write("{", () => response.destroy());
    },
  ],
  ["no_params", answers('{"choices":[]}')],
  ["no_params", answers('{"kv_transfer_params":null}')],
  ["answer_malformed", answers("<html>")],
  ["answer_malformed", answers("[1]")],
  ["answer_malformed", answers('{"kv_transfer_params":{"a":1}')],
  ["params_malformed", answers('{"kv_transfer_params":["remote"]}')],
  ["params_malformed", answers('{"kv_transfer_params":"remote"}')],
  ["params_malformed", answers('{"kv_transfer_params":{}}')],
  ["params_malformed", answers('{"kv_transfer_params":{"a":1},"kv_transfer_params":{"a":2}}')],
  ["params_too_large", answers(`{"kv_transfer_params":{"a":"${"x".repeat(300_000)}"}}`)],
  ["answer_malformed", answers(`{"kv_transfer_params":{"a":${"[".repeat(500)}${"]".repeat(500)}}}`)],
  ["answer_too_large", answers(`{"a":"${"x".repeat(9 * 2 ** 20)}"}`)],
];

for (const [index, [reason, behaviour]] of FALLBACKS.entries()) {
  test(`a prefill that fails ends in a plain decode: ${reason} (${index})`, async (t) => {
    const world = await makeWorld(
      t,
      { prefill: [behaviour], decode: [says("plain")] },
      { prefillTimeoutMs: reason === "timeout" ? 200 : 60_000 },
    );
    const reply = await world.ask("/v1/completions", BODY);
    assert.deepEqual([reply.status, reply.body], [200, DECODED]);
    assert.equal((await world.decode[0]!.request(0)).body, BODY, "the client's own bytes");
    assert.equal(world.decode[0]!.seen.length, 1);
    await world.metric(`kvferry_route_fallbacks_total{reason="${reason}"} 1`);
    const [line] = world.said(/^FALLBACK/);
    assert.deepEqual([line?.level, line?.fields["reason"], line?.fields["engine"]], ["warn", reason, world.prefill[0]!.url]);
  });
}

test("an absent prefill engine is marked down after three failures, not asked for a while, and then tried again", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("plain")] });
  const [engine] = world.prefill;
  await engine!.stop();
  for (let count = 0; count < 4; count++) assert.equal((await world.ask("/v1/completions", BODY)).body, DECODED);
  await world.metric('kvferry_route_fallbacks_total{reason="connect_failed"} 3');
  await world.metric('kvferry_route_fallbacks_total{reason="prefill_down"} 1');
  await world.metric(`kvferry_route_engine_up{role="prefill",engine="${engine!.url}"} 0`);
  assert.equal(world.said(/^ENGINE DOWN/).length, 1);
  await engine!.start();
  // Until its pause is over it is passed by; the request that finds it open brings it up.
  const giveUpAtMs = performance.now() + 30_000;
  while (engine!.seen.length === 0 && performance.now() < giveUpAtMs) {
    await world.ask("/v1/completions", BODY);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await world.metric(`kvferry_route_engine_up{role="prefill",engine="${engine!.url}"} 1`);
  assert.equal(world.said(/^engine up/).length, 1);
});

const DIRECT: readonly [reason: string, body: object, path?: string][] = [
  ["several_prompts", { prompt: ["a", "b"] }],
  ["several_prompts", { prompt: [[1, 2], [3]] }],
  ["several_choices", { prompt: "a".repeat(99), n: 2 }],
  ["several_choices", { prompt: "a".repeat(99), best_of: 3 }],
  ["several_choices", { prompt: "a".repeat(99), use_beam_search: true }],
  ["prompt_logprobs", { prompt: "a".repeat(99), prompt_logprobs: 0 }],
  ["prompt_logprobs", { prompt: "a".repeat(99), echo: true, logprobs: 1 }],
  ["no_prompt", { prompt_embeds: "AAAA" }],
  ["short", { prompt: "a".repeat(39) }],
  ["short", { prompt: [1, 2, 3, 4, 5, 6, 7, 8, 9] }],
  ["short", { messages: [{ role: "user", content: [{ type: "text", text: "a".repeat(39) }] }] }, "/v1/chat/completions"],
];

test("what one hand-over cannot answer, or is short, goes straight to a decode engine", async (t) => {
  const world = await makeWorld(t, { prefill: [prefills], decode: [says("plain")] }, { minPrefillTokens: 10 });
  const counts = new Map<string, number>();
  for (const [reason, body, path = "/v1/completions"] of DIRECT) {
    const text = JSON.stringify(body);
    assert.equal((await world.ask(path, text)).body, DECODED);
    assert.equal(world.decode[0]!.seen.at(-1)!.body, text, reason);
    counts.set(reason, (counts.get(reason) ?? 0) + 1);
  }
  assert.equal(world.prefill[0]!.seen.length, 0);
  for (const [reason, count] of counts) await world.metric(`kvferry_route_direct_total{reason="${reason}"} ${count}`);
  const image = { messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:" } }] }] };
  for (const [path, body] of [
    ["/v1/completions", { prompt: "a".repeat(40) }],
    ["/v1/completions", { prompt: [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]], n: 1 }],
    ["/v1/chat/completions", image],
  ] as const) {
    await world.ask(path, JSON.stringify(body));
  }
  assert.equal(world.prefill[0]!.seen.length, 3);
});

test("least outstanding, in turn among equals", async (t) => {
  const held: (() => void)[] = [];
  const holds: Behaviour = (_seen, response) => void held.push(() => json(response, 200, "{}"));
  const world = await makeWorld(t, { prefill: [], decode: [holds, holds, holds] });
  const asked = [0, 1, 2, 3, 4, 5].map(() => world.ask("/v1/completions", BODY));
  await Promise.all(world.decode.map((engine) => engine.request(1)));
  assert.deepEqual(
    world.decode.map(({ seen }) => seen.length),
    [2, 2, 2],
  );
  for (const release of held) release();
  for (const reply of await Promise.all(asked)) assert.equal(reply.body, "{}");
});
