/**
 * Watches the processes of node's test runner, which waits without bound for a test file that does not end, and for whoever holds a file's
 * output open. Linux only: elsewhere /proc does not say, and nothing is watched.
 */
import { readdirSync, readFileSync } from "node:fs";

/** A file whose tests have ended, or have reached their own deadline, may still not end for what it has left open. */
const FILE_SECONDS = 420;
/** How long what a test file has started may outlive it. */
const ORPHAN_SECONDS = 60;
const LOOK_MS = 5_000;
/** Of a command's end, where the name of a test file stands. */
const COMMAND_SHOWN = 200;

/** Ends what stays too long and says so. The runner leads a process group of its own. Returns a function that stops the watch. */
export function watch(runner) {
  /** Since when, by what is wrong. */
  const since = new Map();
  const look = () => {
    const now = process.hrtime.bigint();
    const group = processesOf(runner);
    const pids = new Set(group.map(({ pid }) => pid));
    for (const { pid, parent, command } of group) {
      if (pid === runner || (parent !== runner && pids.has(parent))) continue;
      const [what, seconds] = parent === runner ? ["did not end", FILE_SECONDS] : ["was left behind", ORPHAN_SECONDS];
      const key = `${pid} ${what}`;
      if (!since.has(key)) since.set(key, now);
      if (Number(now - since.get(key)) < seconds * 1e9) continue;
      console.error(`test/watch.mjs: ended after ${seconds} s, because it ${what}: ${command}`);
      kill(pid);
    }
  };
  const timer = setInterval(look, LOOK_MS);
  return () => clearInterval(timer);
}

/** What runs in a process group, the runner aside, as lines for people. */
export function running(runner) {
  return processesOf(runner).flatMap(({ pid, command }) => (pid === runner ? [] : [`still running: ${command}`]));
}

function processesOf(group) {
  return names("/proc").flatMap((name) => {
    const stat = /^\d+$/.test(name) ? text(`/proc/${name}/stat`) : "";
    // The name of a program stands in brackets and may hold anything.
    const [, parent, its] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (Number(its) !== group) return [];
    return [
      {
        pid: Number(name),
        parent: Number(parent),
        command: text(`/proc/${name}/cmdline`).replaceAll("\0", " ").trim().slice(-COMMAND_SHOWN),
      },
    ];
  });
}

function names(folder) {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function text(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** A process, or the group that -pid leads; it may have ended by itself. */
export function kill(pid) {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (error.code !== "ESRCH") throw error;
  }
}
