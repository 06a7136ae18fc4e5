/** vLLM's HTTP server as the bench starts, asks, watches and ends it. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { KvferryError } from "../../transport/errors.ts";
import { cacheFolder } from "../cache.ts";
import { endWithUs, freePort } from "../process.ts";

export const VLLM_VERSION = "0.32.0";
const START_MS = 240_000;
const LOOK_MS = 60_000;
const CLOCK_TICKS = 100;
const MODEL = "SmolLM2-135M-Instruct-hf";

export interface VllmPlace {
  readonly python: string;
  readonly model: string;
}

export interface VllmOptions {
  readonly name: string;
  readonly place: VllmPlace;
  /** Where its log goes. */
  readonly folder: string;
  /** vLLM's --kv-transfer-config; undefined: an engine by itself. */
  readonly transfer?: Readonly<Record<string, unknown>>;
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface Completion {
  readonly text: string;
  readonly tokens: readonly string[];
  /** How much likelier each token was than the next best, in nats; 0 is a tie. */
  readonly leads: readonly number[];
  /** From the request to the first token, in milliseconds. */
  readonly firstMs: number;
  readonly totalMs: number;
  readonly params: Readonly<Record<string, unknown>> | undefined;
}

export interface Ask {
  readonly prompt: readonly number[];
  readonly maxTokens: number;
  /** false: only the text, which costs the engine less. */
  readonly asTokens?: boolean;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly signal?: AbortSignal;
}

/** Throws unsupported, with the command that installs it. */
export function findVllm(): VllmPlace {
  const python = join(cacheFolder(), `vllm-${VLLM_VERSION}`, "bin", "python");
  const model = join(cacheFolder(), "models", MODEL);
  if (existsSync(python) && existsSync(join(model, ".complete"))) return { python, model };
  throw new KvferryError("unsupported", "vLLM is not installed: npm run engines:install");
}

export class Vllm {
  readonly name: string;
  readonly url: string;
  readonly #child: ChildProcess;
  readonly #log: string;

  private constructor(name: string, url: string, child: ChildProcess, log: string) {
    this.name = name;
    this.url = url;
    this.#child = child;
    this.#log = log;
  }

  /** Resolves when it answers. Throws unsupported with its last words if it does not. */
  static async start(options: VllmOptions): Promise<Vllm> {
    const port = await freePort();
    const log = join(options.folder, `${options.name}.log`);
    const out = openSync(log, "a");
    const args = [
      ...["-m", "vllm.entrypoints.openai.api_server", "--model", options.place.model, "--served-model-name", "model"],
      ...["--host", "127.0.0.1", "--port", String(port), "--dtype", "bfloat16", "--enforce-eager", "--max-model-len", "8192"],
      // The worker within the engine's process: as two, each spins for a second after whatever it did, on cores that others wait for.
      ...["--distributed-executor-backend", "uni"],
      ...(options.transfer === undefined ? [] : ["--kv-transfer-config", JSON.stringify(options.transfer)]),
      ...(options.flags ?? []),
    ];
    // A group of its own: a server is three processes, and all of them end together.
    const child = endWithUs(
      spawn(options.place.python, args, { detached: true, stdio: ["ignore", out, out], env: { ...environment(), ...options.env } }),
    );
    closeSync(out);
    const server = new Vllm(options.name, `http://127.0.0.1:${port}`, child, log);
    await server.#untilReady();
    return server;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async healthy(): Promise<boolean> {
    const answer = await fetch(`${this.url}/health`, { signal: AbortSignal.timeout(5_000) }).catch(() => undefined);
    return answer?.ok === true;
  }

  complete(ask: Ask): Promise<Completion> {
    return complete(this.name, this.url, ask);
  }

  /** A prefill for somebody else: what it says about where its KV is. */
  async prefill({ prompt, signal }: Pick<Ask, "prompt" | "signal">): Promise<Completion> {
    const started = performance.now();
    const response = await fetch(`${this.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: "model",
        prompt,
        max_tokens: 1,
        temperature: 0,
        kv_transfer_params: { do_remote_decode: true, do_remote_prefill: false },
      }),
      signal: signal ?? AbortSignal.timeout(START_MS),
    });
    if (!response.ok) throw new Error(`${this.name}: HTTP ${response.status} ${await response.text()}`);
    const answer = (await response.json()) as { kv_transfer_params?: Record<string, unknown> | null };
    const totalMs = performance.now() - started;
    return { text: "", tokens: [], leads: [], firstMs: totalMs, totalMs, params: answer.kv_transfer_params ?? undefined };
  }

  async tokenize(text: string): Promise<number[]> {
    const response = await fetch(`${this.url}/tokenize`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ model: "model", prompt: text, add_special_tokens: false }),
    });
    return ((await response.json()) as { tokens: number[] }).tokens;
  }

  async forgetPrefixes(): Promise<void> {
    const response = await fetch(`${this.url}/reset_prefix_cache`, { method: "POST", signal: AbortSignal.timeout(LOOK_MS) });
    if (!response.ok) throw new Error(`${this.name}: reset_prefix_cache: HTTP ${response.status}`);
  }

  /** The value of a metric, summed over its labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`${this.url}/metrics`, { signal: AbortSignal.timeout(LOOK_MS) })).text();
    return text
      .split("\n")
      .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
  }

  /** Of all its processes, in seconds. */
  cpuSeconds(): number {
    return groupCpuSeconds(this.pid);
  }

  /** To all of its processes. */
  signal(signal: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, signal);
    } catch {
      // The group is empty.
    }
  }

  async end(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    if (!this.alive) return this.signal("SIGKILL");
    const gone = new Promise<void>((resolve) => this.#child.once("close", () => resolve()));
    if (signal === "SIGTERM") this.#child.kill("SIGTERM");
    else this.signal("SIGKILL");
    const timer = setTimeout(() => this.signal("SIGKILL"), 15_000);
    await gone;
    clearTimeout(timer);
    this.signal("SIGKILL");
  }

  async #untilReady(): Promise<void> {
    for (const started = Date.now(); Date.now() - started < START_MS; await pause(250)) {
      if (!this.alive) break;
      if (await this.healthy()) return;
    }
    const words = readFileSync(this.#log, "utf8").slice(-2_000);
    await this.end("SIGKILL");
    throw new KvferryError("unsupported", `${this.name} did not start: ${words}`);
  }
}

/** A streamed completion of an engine, or of what stands in front of engines. */
export async function complete(
  name: string,
  url: string,
  { prompt, maxTokens, asTokens = true, params, signal }: Ask,
): Promise<Completion> {
  const started = performance.now();
  const plain = { model: "model", prompt, max_tokens: maxTokens, temperature: 0, stream: true, ignore_eos: true };
  const body = asTokens ? { ...plain, logprobs: 2 } : plain;
  const response = await fetch(`${url}/v1/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(params === undefined ? body : { ...body, kv_transfer_params: params }),
    signal: signal ?? AbortSignal.timeout(START_MS),
  });
  if (!response.ok || response.body === null) throw new Error(`${name}: HTTP ${response.status} ${await response.text()}`);
  let firstMs = Number.NaN;
  let text = "";
  const tokens: string[] = [];
  const leads: number[] = [];
  for await (const event of events(response.body)) {
    const choice = event.choices?.[0];
    if (choice === undefined) continue;
    if (Number.isNaN(firstMs)) firstMs = performance.now() - started;
    text += choice.text ?? "";
    tokens.push(...(choice.logprobs?.tokens ?? []));
    for (const likely of choice.logprobs?.top_logprobs ?? []) {
      const [first = 0, second = -1_000] = Object.values(likely ?? {}).sort((a, b) => b - a);
      leads.push(first - second);
    }
  }
  return { text, tokens, leads, firstMs, totalMs: performance.now() - started, params: undefined };
}

/** One thread an engine and no spinning: engines share these cores with each other and with sidecars. */
function environment(): NodeJS.ProcessEnv {
  return {
    ...process.env,
    HF_HUB_OFFLINE: "1",
    VLLM_NO_USAGE_STATS: "1",
    VLLM_SERVER_DEV_MODE: "1",
    // Its 5 seconds end just when this process may be about to use a connection again.
    VLLM_HTTP_TIMEOUT_KEEP_ALIVE: "600",
    VLLM_CPU_KVCACHE_SPACE: "1",
    // Without it the CPU backend insists on a process for the worker.
    VLLM_ENABLE_V1_MULTIPROCESSING: "0",
    VLLM_CPU_OMP_THREADS_BIND: "nobind",
    OMP_NUM_THREADS: "1",
    OMP_WAIT_POLICY: "PASSIVE",
  };
}

interface Logprobs {
  readonly tokens?: readonly string[];
  readonly top_logprobs?: readonly (Readonly<Record<string, number>> | null)[];
}

interface StreamEvent {
  readonly choices?: readonly { readonly text?: string; readonly logprobs?: Logprobs | null }[];
}

async function* events(body: ReadableStream<Uint8Array>): AsyncGenerator<StreamEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const part of body) {
    rest += decoder.decode(part, { stream: true });
    for (let end = rest.indexOf("\n"); end >= 0; end = rest.indexOf("\n")) {
      const line = rest.slice(0, end).trim();
      rest = rest.slice(end + 1);
      if (line.startsWith("data: {")) {
        const event = JSON.parse(line.slice(6)) as StreamEvent & { error?: { message?: string } };
        if (event.error !== undefined) throw new Error(event.error.message ?? "an error in the stream");
        yield event;
      }
    }
  }
}

/** User and system time of the processes of a group; those that have ended count with the parent that waited for them. */
export function groupCpuSeconds(group: number): number {
  let ticks = 0;
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, "utf8");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (Number(fields[2]) === group) ticks += Number(fields[11]) + Number(fields[12]) + Number(fields[13]) + Number(fields[14]);
    } catch {
      // It ended meanwhile.
    }
  }
  return ticks / CLOCK_TICKS;
}
