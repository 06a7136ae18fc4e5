/** What the demos fetch with other programs: run with a deadline, and where they fail their words say what to do. */
import { spawn } from "node:child_process";

const INSTALL_SECONDS = 1_800;

/** Something is missing that the demo cannot bring itself. */
export class MissingError extends Error {
  override readonly name = "MissingError";
}

export type Progress = (what: string, state: string, done: boolean) => void;

/** Runs a command to its end, its words kept for the case that it fails; `onSecond` is called while it runs. */
export function run(
  folder: string,
  command: string,
  args: readonly string[],
  onSecond: (seconds: number) => void,
): Promise<{ code: number; output: string; lastLine: string }> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"], timeout: INSTALL_SECONDS * 1000 });
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
