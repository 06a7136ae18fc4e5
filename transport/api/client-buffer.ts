/** Memory that an engine and its sidecar both map: a private file beside the pool, without a name as soon as both have it. */
import { randomBytes } from "node:crypto";
import { unlinkSync } from "node:fs";
import { dirname } from "node:path";
import { integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { attachRegion, createPoolRegion, type Region } from "../memory/region.ts";

export interface SharedBuffer {
  readonly region: Region;
  /** Takes the file's name away; both mappings stay. */
  unlink(): void;
}

/** Throws memory_unavailable, or unsupported without the addon. */
export async function createSharedBuffer(poolPath: string, bytes: number): Promise<SharedBuffer> {
  integer(bytes, "bytes", 1, limits.poolBytesMax);
  const name = `buffer-${process.pid}-${randomBytes(8).toString("hex")}`;
  // Made like a pool, so that every page is backed now: a full tmpfs is an error here, and not SIGBUS later.
  const fileBytes = Math.max(bytes, limits.poolBytesMin);
  const made = await createPoolRegion({ name, bytes: fileBytes, directory: dirname(poolPath), hugePages: "off", numaNode: -1 });
  const { path } = made;
  if (path === "") throw new KvferryError("unsupported", "sharing memory needs the addon");
  const unlink = (): void => unlinkSync(path);
  try {
    const region = attachRegion(path, bytes);
    return { region, unlink };
  } catch (error) {
    unlink();
    throw error;
  } finally {
    made.close();
  }
}
