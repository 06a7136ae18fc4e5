/** Servers over a fake node for the API's tests: each backend, on a unix socket in a folder of its own or on loopback TCP. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { loadUws } from "../../transport/api/backend-uws.ts";
import { type ClientFerry, connect, type ConnectOptions } from "../../transport/api/client.ts";
import { type ApiServer, type ApiServerOptions, createApiServer } from "../../transport/api/server.ts";
import { FakeProcesses } from "../memory/regions.ts";
import { FakeHost } from "./fake-host.ts";

export type Kind = "uws" | "ws";

/** Both, or the portable one alone where uWebSockets.js has no binary for this Node. */
export const kinds: readonly Kind[] = "make" in loadUws() ? ["uws", "ws"] : ["ws"];

export const TOKEN = "a token of the test, long enough";

export interface World {
  readonly host: FakeHost;
  readonly server: ApiServer;
  readonly socket: string;
  connect(options?: ConnectOptions): Promise<ClientFerry>;
}

export function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-api-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A server that ends with the test, its clients before it. */
export async function serve(t: TestContext, backend: Kind, options: Partial<ApiServerOptions> = {}): Promise<World> {
  const host = (options.host as FakeHost | undefined) ?? new FakeHost();
  const socket = join(temporaryFolder(t), "api.sock");
  const server = await createApiServer({ host, backend, ...(options.listen === undefined ? { socket } : {}), ...options });
  const clients: ClientFerry[] = [];
  t.after(async () => {
    await Promise.all(clients.map((client) => client.close()));
    await server.close();
  });
  const target = options.listen === undefined ? socket : `ws://127.0.0.1:${server.port}`;
  return {
    host,
    server,
    socket,
    async connect(more = {}) {
      const client = await connect(target, { client: "test", ...more });
      clients.push(client);
      return client;
    },
  };
}

/** Settles when `condition` holds; the test's own timeout is the only clock. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** Processes that live until killed; this test's own process, which the server looks up in /proc, is one of them. */
export function fakeProcesses(): FakeProcesses {
  return new FakeProcesses();
}
