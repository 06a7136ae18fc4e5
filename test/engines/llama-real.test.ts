/**
 * Real engine processes on a real model, beside real sidecars: what was ferried continues exactly as what was computed, also after either
 * sidecar was killed and came back. Runs where `npm run demo` has put node-llama-cpp and the model; about 130 tokens a time.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { hasLlama } from "../../engines/llama/demo/install.ts";
import { endAll, freeAddress, type SidecarProcess, startEngine, startSidecar } from "../../engines/llama/demo/processes.ts";
import { openRuntime } from "../../engines/llama/runtime.ts";
import type { Decoded, Ticket } from "../../engines/llama/protocol.ts";

const MODEL = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kvferry/models/SmolLM2-135M-Instruct.Q4_1.gguf");
const HARBOUR = readFileSync(join(import.meta.dirname, "../../engines/llama/prompts/harbour.txt"), "utf8");
const PROMPT = HARBOUR.slice(0, 600);
const NEW_TOKENS = 24;
const FLAGS = { "pool-bytes": "16MiB", "pool-block-bytes": "64KiB", "pool-huge-pages": "off", "log-level": "warn" };

function reasonToSkip(): string | false {
  if (!hasLlama()) return "node-llama-cpp is not in engines/llama/node_modules (npm run demo puts it there)";
  return existsSync(MODEL) ? false : `there is no ${MODEL} (npm run demo puts it there)`;
}

const skip = reasonToSkip();
const folder = mkdtempSync(join(tmpdir(), "kvferry-llama-"));
after(() => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});

test("the demo's prompt is 1,024 tokens", { skip }, async () => {
  const runtime = await openRuntime({ modelPath: MODEL, contextTokens: 64, log: () => undefined });
  assert.equal(runtime.tokenize(HARBOUR).length, 1_024);
  await runtime.close();
});

test("KV ferried between engine processes continues as computed KV does, whatever happens to the sidecars", {
  skip,
  timeout: 170_000,
}, async () => {
  const addresses = { prefill: await freeAddress(), decode: await freeAddress() };
  const start = (name: "prefill" | "decode"): Promise<SidecarProcess> => {
    const peers = { decode: { peers: `prefill=${addresses.prefill}` }, prefill: {} }[name];
    return startSidecar({ ...FLAGS, ...peers, name, "pool-directory": folder }, join(folder, `${name}.sock`), addresses[name]);
  };
  let [prefillSidecar, decodeSidecar] = await Promise.all([start("prefill"), start("decode")]);
  const prefillEngine = await startEngine(prefillSidecar.socket, MODEL, 512);
  const decodeEngine = await startEngine(decodeSidecar.socket, MODEL, 512);
  assert.equal(prefillEngine.ready.fingerprint, decodeEngine.ready.fingerprint);
  const prefill = async (): Promise<Ticket> => (await prefillEngine.ask("prefilled", { op: "prefill", prompt: PROMPT })).ticket;
  const decode = (ticket?: Ticket): Promise<Decoded> => {
    const from = ticket === undefined ? {} : { from: { peer: "prefill", ticket, deadlineMs: 4_000 } };
    return decodeEngine.ask("decoded", { op: "decode", prompt: PROMPT, count: NEW_TOKENS, ...from });
  };

  const computed = await decode();
  assert.equal(computed.tokens.length, NEW_TOKENS);
  const expect = async (ticket: Ticket, via: Decoded["via"]): Promise<Decoded> => {
    const run = await decode(ticket);
    assert.equal(run.via, via, run.failure?.message);
    assert.deepEqual(run.tokens, computed.tokens);
    return run;
  };

  const first = await prefill();
  assert.equal((await expect(first, "ferried")).report?.bytes, first.blocks * 65_536);
  assert.equal((await expect(first, "computed")).failure?.code, "handle_unknown", "a handle is spent once");

  // The receiver's own sidecar dies: no way to fetch, until it is back; the engine was never restarted.
  const second = await prefill();
  await decodeSidecar.end("SIGKILL");
  await expect(second, "computed");
  decodeSidecar = await start("decode");
  await expect(second, "ferried");

  // The sender's sidecar dies with the KV in it: what it held is gone, and the next prefill works.
  const third = await prefill();
  await prefillSidecar.end("SIGKILL");
  await expect(third, "computed");
  prefillSidecar = await start("prefill");
  await expect(third, "computed");
  await expect(await prefill(), "ferried");
  assert.equal(await prefillSidecar.end("SIGTERM"), 0);
  assert.equal(await decodeSidecar.end("SIGTERM"), 0);
});
