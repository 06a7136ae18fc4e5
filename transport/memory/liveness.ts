/**
 * Whether the processes that hold blocks, or once held some, still live. A process is its id *and* its start time: ids are used again.
 * With the addon the kernel tells of a death at once (pidfd); without it, /proc is looked at once a second.
 */
import { readFileSync } from "node:fs";
import { native } from "../native.ts";

export interface Processes {
  /** When the process started, in clock ticks since boot; 0 if there is no such process (or it is a zombie: it will never run again). */
  startTicks(processId: number): number;
  /** Calls `onGone` once when that process has ended; the return value stops watching. */
  watch(processId: number, startTicks: number, onGone: () => void): () => void;
}

const POLL_MS = 1_000;

export function hostProcesses(): Processes {
  const addon = native;
  if (addon === undefined) return procProcesses();
  return {
    startTicks: procStartTicks,
    watch(processId, startTicks, onGone) {
      let stop = (): void => {};
      let open = true;
      const gone = (): void => {
        if (!open) return;
        open = false;
        stop();
        onGone();
      };
      try {
        stop = addon.watchProcess(processId, gone);
      } catch {
        // It is gone already, or this kernel has no pidfd: the look below tells which, and looking goes on if it lives.
        stop = watchProc(processId, startTicks, gone);
      }
      // The number may have gone to another process before the watch began. Never from within this call.
      if (procStartTicks(processId) !== startTicks) queueMicrotask(gone);
      return () => {
        open = false;
        stop();
      };
    },
  };
}

export function procProcesses(): Processes {
  return { startTicks: procStartTicks, watch: watchProc };
}

/** For memory that no other process can map: whoever held blocks there has died with it. */
export const noProcesses: Processes = Object.freeze({ startTicks: () => 0, watch: () => () => {} });

function watchProc(processId: number, startTicks: number, onGone: () => void): () => void {
  const timer = setInterval(() => {
    if (procStartTicks(processId) === startTicks) return;
    clearInterval(timer);
    onGone();
  }, POLL_MS);
  timer.unref();
  return () => clearInterval(timer);
}

/** Field 22 of /proc/PID/stat. Fields are counted behind the last ")": a command's name may contain anything. */
export function procStartTicks(processId: number): number {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${processId}/stat`, "latin1");
  } catch {
    return 0;
  }
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  if (state === "Z" || state === "X") return 0;
  return Number(fields[19] ?? 0);
}
