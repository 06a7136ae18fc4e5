/** Sidecars as their operators run them: processes of `kvferry serve`, spoken to over their sockets, watched from outside through /proc. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type ClientFerry, connect } from "../transport/api/client.ts";
import { EXIT_USAGE } from "../transport/cli/failure.ts";
import { KvferryError } from "../transport/errors.ts";
import { loaderFlags } from "./node-flags.ts";
import { endProgram, endWithUs, freePort } from "./process.ts";

export interface SidecarSettings {
  readonly name: string;
  readonly poolBytes: number;
  readonly blockBytes: number;
  /** NAME=HOST:PORT, ... */
  readonly peers?: string;
  /** In front of the command: where it runs, such as at an end of an emulated link. */
  readonly prefix?: readonly string[];
  /** Of the address that it listens on. */
  readonly host?: string;
  /** Further flags of `kvferry serve`, without their dashes. */
  readonly flags?: Readonly<Record<string, string>>;
  /** Folder for a CPU profile, written when it ends. */
  readonly profileFolder?: string;
}

export interface CpuUse {
  readonly seconds: number;
  /** Of those, in the kernel. */
  readonly systemSeconds: number;
}

const START_TIMEOUT_MS = 30_000;
/** Of /proc/PID/stat, behind the name; Linux shows 100 of them a second to programs, whatever it counts in. */
const SYSTEM_TICKS_FIELD = 12;
const TICKS_PER_SECOND = 100;
/** Short enough to see single handlers, long enough not to be what is measured. */
const PROFILE_INTERVAL_US = 250;

export class SidecarProcess {
  readonly name: string;
  readonly address: string;
  readonly socket: string;
  readonly #child: ChildProcess;
  readonly #folder: string;

  static async start(settings: SidecarSettings): Promise<SidecarProcess> {
    // The pool's file lies in there too: a pool outlives its process by design, and this one must not.
    const folder = mkdtempSync(join(memoryFolder(settings.poolBytes), "kvferry-bench-"));
    folders.add(folder);
    const { host = "127.0.0.1", prefix = [], flags: more = {} } = settings;
    const address = `${host}:${await freePort()}`;
    const socket = join(folder, "api.sock");
    const flags: Record<string, string> = {
      name: settings.name,
      socket,
      listen: address,
      "pool-directory": folder,
      "pool-bytes": String(settings.poolBytes),
      "pool-block-bytes": String(settings.blockBytes),
      "log-level": "warn",
      ...more,
      ...(settings.peers === undefined ? {} : { peers: settings.peers }),
    };
    const args = Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);
    const command = [...prefix, process.execPath, ...nodeFlags(settings.profileFolder), cliPath(), "serve", ...args];
    const child = endWithUs(
      spawn(command[0]!, command.slice(1), {
        stdio: ["ignore", "pipe", "inherit"],
        env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^KVFERRY_(?!NATIVE)/.test(name))),
      }),
    );
    const sidecar = new SidecarProcess(settings.name, address, socket, child, folder);
    try {
      await sidecar.#listening();
    } catch (error) {
      await sidecar.stop();
      throw error;
    }
    return sidecar;
  }

  private constructor(name: string, address: string, socket: string, child: ChildProcess, folder: string) {
    this.name = name;
    this.address = address;
    this.socket = socket;
    this.#child = child;
    this.#folder = folder;
  }

  connect(): Promise<ClientFerry> {
    return connect(this.socket, { client: `bench ${process.pid}` });
  }

  /** CPU of all its threads, in seconds. */
  cpuSeconds(): number {
    const tasks = `/proc/${this.#child.pid}/task`;
    return readdirSync(tasks).reduce(
      (sum, task) => sum + Number(readFileSync(join(tasks, task, "schedstat"), "latin1").split(" ")[0]) / 1e9,
      0,
    );
  }

  /** The kernel counts its own part in ticks. */
  cpuUse(): CpuUse {
    const fields = readFileSync(`/proc/${this.#child.pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return { seconds: this.cpuSeconds(), systemSeconds: Number(fields[SYSTEM_TICKS_FIELD]) / TICKS_PER_SECOND };
  }

  descriptors(): number {
    return readdirSync(`/proc/${this.#child.pid}/fd`).length;
  }

  /** Resident memory that is not the shared pool, bytes. */
  residentBytesBesidePool(): number {
    const status = readFileSync(`/proc/${this.#child.pid}/status`, "latin1");
    const field = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) * 1024;
    return field("VmRSS") - field("RssShmem");
  }

  async stop(): Promise<void> {
    // A profile takes longer to write than endProgram waits; a drain without transfers does not.
    const gone = new Promise<void>((resolve) => this.#child.once("close", () => resolve()));
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill("SIGTERM");
      await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, 15_000).unref())]);
    }
    await endProgram(this.#child);
    rmSync(this.#folder, { recursive: true, force: true });
    folders.delete(this.#folder);
  }

  /** It prints its places when everything is up. */
  async #listening(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`sidecar ${this.name} did not start`)), START_TIMEOUT_MS);
      this.#child.once("error", reject);
      this.#child.once("close", (code) => {
        // It has said why on standard error, which is ours.
        const isConfig = code === EXIT_USAGE;
        const detail = `the sidecar "${this.name}" ended with exit code ${code}: it says why above`;
        reject(new KvferryError(isConfig ? "invalid_config" : "unsupported", detail));
      });
      this.#child.stdout?.on("data", (text: Buffer) => {
        if (!text.includes("engines:")) return;
        clearTimeout(timer);
        resolve();
      });
    });
  }
}

/** Folders of sidecars that run; removed even where nobody waited for their end. */
const folders = new Set<string>();
process.on("exit", () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

function memoryFolder(bytes: number): string {
  try {
    const { bavail, bsize } = statfsSync("/dev/shm");
    return bavail * bsize > bytes * 1.1 ? "/dev/shm" : tmpdir();
  } catch {
    return tmpdir();
  }
}

function nodeFlags(profileFolder: string | undefined): string[] {
  if (profileFolder === undefined) return loaderFlags();
  const profile = ["--cpu-prof", "--cpu-prof-interval", String(PROFILE_INTERVAL_US), "--cpu-prof-dir", profileFolder];
  // Behind the loaders, which read it in a checkout.
  return [...loaderFlags(), "--import", framesPath(), ...profile];
}

function framesPath(): string {
  const source = join(import.meta.dirname, "native-frames.ts");
  return pathToFileURL(existsSync(source) ? source : join(import.meta.dirname, "native-frames.js")).href;
}

/** The command of this very build: TypeScript in a checkout, JavaScript in dist/. */
function cliPath(): string {
  const source = join(import.meta.dirname, "..", "transport", "cli.ts");
  return existsSync(source) ? source : join(import.meta.dirname, "..", "transport", "cli.js");
}
