/** Where the harness finds Python with PyTorch, and the model: in the cache folder, where `npm run engines:install` puts them. */
import { type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { cacheFolder } from "../../bench/cache.ts";
import { VLLM_VERSION } from "../../bench/engines/vllm.ts";

export const ROOT = join(import.meta.dirname, "../..");
const SCRIPTS = import.meta.dirname;
const MODEL = "SmolLM2-135M-Instruct-hf-fp32";

export interface Place {
  readonly python: string;
  /** A Hugging Face directory with float32 weights. */
  readonly model: string;
}

/** The place, or why there is none. */
export function findPlace(): Place | string {
  const python = findPython();
  const model = join(cacheFolder(), "models", MODEL);
  if (python !== undefined && existsSync(join(model, ".complete"))) return { python, model };
  return `there is no ${python === undefined ? "PyTorch" : "float32 model"} in the cache folder: npm run engines:install`;
}

export function findPython(): string | undefined {
  const python = join(cacheFolder(), `vllm-${VLLM_VERSION}`, "bin", "python");
  return existsSync(python) ? python : undefined;
}

/** Runs a script of this folder to its end, and returns what each line of JSON says. Throws with its last words if it fails. */
export function runScript(place: Place, script: string, args: readonly string[]): unknown[] {
  const ran = runPython(place.python, [
    join(SCRIPTS, script),
    "--model",
    place.model,
    "--threads",
    String(availableParallelism()),
    ...args,
  ]);
  if (ran.status !== 0) throw new Error(`${script} failed (${ran.signal ?? ran.status}): ${ran.stderr.slice(-4_000)}`);
  return ran.stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as unknown);
}

export function runPython(python: string, args: readonly string[]): SpawnSyncReturns<string> {
  return spawnSync(python, args, { encoding: "utf8", cwd: SCRIPTS, env: environment(), maxBuffer: 2 ** 26 });
}

/** score.py, which loads the model once and is asked by lines. */
export class Scorer {
  readonly #answers: AsyncIterator<string>;
  readonly #child;
  #words = "";

  constructor({ python, model }: Place, dumps: readonly string[]) {
    const args = [join(SCRIPTS, "score.py"), "--model", model, "--threads", String(availableParallelism()), ...dumps];
    this.#child = spawn(python, args, { cwd: SCRIPTS, env: environment(), stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#words = (this.#words + text).slice(-4_000);
    });
    // Whoever asks a script that has ended hears of it below.
    this.#child.stdin.on("error", () => undefined);
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** @param folder of decoded files, one of each dump's name */
  async score(folder: string): Promise<unknown> {
    this.#child.stdin.write(`decoded=${folder}\n`);
    const { done, value } = await this.#answers.next();
    if (done === true) throw new Error(`score.py failed: ${this.#words}`);
    return JSON.parse(value) as unknown;
  }

  close(): void {
    this.#child.kill("SIGKILL");
  }
}

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, PYTHONDONTWRITEBYTECODE: "1", HF_HUB_OFFLINE: "1", OMP_WAIT_POLICY: "PASSIVE" };
}
