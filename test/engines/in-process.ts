/** Engines of vLLM as the tests run them: a process each (engines/vllm/tests/in_process.py), asked line by line, beside a sidecar each. */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, test, type TestContext } from "node:test";
import { findVllm, type VllmPlace } from "../../bench/engines/vllm.ts";
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

const TEST_MS = 270_000;
const START_SECONDS = 180;
const ANSWER_SECONDS = 60;
const SETTLE_MS = 20_000;
const POOL = { "pool-bytes": "64MiB", "pool-huge-pages": "off", "log-level": "debug", allow: "127.0.0.1" };

/** The packages of this checkout, whichever the environment was made from. */
export const environment = {
  ...process.env,
  PYTHONPATH: [join(ROOT, "engines/python/src"), join(ROOT, "engines/vllm/src")].join(":"),
};

export type Flags = Readonly<Record<string, string>>;

/** What a cache group holds: digests of each piece of KV, layer by layer, by the piece's first token. */
export interface HeldGroup {
  readonly window: number | null;
  /** Of a block. */
  readonly tokens: number;
  readonly pieces: Readonly<Record<string, readonly string[]>>;
}

export interface Seen {
  /** When a load had ended, before anything was computed with it. */
  readonly loaded: readonly HeldGroup[] | null;
  readonly computed: readonly HeldGroup[];
  /** Tokens of the prompt that this engine has computed. */
  readonly computedTokens: number;
}

export interface Answer {
  readonly tokens: readonly number[];
  readonly params: Readonly<Record<string, unknown>> | null;
  readonly free: number;
  /** Loads so far. */
  readonly loads: number;
  /** Where it was watched: of every possible first token. */
  readonly logprobs: readonly number[];
  /** Where it was watched; null: the caches lie in workers. */
  readonly seen: Seen | null;
  readonly ids: readonly number[];
}

export interface Ask {
  readonly headers?: Readonly<Record<string, string>>;
  readonly watch?: boolean;
}

export interface EngineOptions {
  readonly model: string;
  readonly socket: string;
  /** The most tokens of a prompt that a step computes. */
  readonly stepTokens: number;
  /** As in_process.py explains them. */
  readonly made?: boolean;
  readonly beside?: string;
  readonly connector?: Readonly<Record<string, unknown>>;
  readonly engine?: Readonly<Record<string, unknown>>;
}

/** A test with vLLM, in a folder of its own; skipped, with the reason, where there is none. */
export function engineTest(name: string, run: (place: VllmPlace, folder: string, t: TestContext) => Promise<void>): void {
  const found = findOrWhy();
  if (typeof found === "string") {
    test(name, { skip: found });
    return;
  }
  const folder = scratchFolder();
  test(name, { timeout: TEST_MS }, (t) => run(found, folder, t));
}

/** vLLM and the model, or why there is none here. */
function findOrWhy(): VllmPlace | string {
  try {
    return findVllm();
  } catch (error) {
    return (error as Error).message;
  }
}

/** In memory where there is some. After the tests it is gone, and so is what they have started. */
function scratchFolder(): string {
  const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "kvferry-vllm-"));
  after(() => {
    endAll();
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

export class InProcessEngine {
  readonly #child: ChildProcess;
  readonly #waiting: ((line: string) => void)[] = [];
  readonly #gone: Promise<never>;
  free = 0;

  constructor(place: VllmPlace, { model, socket, stepTokens, ...options }: EngineOptions) {
    const script = join(ROOT, "engines/vllm/tests/in_process.py");
    this.#child = startProgram(place.python, [script, model, socket, String(stepTokens), JSON.stringify(options)], environment);
    this.#gone = new Promise((_, reject) =>
      this.#child.once("close", (code, signal) => reject(new Error(`an engine ended (${signal ?? code}): ${this.words}`))),
    );
    this.#gone.catch(() => undefined);
    createInterface({ input: this.#child.stdout! }).on("line", (line) => this.#waiting.shift()?.(line));
  }

  get words(): string {
    return wordsOf(this.#child);
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

  /** A prefill for somebody else, whose answer says where its KV is. */
  async prefill(ids: readonly number[], more: Ask = {}): Promise<Answer> {
    const answer = await this.ask({ ids, count: 1, params: { do_remote_decode: true, do_remote_prefill: false }, ...more });
    assert.ok(answer.params !== null, `the prefill does not say where its KV is: ${this.words}`);
    return answer;
  }

  async #next(seconds: number, message: string): Promise<Answer> {
    const line = new Promise<string>((resolve) => this.#waiting.push(resolve));
    return JSON.parse(await within(Promise.race([line, this.#gone]), seconds, message)) as Answer;
  }
}

/** Of a prefill and of a decode engine. */
export async function startSidecars(folder: string, more: Flags = {}): Promise<readonly [SidecarProcess, SidecarProcess]> {
  return [await startPooled(folder, "prefill", more), await startPooled(folder, "decode", more)];
}

/** Its socket is NAME.sock in the folder. */
export async function startPooled(folder: string, name: string, more: Flags = {}): Promise<SidecarProcess> {
  return startSidecar({ ...POOL, ...more, name, "pool-directory": folder }, join(folder, `${name}.sock`), await freeAddress());
}

export async function blocksInUse({ ferry }: SidecarProcess): Promise<number> {
  const { pool } = await ferry.stats();
  return pool.held + pool.leased + pool.pinned + pool.quarantined;
}

export async function untilUnused(sidecar: SidecarProcess): Promise<void> {
  for (const started = Date.now(); (await blocksInUse(sidecar)) > 0; await pause(50)) {
    assert.ok(Date.now() - started < SETTLE_MS, `${await blocksInUse(sidecar)} blocks of ${sidecar.socket} are still in use`);
  }
}

/** A line of its log has all the parts. */
export async function untilSaid(sidecar: SidecarProcess, ...parts: readonly string[]): Promise<void> {
  const said = (): boolean =>
    sidecar
      .words()
      .split("\n")
      .some((line) => parts.every((part) => line.includes(part)));
  for (const started = Date.now(); !said(); await pause(50)) {
    assert.ok(Date.now() - started < SETTLE_MS, `the log of ${sidecar.socket} does not say "${parts.join(" ... ")}": ${sidecar.words()}`);
  }
}
