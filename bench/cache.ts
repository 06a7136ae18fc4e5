/** Where things that can be made again are kept: the compiled yardstick, other people's programs. */
import { mkdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

export function cacheFolder(): string {
  const folder = process.env.KVFERRY_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kvferry");
  mkdirSync(folder, { recursive: true });
  return folder;
}
