/**
 * The WAN lab (bench/lab/wan) around one run: an emulated link between two network namespaces, this very command again at its end a, and
 * that one's partner at end b. A process that runs cannot move to another namespace: the one that was called watches over the others.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { KvferryError } from "../transport/errors.ts";
import { type LinkReport, linkReport } from "./document.ts";
import { benchFile } from "./files.ts";
import { atEnd, type Impairment, wordsOf } from "./impairment.ts";
import { endProgram, endWithUs, runProgram } from "./process.ts";

/** The first time the emulator is compiled. */
const UP_TIMEOUT_MS = 90_000;
const DOWN_TIMEOUT_MS = 10_000;
const STAT_TIMEOUT_MS = 5_000;
/** Packets may be handed over so late, as a part of the round trip, before it is said aloud. */
const LATE_PART_MAX = 0.05;

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/**
 * Runs the command, with `--in-lab NAME` behind it, at end a of a link of its own; signals are passed on. When nothing is left of either it
 * resolves with the exit code, or with a signal that came too early for the command to have one. Rejects: unsupported (no such link on this
 * machine, with the reason), connection_lost (the link or its end a died).
 */
export async function runInLab(impairment: Impairment, command: readonly string[]): Promise<number | NodeJS.Signals> {
  let end: ChildProcess | undefined;
  let asked: NodeJS.Signals | undefined;
  const pass = (signal: NodeJS.Signals): void => {
    asked = signal;
    end?.kill(signal);
  };
  process.on("SIGINT", pass).on("SIGTERM", pass);
  const link = await HeldLink.up(impairment);
  try {
    const [program, ...args] = [...(await realTime()), ...atEnd(link.name, "a", [...command, "--in-lab", link.name])];
    if (asked !== undefined) return asked;
    // In a group of its own: what a terminal sends to a whole group would reach it twice. Its standard input ends with this process.
    end = endWithUs(spawn(program!, args, { stdio: ["pipe", "inherit", "inherit"], detached: true }));
    const { code, signal } = await Promise.race([ended(end), link.lost]);
    if (code !== null) return code;
    if (signal !== null && signal === asked) return signal;
    // Whoever takes a dead link away ends what runs at it, and that may be seen first.
    await link.down();
    throw link.failure ?? new KvferryError("connection_lost", `the measuring end was ended by ${signal}`);
  } finally {
    if (end !== undefined) await endProgram(end);
    await link.down();
    process.off("SIGINT", pass).off("SIGTERM", pass);
  }
}

/** The emulator's counters since the link came up, as long as it is there. */
export async function labReport(name: string): Promise<LinkReport | null> {
  try {
    const { code, stdout } = await runProgram("bash", [script(), "stat"], STAT_TIMEOUT_MS, { WAN: name });
    return code === 0 ? linkReport.parse(JSON.parse(stdout)) : null;
  } catch {
    return null;
  }
}

/** A sentence where the emulator was too slow for what it emulates; "" = all is well. */
export function latenessOf({ ab, ba }: LinkReport): string {
  const [lateMs, rttMs] = [(ab.late_mean_us + ba.late_mean_us) / 1000, ab.delay_ms + ba.delay_ms];
  if (rttMs === 0 || lateMs <= rttMs * LATE_PART_MAX) return "";
  return (
    `the emulated link was ${lateMs.toFixed(2)} ms late on average, both ways, which is not small against its round trip of ${rttMs} ms: ` +
    "do not believe these figures (a busy machine, or a rate beyond it)"
  );
}

/** A link that is taken away with this process, however that ends: the script that made it waits for the end of its standard input. */
export class HeldLink {
  readonly name: string;
  readonly #holder: ChildProcess;
  readonly #gone: Promise<Ended>;
  readonly #errors: string[] = [];
  /** Rejects when the link is gone without having been asked, with what is then `failure`. */
  readonly lost: Promise<never>;
  failure: KvferryError | undefined;
  #isThere = false;

  /** `congestionControl`: the namespaces' own default; "" = the host's. */
  static async up(impairment: Impairment, congestionControl = ""): Promise<HeldLink> {
    const link = new HeldLink(impairment, congestionControl);
    try {
      await link.#isUp();
      return link;
    } catch (error) {
      await link.down();
      throw error;
    }
  }

  private constructor(impairment: Impairment, congestionControl: string) {
    this.name = `kvferry-${process.pid}-${randomBytes(3).toString("hex")}-`;
    this.#holder = spawn("bash", [script(), "hold", ...wordsOf(impairment)], {
      env: { ...process.env, WAN: this.name, WAN_CC: congestionControl },
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    this.#holder.stdin!.on("error", () => {});
    this.#holder.stderr!.setEncoding("utf8").on("data", (text: string) => this.#errors.push(text));
    this.#gone = ended(this.#holder);
    this.lost = this.#gone.then(async ({ code }) => {
      // It was asked to go: whoever waits has something better to wait for.
      if (code === 0) return new Promise<never>(() => {});
      throw this.#fail(code);
    });
    this.lost.catch(() => {});
  }

  async #isUp(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const up = new Promise<void>((resolve, reject) => {
      timer = setTimeout(() => reject(new KvferryError("deadline_exceeded", "the emulated link did not come up")), UP_TIMEOUT_MS);
      this.#holder.stdout!.once("data", () => resolve());
    });
    await Promise.race([up, this.lost]).finally(() => clearTimeout(timer));
    this.#isThere = true;
  }

  /** Changes it while traffic flows: keys of the lab, or a profile. */
  async set(...words: readonly string[]): Promise<void> {
    const { code, stderr } = await runProgram("bash", [script(), "set", ...words], STAT_TIMEOUT_MS, { WAN: this.name });
    if (code !== 0) throw new KvferryError("invalid_argument", stderr.trim());
  }

  async down(): Promise<void> {
    this.#holder.stdin!.end();
    const timer = setTimeout(() => this.#holder.kill("SIGTERM"), DOWN_TIMEOUT_MS);
    await this.#gone.catch(() => {});
    clearTimeout(timer);
  }

  #fail(code: number | null): KvferryError {
    const words = this.#errors.join("").trim().slice(-500);
    this.failure = this.#isThere
      ? new KvferryError("connection_lost", `the emulated link ended with exit code ${code}: ${words}`)
      : new KvferryError("unsupported", `--impair: ${words.replace(/^wan(?:em)?: /gm, "")}`);
    return this.failure;
  }
}

/** Rejects with unsupported if it cannot be started. */
function ended(child: ChildProcess): Promise<Ended> {
  return new Promise((resolve, reject) => {
    child.once("error", (error) => reject(new KvferryError("unsupported", `--impair: ${error.message}`, { cause: error })));
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
}

/** Before a command that shall not wait for its turn on a busy machine; empty where that is not allowed. The emulator stands above it. */
async function realTime(): Promise<string[]> {
  const prefix = ["chrt", "-r", "1"];
  try {
    return (await runProgram(prefix[0]!, [...prefix.slice(1), "true"], 5_000)).code === 0 ? prefix : [];
  } catch {
    return [];
  }
}

function script(): string {
  const file = benchFile("lab/wan/wan.sh");
  if (file === undefined) throw new KvferryError("unsupported", "the WAN lab (bench/lab/wan) is not in this package");
  return file;
}
