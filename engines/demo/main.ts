/** The demo's command. The exit code is 1 if the answers differ, 2 if something is missing. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { endBadly, readFlags } from "../../bench/usage.ts";
import { MissingError } from "./install.ts";
import { endAll } from "./processes.ts";

const DEMOS = {
  llama: async () => (await import("../llama/demo/main.ts")).demo,
  vllm: async () => (await import("../vllm/demo/main.ts")).demo,
};

const USAGE = `npm run demo [-- --engine ${Object.keys(DEMOS).join("|")}]

A prompt's KV cache travels from one engine to another: with llama.cpp (small, fetched at once) or with vLLM.`;

async function main(folder: string): Promise<number> {
  const values = readFlags(USAGE, { engine: { type: "string", default: "llama" } });
  if (!Object.hasOwn(DEMOS, values.engine)) {
    return endBadly(`Expected ${Object.keys(DEMOS).join(" or ")} for --engine but received ${values.engine}`, USAGE);
  }
  const demo = await DEMOS[values.engine as keyof typeof DEMOS]();
  return (await demo(folder)) ? 0 : 1;
}

const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "kvferry-demo-"));
process.on("exit", () => {
  endAll();
  rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130));
try {
  process.exit(await main(folder));
} catch (cause) {
  console.error(`\ndemo: ${cause instanceof Error ? cause.message : String(cause)}`);
  process.exit(cause instanceof MissingError ? 2 : 1);
}
