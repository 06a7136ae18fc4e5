/** Checks of memory: room for the pool, huge pages, what may be locked. */
import type { Config } from "../../config.ts";
import { formatSize } from "../../config/units.ts";
import { type Check, fail, type Host, ok, processLimit, warn } from "./host.ts";

export function memoryChecks(host: Host, config: Config): Check[] {
  return [poolSpace(host, config), memoryLimit(host, config), hugePages(host, config), lockedMemory(host, config)];
}

/** A pool that does not fit would die of SIGBUS at first touch, so the room is asked for before. */
function poolSpace(host: Host, { pool }: Config): Check {
  const id = "pool_space";
  const directory = pool.directory || "/dev/shm";
  const space = host.space(directory);
  if (space === undefined)
    return fail(id, `${directory} cannot be read`, "Set pool.directory to a tmpfs (or any folder) that this user may write.");
  const room = `${formatSize(space.freeBytes)} free of ${formatSize(space.bytes)}`;
  const found = `${directory} has ${room}, the pool takes ${formatSize(pool.bytes)}`;
  if (space.freeBytes >= pool.bytes * 1.1) return ok(id, found);
  if (space.freeBytes < pool.bytes && pool.directory === "") {
    return warn(id, `${found}: it will lie in a slower place`, "Make /dev/shm larger (docker run --shm-size=...), or lower pool.bytes.");
  }
  const remedy = "Make it larger (docker run --shm-size=..., mount -o remount,size=...), set pool.directory, or lower pool.bytes.";
  return space.freeBytes < pool.bytes ? fail(id, found, remedy) : warn(id, `${found}: it just fits`, remedy);
}

/** tmpfs counts against the container: a pool larger than its limit is killed while it is filled. */
function memoryLimit(host: Host, { pool }: Config): Check {
  const id = "memory_limit";
  const text = host.read("/sys/fs/cgroup/memory.max") ?? host.read("/sys/fs/cgroup/memory/memory.limit_in_bytes");
  const limit = text === undefined || text === "max" ? Number.POSITIVE_INFINITY : Number(text);
  const total = Number(/MemTotal:\s+(\d+)/.exec(host.read("/proc/meminfo") ?? "")?.[1] ?? Number.NaN) * 1024;
  const bytes = Math.min(limit, Number.isNaN(total) ? Number.POSITIVE_INFINITY : total);
  if (bytes === Number.POSITIVE_INFINITY) return ok(id, "none that can be read");
  const found = `${formatSize(bytes)}, the pool takes ${formatSize(pool.bytes)}`;
  // The process itself stays below 120 MiB, and Node wants some air.
  return pool.bytes + 256 * 2 ** 20 <= bytes ? ok(id, found) : fail(id, found, "Lower pool.bytes or raise the container's memory limit.");
}

function hugePages(host: Host, { pool }: Config): Check {
  const id = "huge_pages";
  const text = host.read("/proc/meminfo");
  if (text === undefined) return ok(id, "not known on this platform; the pool takes normal pages");
  const number = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(text)?.[1] ?? 0);
  const freeBytes = number("HugePages_Free") * number("Hugepagesize") * 1024;
  const transparent = /\[(\w+)\]/.exec(host.read("/sys/kernel/mm/transparent_hugepage/shmem_enabled") ?? "")?.[1] ?? "unknown";
  const reserved = `${formatSize(freeBytes)} reserved and free`;
  const found = `${reserved}, transparent in shared memory: ${transparent}, pool.hugePages is ${pool.hugePages}`;
  if (freeBytes >= pool.bytes || pool.hugePages === "off") return ok(id, found);
  const pages = Math.ceil(pool.bytes / (number("Hugepagesize") * 1024 || 2 ** 21));
  const remedy = `sysctl -w vm.nr_hugepages=${pages} reserves them; a 1 GiB pool of 4 KiB pages is 262,144 entries of page table.`;
  return pool.hugePages === "on" ? fail(id, found, remedy) : ok(id, `${found}: normal pages will do`);
}

/** RDMA pins what it registers; over TCP nothing is locked. */
function lockedMemory(host: Host, { pool }: Config): Check {
  const id = "memlock";
  const limit = processLimit(host, "Max locked memory");
  if (limit === undefined) return ok(id, "not known on this platform");
  const found = limit === Number.POSITIVE_INFINITY ? "unlimited" : formatSize(limit);
  const devices = host.list("/sys/class/infiniband");
  if (limit >= pool.bytes) return ok(id, found);
  if (devices.length === 0) return ok(id, `${found}; only RDMA needs more, and there is no device`);
  return warn(
    id,
    `${found}, the pool takes ${formatSize(pool.bytes)}`,
    "ulimit -l unlimited (LimitMEMLOCK=infinity in a unit, --ulimit memlock=-1 for docker).",
  );
}
