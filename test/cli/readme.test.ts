/**
 * What README tells a newcomer to type. Method: its two `serve` lines and its program are taken out of the text and run, with sockets and ports of the
 * test's own in place of the printed ones.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { native } from "../../transport/native.ts";
import { freePort } from "../process/sidecar.ts";
import { ROOT, start } from "./spawn.ts";

const README = readFileSync(join(ROOT, "README.md"), "utf8");

test("the two sidecars and the program of README move a block", { skip: native === undefined && "the addon is not built" }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-readme-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [one, two] = [await freePort(), await freePort()];
  const here = (text: string): string =>
    text.replaceAll("/run/", `${folder}/`).replaceAll("7411", String(one)).replaceAll("7421", String(two));
  const lines = README.split("\n").filter((line) => line.startsWith("    kvferry serve --name"));
  assert.equal(lines.length, 2);
  for (const line of lines) {
    const [, ...args] = here(line).trim().split(/ +/);
    const child = start([...args, "--pool-bytes", "8MiB", "--pool-directory", folder]);
    t.after(() => child.kill("SIGKILL"));
    await new Promise<void>((resolve, reject) => {
      child.stdout?.on("data", (text: Buffer) => text.includes("status:") && resolve());
      child.once("close", (code) => reject(new Error(`${line} ended with ${code}`)));
    });
  }
  const program = /```ts\n([\s\S]*?)```/.exec(README)?.[1] ?? "";
  const file = join(folder, "program.mts");
  writeFileSync(file, here(program).replace('"kvferry"', JSON.stringify(join(ROOT, "transport", "index.ts"))));
  const said = await run(file);
  assert.match(said, /bytes: 2097152/);
  assert.match(said, /link: 'tcp'/);
});

function run(file: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--import", "tsx", file], { cwd: ROOT, stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (text: Buffer) => (said += text.toString()));
    child.once("error", reject);
    child.once("close", (code) => (code === 0 ? resolve(said) : reject(new Error(`ended with ${code}: ${said}`))));
  });
}
