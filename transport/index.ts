/**
 * The library's door.
 *
 *   const ferry = await createFerry({ listen: "127.0.0.1:7411", allow: ["127.0.0.0/8"] });   // a node in this process
 *   const ferry = await connect("/run/kvferry.sock");                                          // a sidecar's client; the same interface
 */
import { type ConfigInput, configOf } from "./config.ts";
import { type LocalFerry, openFerry } from "./ferry/create.ts";

export { type ClientFerry, connect } from "./api/client.ts";
export type { Config, ConfigInput } from "./config.ts";
export { type ErrorCode, ERRORS, type Fault, KvferryError, type Retry } from "./errors.ts";
export type { LocalFerry } from "./ferry/create.ts";
export type * from "./ferry/ferry.ts";
export * from "./kv/build.ts";
export type * from "./kv/layout.ts";
export type { Blocks, PoolStats } from "./memory/pool.ts";
export type { Region } from "./memory/region.ts";

/** A node in this process. Throws KvferryError: invalid_config, memory_unavailable, address_unavailable, unsupported. */
export async function createFerry(config: ConfigInput = {}): Promise<LocalFerry> {
  return openFerry(configOf(config), { temporaryPool: true });
}
