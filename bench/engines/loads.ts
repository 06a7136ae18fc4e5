/** What the decode engine's connector counts, in vLLM's own /metrics, and what loopback carries. */
import { readFileSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import type { Pair } from "./pair.ts";

export interface Loads {
  readonly done: number;
  readonly failed: number;
  /**
   * By the connector's own clock. kvferry's: from the request for KV to all of it in the engine's blocks. NIXL's: from the order of a transfer
   * whose memory both ends know until it is done.
   */
  readonly seconds: number;
  readonly bytes: number;
}

type Names = Readonly<Record<keyof Loads, string>>;

const KVFERRY: Names = {
  done: "vllm:kvferry_load_seconds_count",
  failed: "vllm:kvferry_failed_loads_total",
  seconds: "vllm:kvferry_load_seconds_sum",
  bytes: "vllm:kvferry_load_bytes_total",
};
const NIXL: Names = {
  done: "vllm:nixl_xfer_time_seconds_count",
  failed: "vllm:nixl_num_failed_transfers_total",
  seconds: "vllm:nixl_xfer_time_seconds_sum",
  bytes: "vllm:nixl_bytes_transferred_sum",
};

export async function loads({ carrier, decode }: Pair): Promise<Loads> {
  const names = carrier === "kvferry" ? KVFERRY : NIXL;
  return {
    done: await decode.metric(names.done),
    failed: await decode.metric(names.failed),
    seconds: await decode.metric(names.seconds),
    bytes: await decode.metric(names.bytes),
  };
}

/** What came since `before`, once so many have ended: vLLM passes statistics on with some delay. */
export async function loadsSince(pair: Pair, before: Loads, wanted: number): Promise<Loads> {
  for (let waited = 0; ; waited++) {
    const now = await loads(pair);
    const since = {
      done: now.done - before.done,
      failed: now.failed - before.failed,
      seconds: now.seconds - before.seconds,
      bytes: now.bytes - before.bytes,
    };
    if (since.done + since.failed >= wanted || waited === 20) return since;
    await pause(250);
  }
}

/** Whatever went over loopback, of every program here, with the headers of TCP and IP. */
export function loopbackBytes(): number {
  return Number(/^\s*lo:\s*(\d+)/m.exec(readFileSync("/proc/net/dev", "utf8"))?.[1]);
}
