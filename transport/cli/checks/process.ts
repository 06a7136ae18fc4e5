/** Checks of what runs: Node, the addon, the checksum, the compiler, the API server, the clock, limits of the process. */
import { availableParallelism } from "node:os";
import { addonState } from "../addon.ts";
import { type Check, fail, type Host, ok, processLimit, warn } from "./host.ts";

const NODE_OLDEST = [20, 19] as const;
const OPEN_FILES_WANTED = 4_096;
const OPEN_FILES_LEAST = 256;

export async function processChecks(host: Host): Promise<Check[]> {
  const addon = addonState();
  return [node(), loaded(addon), checksum(addon), compiler(host, addon.loaded), await apiServer(), clock(host), openFiles(host), cpus()];
}

function node(): Check {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const fits = major > NODE_OLDEST[0] || (major === NODE_OLDEST[0] && minor >= NODE_OLDEST[1]);
  return fits ? ok("node", process.version) : fail("node", process.version, `kvferry needs Node ${NODE_OLDEST.join(".")} or newer.`);
}

type Addon = ReturnType<typeof addonState>;

function loaded(addon: Addon): Check {
  if (addon.loaded) return ok("addon", addon.detail);
  const remedy =
    "Install a C++20 compiler (Debian: apt-get install g++), then npm rebuild kvferry (in a checkout: npm run build:native). " +
    "Until then bytes pass through JavaScript.";
  return warn("addon", `not loaded: ${addon.detail}`, remedy);
}

function checksum(addon: Addon): Check {
  if (addon.crc === "") return warn("crc32c", "JavaScript tables, about 0.5 GB/s", "The addon brings the CPU's own instructions.");
  if (addon.crc.includes("scalar"))
    return warn("crc32c", addon.crc, "This CPU has no CRC instruction that kvferry knows: checksums will cost a large part of a core.");
  return ok("crc32c", addon.crc);
}

function compiler(host: Host, addonLoaded: boolean): Check {
  const found = ["g++", "c++", "clang++"].map((name) => host.run(name, ["--version"])?.split("\n")[0]).find((line) => line !== undefined);
  if (found !== undefined) return ok("compiler", found);
  if (addonLoaded) return ok("compiler", "none; the addon is built already");
  return warn("compiler", "none", "Debian: apt-get install g++; then npm rebuild kvferry (in a checkout: npm run build:native).");
}

async function apiServer(): Promise<Check> {
  try {
    // A name in a variable: the package is optional, and its types are not wanted.
    const name = "uWebSockets.js";
    await import(name);
    return ok("api_server", "uWebSockets.js loads");
  } catch (error) {
    const reason = (error as Error).message.split("\n")[0];
    return warn(
      "api_server",
      `uWebSockets.js does not load (${reason}): node:http and ws serve the API`,
      "Node 20 has a binary of it; the other server is slower, not different.",
    );
  }
}

/** Clock sources that need a system call or worse make each timestamp cost microseconds. */
function clock(host: Host): Check {
  const source = host.read("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  if (source === undefined) return ok("clock", "not known on this platform");
  if (["hpet", "acpi_pm", "jiffies"].includes(source))
    return warn("clock", source, "A slow clock source: boot with tsc=reliable if this CPU's counter is.");
  return ok("clock", source);
}

function openFiles(host: Host): Check {
  const limit = processLimit(host, "Max open files");
  if (limit === undefined) return ok("open_files", "not known on this platform");
  if (limit >= OPEN_FILES_WANTED) return ok("open_files", String(limit));
  const remedy = `ulimit -n ${OPEN_FILES_WANTED} (LimitNOFILE= in a unit): a peer takes a control connection and its lanes, an engine one.`;
  return limit < OPEN_FILES_LEAST ? fail("open_files", String(limit), remedy) : warn("open_files", String(limit), remedy);
}

function cpus(): Check {
  const count = availableParallelism();
  if (count >= 2) return ok("cpus", String(count));
  return warn("cpus", String(count), "The loop and the link's threads share one CPU: latency will show it.");
}
