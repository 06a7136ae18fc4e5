/**
 * A pool's owner in a process of its own, for pool-restart.test.ts: owner.ts DIRECTORY ENGINE_PROCESS. Prints "ready" and waits
 * to be killed.
 */
import { Pool } from "../../transport/memory/pool.ts";
import { createPoolRegion } from "../../transport/memory/region.ts";
import { keyOf, RESTART } from "./regions.ts";

const [directory, engine] = process.argv.slice(2);
const region = await createPoolRegion({ ...RESTART, directory: directory! });
const random = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(9);
const pool = new Pool({ name: "restart", region, blockBytes: 4096, random, nowUs: () => 0 }, { evicted() {} });
pool.addHolder(1, Number(engine));
pool.addHolder(2, 0);
const published = pool.alloc(1, 1);
region.view.fill(0x5a, pool.dataOffset, pool.dataOffset + 4096);
pool.beginSeal(1, published);
pool.seal(published, keyOf(1), Uint32Array.of(1), 0, 16);
pool.alloc(1, 3);
pool.alloc(2, 2);
console.log("ready");
setInterval(() => {}, 1_000);
