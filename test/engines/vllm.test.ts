/**
 * The connector for vLLM. Its own unit tests (pytest), then two real engines with a real model beside two real sidecars: whatever becomes of
 * the KV of a prompt of 512 tokens, the answer is the plain run's, token for token, and every block goes back. Runs where `npm run
 * engines:install` has put vLLM and the model.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../engines/demo/processes.ts";
import { type Answer, blocksInUse, engineTest, environment, InProcessEngine, startSidecars, untilSaid, untilUnused } from "./in-process.ts";

const PROMPT_TOKENS = 512;
const COUNT = 16;
/** A router's, as W3C writes it. */
const TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

engineTest("the connector's unit tests pass", async (place, _folder, t) => {
  const project = join(ROOT, "engines/vllm");
  const options = { cwd: project, env: environment, detached: true } as const;
  // A group of its own, so that what the tests have started ends with them.
  const child = spawn(place.python, ["-m", "pytest", "--color=no"], { ...options, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => {
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part: Buffer) => (output = `${output}${part}`.slice(-20_000)));
  const status = await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
  assert.equal(status, 0, `pytest fails:\n${output}`);
});

engineTest(
  "a decode engine answers as by itself: with KV handed over, with another prompt's, and with none because the sidecar died",
  async (place, folder) => {
    const { model } = place;
    const [sender, receiver] = await startSidecars(folder);
    const engines = [sender, receiver].map(({ socket }) => new InProcessEngine(place, { model, socket, stepTokens: PROMPT_TOKENS - 1 }));
    const [prefill, decode] = (await Promise.all(engines.map((engine) => engine.ready()))) as [InProcessEngine, InProcessEngine];
    const answer = (asked: readonly number[], params: Answer["params"], headers = {}): Promise<Answer> =>
      decode.ask({ ids: asked, count: COUNT, params, headers });
    const before = { prefill: await blocksInUse(sender), decode: await blocksInUse(receiver) };
    assert.deepEqual(before, { prefill: 0, decode: 0 });
    const { ids } = await decode.ask({ text: readFileSync(join(ROOT, "engines/llama/prompts/harbour.txt"), "utf8") });
    assert.ok(ids.length >= PROMPT_TOKENS + 100);
    const prompt = ids.slice(0, PROMPT_TOKENS);
    const other = ids.slice(100, 100 + PROMPT_TOKENS);
    const received = async (): Promise<number> => (await receiver.ferry.stats()).bytesReceived;

    const plain = await answer(prompt, null);
    const plainOther = await answer(other, null);
    assert.equal(plain.tokens.length, COUNT);
    assert.notDeepEqual(plain.tokens, plainOther.tokens, "two prompts with one answer would prove nothing");
    assert.equal(await received(), 0);

    const headers = { traceparent: TRACE };
    const handedOver = await answer(prompt, (await prefill.prefill(prompt, { headers })).params, headers);
    assert.deepEqual(handedOver.tokens, plain.tokens);
    const bytes = await received();
    // 30 layers, K and V, 3 heads of 64 values of 2 bytes.
    assert.equal(bytes, PROMPT_TOKENS * 30 * 2 * 3 * 64 * 2);
    assert.equal(handedOver.free, decode.free);
    await Promise.all([untilUnused(sender), untilUnused(receiver)]);
    for (const sidecar of [sender, receiver]) await untilSaid(sidecar, "transfer ended", TRACE);

    const foreign = await answer(other, (await prefill.prefill(prompt)).params);
    assert.deepEqual(foreign.tokens, plainOther.tokens);
    assert.equal(await received(), bytes, "another prompt's KV must not be fetched at all");
    assert.equal(foreign.free, decode.free);

    const { params } = await prefill.prefill(prompt);
    await sender.end("SIGKILL");
    const recomputed = await answer(prompt, params);
    assert.deepEqual(recomputed.tokens, plain.tokens);
    assert.equal(await received(), bytes, "a dead sidecar sends nothing");
    assert.equal(recomputed.free, decode.free);
    await untilUnused(receiver);
  },
);
