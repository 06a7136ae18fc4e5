/** Links of the WAN lab for tests, each under a name of its own, and programs at their ends. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { type LinkReport, linkReport } from "../../bench/document.ts";
import { ROOT } from "../cli/spawn.ts";

export const WAN_SH = join(ROOT, "bench", "lab", "wan", "wan.sh");

const IMPOSSIBLE = 77;
let links = 0;

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function script(name: string, args: readonly string[]): Ended {
  return spawnSync("bash", [WAN_SH, ...args], {
    env: { ...process.env, WAN: name, WANEM_SEED: "1" },
    encoding: "utf8",
    timeout: 60_000,
  });
}

/** Why no link can be made here, as wan.sh says it; or false. */
export const skip: string | false = (() => {
  const { status, stderr } = script(`kvferry-test-${process.pid}-`, ["check"]);
  if (status === 0) return false;
  assert.equal(status, IMPOSSIBLE, stderr);
  return stderr.trim();
})();

export class Wan {
  readonly name = `kvferry-test-${process.pid}-${++links}-`;
  readonly #children: ChildProcess[] = [];

  static up(t: TestContext, ...words: string[]): Wan {
    const wan = new Wan();
    t.after(() => {
      for (const child of wan.#children) child.kill("SIGKILL");
      wan.#call("down");
    });
    wan.#call("up", ...words);
    return wan;
  }

  set(...words: string[]): void {
    this.#call("set", ...words);
  }

  attempt(...args: string[]): Ended {
    return script(this.name, args);
  }

  stat(): LinkReport {
    return linkReport.parse(JSON.parse(this.#call("stat")));
  }

  /** test/lab/main.ts at an end. */
  start(end: "a" | "b", role: string, host: string, amount = 0): End {
    const args = [process.execPath, "--import", "tsx", join(import.meta.dirname, "main.ts"), role, host, String(amount)];
    const child = spawn("bash", [WAN_SH, "run", end, ...args], {
      cwd: ROOT,
      env: { ...process.env, WAN: this.name },
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#children.push(child);
    return new End(child);
  }

  #call(...args: string[]): string {
    const { status, stdout, stderr } = script(this.name, args);
    assert.equal(status, 0, `wan.sh ${args.join(" ")}: ${stderr}`);
    return stdout;
  }
}

export class End {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** The next line that it prints. */
  async line<Line>(): Promise<Line> {
    const { value, done } = await this.#lines.next();
    assert.ok(done !== true, `ended with ${this.#child.exitCode} and said nothing`);
    return JSON.parse(value) as Line;
  }

  async end(): Promise<void> {
    if (this.#child.exitCode === null) await once(this.#child, "close");
    assert.equal(this.#child.exitCode, 0);
  }
}

/** Namespaces whose name begins so. */
export function namespaces(prefix: string): string[] {
  const { stdout } = spawnSync("ip", ["netns", "list"], { encoding: "utf8" });
  return stdout.split("\n").filter((line) => line.startsWith(prefix));
}
