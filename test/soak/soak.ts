/**
 * The soak: two sidecars, an offering engine on one and a fetching engine on the other, all processes of their own; one of the four is killed with
 * SIGKILL or stopped with SIGSTOP (and woken) every few seconds.
 *
 * What must hold: a fetch that says done has every byte right; every order is answered, typed, within its deadline and the fault's own time; after
 * the last fault transfers work again, and no sidecar still holds or pins a block. On a terminal a line of standard error says how far it is.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Progress } from "../../bench/progress.ts";
import { endBadly, readFlags } from "../../bench/usage.ts";
import { mix } from "./content.ts";
import { get } from "../http.ts";

const USAGE = "npm run soak -- [--minutes=30] [--seed=1]";
const values = readFlags(USAGE, { minutes: { type: "string", default: "1" }, seed: { type: "string", default: "1" } });
const option = (name: keyof typeof values): number => {
  const given = Number(values[name]);
  return given > 0 ? given : endBadly(`Expected a number above 0 for --${name} but received "${values[name]}"`, USAGE);
};
const minutes = option("minutes");
const ANSWER_MS = 40_000;
const root = new URL("../..", import.meta.url).pathname;
const scratch = mkdtempSync(join(tmpdir(), "kvferry-soak-"));
const NAMES = ["offerer", "fetcher"] as const;
type Name = (typeof NAMES)[number];

// Zero is the one state that never moves on.
let random = mix(option("seed")) || 1;
/** Faults come in the order of the seed; when they hit is the machine's. */
const below = (limit: number): number => {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % limit;
};
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Answer {
  readonly seed: number;
  readonly ms: number;
  readonly ok: boolean;
  readonly code?: string;
  readonly handle?: string;
  readonly wrong?: number;
  readonly resumed?: number;
  readonly bytes?: number;
}

const waiting = new Map<string, (answer: Answer | undefined) => void>();
const processes = new Map<string, ChildProcess>();
const ports: Record<Name, number> = { offerer: 17_411 + (process.pid % 1000) * 2, fetcher: 17_412 + (process.pid % 1000) * 2 };
const socketOf = (name: Name): string => join(scratch, `${name}.sock`);
const node = (...args: string[]): string[] => ["--import", "tsx", ...args];

function start(key: string, args: string[], onLine: (line: string) => void): void {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ["pipe", "pipe", "pipe"] });
  child.stderr?.on("data", (data: Buffer) => {
    if (process.env["SOAK_VERBOSE"] === "1") process.stderr.write(`[${key}] ${data}`);
  });
  child.stdin?.on("error", () => {});
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", onLine);
  processes.set(key, child);
}

function startSidecar(name: Name): void {
  const other = name === "offerer" ? "fetcher" : "offerer";
  const flags = {
    "--name": name,
    "--listen": `127.0.0.1:${ports[name]}`,
    "--socket": socketOf(name),
    "--pool-name": `soak-${process.pid}-${name}`,
    "--pool-bytes": "70MiB",
    "--pool-block-bytes": String(8 * 2 * 16 * 4 * 64 * 2),
    "--peers": `${other}=127.0.0.1:${ports[other]}`,
    "--log-level": "error",
  };
  start(`sidecar ${name}`, node("transport/cli.ts", "serve", ...Object.entries(flags).flat()), () => {});
}

function startEngine(name: Name): void {
  const args = name === "offerer" ? ["offer"] : ["fetch", "offerer"];
  start(`engine ${name}`, node("test/soak/engine.ts", socketOf(name), ...args), (line) => {
    const answer = JSON.parse(line) as Answer;
    waiting.get(`${name} ${answer.seed}`)?.(answer);
  });
}

/** undefined: the engine died with the order, or did not answer in time. */
function ask(
  name: Name,
  order: { readonly seed: number; readonly blocks: number; readonly handle?: string | undefined },
): Promise<Answer | undefined> {
  const child = processes.get(`engine ${name}`);
  const key = `${name} ${order.seed}`;
  return new Promise((resolve) => {
    const settle = (answer: Answer | undefined): void => {
      clearTimeout(timer);
      waiting.delete(key);
      child?.off("exit", died);
      resolve(answer);
    };
    const died = (): void => settle(undefined);
    const timer = setTimeout(() => {
      tally.unanswered += child?.exitCode === null && child.signalCode === null ? 1 : 0;
      settle(undefined);
    }, ANSWER_MS);
    waiting.set(key, settle);
    child?.once("exit", died);
    child?.stdin?.write(`${JSON.stringify(order)}\n`);
  });
}

const tally = { fetched: 0, bytes: 0, wrong: 0, resumed: 0, refused: new Map<string, number>(), unanswered: 0, untyped: 0 };
const faults = new Map<string, number>();
const progress = new Progress();

/** True if every byte arrived. Both sides are told how many blocks travel. */
async function transferOnce(seed: number): Promise<boolean> {
  const blocks = 32 + below(200);
  const offered = await ask("offerer", { seed, blocks });
  if (!counted(offered)) return false;
  const fetched = await ask("fetcher", { seed, blocks, handle: offered.handle });
  if (!counted(fetched)) return false;
  tally.fetched += 1;
  tally.bytes += fetched.bytes ?? 0;
  tally.wrong += fetched.wrong ?? 0;
  tally.resumed += fetched.resumed ?? 0;
  return fetched.wrong === 0;
}

function counted(answer: Answer | undefined): answer is Answer {
  if (answer === undefined) return false;
  if (answer.ok) return true;
  const code = answer.code ?? "";
  if (code.startsWith("UNTYPED")) tally.untyped += 1;
  tally.refused.set(code, (tally.refused.get(code) ?? 0) + 1);
  return false;
}

async function fault(): Promise<void> {
  const keys = NAMES.flatMap((name) => [`sidecar ${name}`, `engine ${name}`]);
  const key = keys[below(keys.length)] ?? "";
  const name = key.endsWith("offerer") ? "offerer" : "fetcher";
  const child = processes.get(key);
  const kill = below(2) === 0;
  faults.set(`${kill ? "SIGKILL" : "SIGSTOP"} ${key}`, (faults.get(`${kill ? "SIGKILL" : "SIGSTOP"} ${key}`) ?? 0) + 1);
  if (kill) {
    child?.kill("SIGKILL");
    await pause(below(1_500));
    if (key.startsWith("sidecar")) startSidecar(name);
    else startEngine(name);
  } else {
    child?.kill("SIGSTOP");
    await pause(500 + below(4_000));
    child?.kill("SIGCONT");
  }
}

interface SoakStatus {
  readonly pool: Record<string, number>;
  readonly transfers_running: number;
  readonly resident_bytes: number;
}

async function status(name: Name): Promise<SoakStatus> {
  return JSON.parse((await get(socketOf(name), "/status")).body) as SoakStatus;
}

async function main(): Promise<number> {
  for (const name of NAMES) startSidecar(name);
  for (const name of NAMES) startEngine(name);
  const endMs = performance.now() + minutes * 60_000;
  let seed = 0;
  const work = async (until: () => boolean): Promise<void> => {
    while (!until()) {
      if (!(await transferOnce(++seed))) await pause(100);
    }
  };
  const workers = Array.from({ length: 3 }, () => work(() => performance.now() > endMs));
  await pause(4_000);
  while (performance.now() < endMs - 10_000) {
    await fault();
    await pause(1_000 + below(3_000));
  }
  await Promise.all(workers);
  // Healed: everything must work again, and nothing may be left over.
  let healed = 0;
  for (let round = 0; round < 20 && healed < 3; round++) {
    if (await transferOnce(++seed)) healed += 1;
    else await pause(1_000);
  }
  await pause(1_000);
  const left: Record<string, unknown> = {};
  let clean = true;
  for (const name of NAMES) {
    const { pool, transfers_running, resident_bytes } = await status(name);
    left[name] = { held: pool["held"], pinned: pool["pinned"], quarantined: pool["quarantined"], transfers_running, resident_bytes };
    clean &&= pool["held"] === 0 && pool["pinned"] === 0 && transfers_running === 0 && pool["quarantined"] === 0;
  }
  const fine = clean && healed >= 3 && tally.wrong === 0 && tally.unanswered === 0 && tally.untyped === 0 && tally.fetched > 0;
  const report = {
    minutes,
    seed: option("seed"),
    ...tally,
    refused: Object.fromEntries(tally.refused),
    faults: Object.fromEntries(faults),
    left,
    healed,
    fine,
  };
  progress.clear();
  console.log(JSON.stringify(report, null, 1));
  return fine ? 0 : 1;
}

function showProgress(): void {
  const elapsed = (performance.now() / 60_000).toFixed(1);
  const sum = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((total, count) => total + count, 0);
  const { fetched, wrong, refused, unanswered, untyped } = tally;
  progress.show(
    () =>
      `${elapsed} of ${minutes} min: ${fetched} fetched, ${sum(refused)} refused, ${sum(faults)} faults; ` +
      `${wrong} wrong, ${unanswered} unanswered, ${untyped} untyped`,
  );
}

let code = 1;
const ticking = setInterval(showProgress, 1_000);
try {
  code = await main();
} finally {
  clearInterval(ticking);
  progress.clear();
  for (const child of processes.values()) child.kill("SIGKILL");
  for (const file of readdirSync("/dev/shm")) if (file.includes(`soak-${process.pid}-`)) rmSync(join("/dev/shm", file), { force: true });
  rmSync(scratch, { recursive: true, force: true });
}
process.exit(code);
