/**
 * The connector for vLLM. Its own unit tests (pytest), then two real engines with a real model beside two real sidecars: whatever becomes of
 * the KV of a prompt of 512 tokens, the answer is the plain run's, token for token, and every block goes back. Runs where `npm run
 * engines:install` has put vLLM and the model.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { findVllm } from "../../bench/engines/vllm.ts";
import {
  endAll,
  freeAddress,
  pause,
  ROOT,
  type SidecarProcess,
  startProgram,
  startSidecar,
  within,
  wordsOf,
} from "../../engines/demo/processes.ts";

const PROMPT_TOKENS = 512;
const COUNT = 16;
const START_SECONDS = 120;
const ANSWER_SECONDS = 60;
const SETTLE_MS = 20_000;
const POOL = { "pool-bytes": "64MiB", "pool-huge-pages": "off", "log-level": "warn" };

const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "kvferry-vllm-"));
after(() => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});

const found = find();
const skip = typeof found === "string" ? found : false;

function find(): ReturnType<typeof findVllm> | string {
  try {
    return findVllm();
  } catch (error) {
    return (error as Error).message;
  }
}

/** The packages of this checkout, whichever the environment was made from. */
const environment = {
  ...process.env,
  PYTHONPATH: [join(ROOT, "engines/python/src"), join(ROOT, "engines/vllm/src")].join(":"),
};

interface Answer {
  readonly tokens: readonly number[];
  readonly params: Readonly<Record<string, unknown>> | null;
  readonly free: number;
  readonly ids: readonly number[];
}

class Engine {
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];
  readonly #gone: Promise<never>;
  free = 0;

  constructor(socket: string) {
    assert.ok(typeof found !== "string");
    const script = join(ROOT, "engines/vllm/tests/in_process.py");
    this.#child = startProgram(found.python, [script, found.model, socket, String(PROMPT_TOKENS - 1)], environment);
    this.#gone = new Promise((_, reject) =>
      this.#child.once("close", (code, signal) => reject(new Error(`an engine ended (${signal ?? code}): ${wordsOf(this.#child)}`))),
    );
    this.#gone.catch(() => undefined);
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.#waiting.shift()?.(line));
  }

  async ready(): Promise<this> {
    this.free = (await this.#next(START_SECONDS, "an engine did not start")).free;
    return this;
  }

  async ask(command: Readonly<Record<string, unknown>>): Promise<Answer> {
    const answer = this.#next(ANSWER_SECONDS, "an engine did not answer");
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`);
    return answer;
  }

  /** A prefill for somebody else. */
  async prefill(ids: readonly number[]): Promise<Readonly<Record<string, unknown>>> {
    const { params } = await this.ask({ ids, count: 1, params: { do_remote_decode: true, do_remote_prefill: false } });
    assert.ok(params !== null, `the prefill does not say where its KV is: ${wordsOf(this.#child)}`);
    return params;
  }

  decode(ids: readonly number[], params: Readonly<Record<string, unknown>> | null): Promise<Answer> {
    return this.ask({ ids, count: COUNT, params });
  }

  async #next(seconds: number, message: string): Promise<Answer> {
    const line = new Promise<string>((resolve) => this.#waiting.push(resolve));
    return JSON.parse(await within(Promise.race([line, this.#gone]), seconds, message)) as Answer;
  }
}

async function blocksInUse({ ferry }: SidecarProcess): Promise<number> {
  const { pool } = await ferry.stats();
  return pool.held + pool.leased + pool.pinned + pool.quarantined;
}

async function untilUnused(sidecar: SidecarProcess): Promise<void> {
  for (const started = Date.now(); (await blocksInUse(sidecar)) > 0; await pause(50)) {
    assert.ok(Date.now() - started < SETTLE_MS, `${await blocksInUse(sidecar)} blocks of ${sidecar.socket} are still in use`);
  }
}

async function startPair(): Promise<readonly [SidecarProcess, SidecarProcess]> {
  const start = async (name: string): Promise<SidecarProcess> =>
    startSidecar({ ...POOL, name, "pool-directory": folder, allow: "127.0.0.1" }, join(folder, `${name}.sock`), await freeAddress());
  return [await start("prefill"), await start("decode")];
}

test("the connector's unit tests pass", { skip, timeout: 170_000 }, async (t) => {
  assert.ok(typeof found !== "string");
  const project = join(ROOT, "engines/vllm");
  const options = { cwd: project, env: environment, detached: true } as const;
  // A group of its own, so that what the tests have started ends with them.
  const child = spawn(found.python, ["-m", "pytest", "--color=no"], { ...options, stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => {
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (part: Buffer) => (output = `${output}${part}`.slice(-20_000)));
  const status = await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
  assert.equal(status, 0, `pytest fails:\n${output}`);
});

test("a decode engine answers as by itself: with KV handed over, with another prompt's, and with none because the sidecar died", {
  skip,
  timeout: 175_000,
}, async () => {
  const [sender, receiver] = await startPair();
  const [prefill, decode] = await Promise.all([new Engine(sender.socket).ready(), new Engine(receiver.socket).ready()]);
  const before = { prefill: await blocksInUse(sender), decode: await blocksInUse(receiver) };
  assert.deepEqual(before, { prefill: 0, decode: 0 });
  const { ids } = await decode.ask({ text: readFileSync(join(ROOT, "engines/llama/prompts/harbour.txt"), "utf8") });
  assert.ok(ids.length >= PROMPT_TOKENS + 100);
  const prompt = ids.slice(0, PROMPT_TOKENS);
  const other = ids.slice(100, 100 + PROMPT_TOKENS);
  const received = async (): Promise<number> => (await receiver.ferry.stats()).bytesReceived;

  const plain = await decode.decode(prompt, null);
  const plainOther = await decode.decode(other, null);
  assert.equal(plain.tokens.length, COUNT);
  assert.notDeepEqual(plain.tokens, plainOther.tokens, "two prompts with one answer would prove nothing");
  assert.equal(await received(), 0);

  const handedOver = await decode.decode(prompt, await prefill.prefill(prompt));
  assert.deepEqual(handedOver.tokens, plain.tokens);
  const bytes = await received();
  // 30 layers, K and V, 3 heads of 64 values of 2 bytes.
  assert.equal(bytes, PROMPT_TOKENS * 30 * 2 * 3 * 64 * 2);
  assert.equal(handedOver.free, decode.free);
  await Promise.all([untilUnused(sender), untilUnused(receiver)]);

  const foreign = await decode.decode(other, await prefill.prefill(prompt));
  assert.deepEqual(foreign.tokens, plainOther.tokens);
  assert.equal(await received(), bytes, "another prompt's KV must not be fetched at all");
  assert.equal(foreign.free, decode.free);

  const params = await prefill.prefill(prompt);
  await sender.end("SIGKILL");
  const recomputed = await decode.decode(prompt, params);
  assert.deepEqual(recomputed.tokens, plain.tokens);
  assert.equal(await received(), bytes, "a dead sidecar sends nothing");
  assert.equal(recomputed.free, decode.free);
  await untilUnused(receiver);
});
