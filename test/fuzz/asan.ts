/** The same command again, in a process whose addon watches its memory (AddressSanitizer). */
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");

/** Builds that addon if need be and runs the fuzzer with these arguments on it; resolves with the exit code. */
export async function runUnderAsan(args: readonly string[]): Promise<number> {
  const built = spawnSync(process.execPath, [join(ROOT, "native", "build.mjs"), "--asan", "--strict"], { stdio: "inherit" });
  if (built.status !== 0) return built.status ?? 1;
  const child = spawn(process.execPath, ["--import", "tsx", join(import.meta.dirname, "main.ts"), ...args], {
    cwd: ROOT,
    stdio: "inherit",
    env: {
      ...process.env,
      KVFERRY_NATIVE: join(ROOT, "native", "out", "asan", "kvferry.node"),
      LD_PRELOAD: runtimePath(),
      // Node itself is no ASan build: what it leaves behind at its end is not ours.
      ASAN_OPTIONS: "detect_leaks=0:abort_on_error=1",
    },
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code ?? 1));
  });
}

/** Preloaded, because node is not linked with it. */
function runtimePath(): string {
  const compiler = process.env["CXX"] ?? "g++";
  const { stdout, status } = spawnSync(compiler, ["-print-file-name=libasan.so"], { encoding: "utf8" });
  const path = stdout?.trim() ?? "";
  if (status !== 0 || !path.includes("/")) throw new Error(`${compiler} has no libasan.so`);
  return path;
}
