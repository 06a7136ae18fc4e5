/** Where a pool's file may lie when nobody said where, best first: huge pages, memory, disk. */
import { accessSync, constants, lstatSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeFolder } from "../folder.ts";

export function poolDirectories(withHugePages: boolean): string[] {
  const user = process.getuid?.() ?? 0;
  const mounted = [...(withHugePages ? hugePageMounts() : []), "/dev/shm", `/run/user/${user}`].filter(isWritable);
  const own = ownDirectory(join(tmpdir(), `kvferry-${user}`), user);
  return own === undefined ? mounted : [...mounted, own];
}

/** Mount points of hugetlbfs, as the kernel lists them; spaces and the like in a path come as octal. */
function hugePageMounts(): string[] {
  let mounts: string;
  try {
    mounts = readFileSync("/proc/self/mounts", "utf8");
  } catch {
    return [];
  }
  const found = mounts.split("\n").map((line) => line.split(" "));
  return found
    .filter(([, path, type]) => type === "hugetlbfs" && path !== undefined)
    .map(([, path = ""]) => path.replace(/\\(\d{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))));
}

function isWritable(directory: string): boolean {
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Made for this user alone. Another user's, or a link of theirs, is no place for this one's memory. */
function ownDirectory(path: string, user: number): string | undefined {
  try {
    makeFolder(path, 0o700);
    const found = lstatSync(path);
    return found.isDirectory() && found.uid === user && (found.mode & 0o022) === 0 ? path : undefined;
  } catch {
    return undefined;
  }
}
