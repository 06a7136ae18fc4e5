/** A server of `kvferry bench` in this process, on a port of its own. */
import { type BenchServer, startServer } from "../../bench/server.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";

export function serveBench(tls?: TlsOptions): Promise<BenchServer> {
  return startServer({ bind: "127.0.0.1", port: 0, oneOff: false, version: "test", say: () => {}, tls });
}

export async function endBench(server: BenchServer): Promise<void> {
  server.close();
  await server.done;
}
