/**
 * A link between two ends in one process: no sockets, the same placements, grants and events as TCP, bytes copied from run to run by a native
 * thread. Endpoints: a port number, or a host "fake:NAME", in a table that all threads of the process share.
 */
import { integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import type { ConnectionId, Endpoint, Link } from "./link.ts";
import { NativeLink, type NativeLinkOptions, typed } from "./native-link.ts";

export type FakeLinkOptions = Omit<NativeLinkOptions, "ioThreads" | "tls">;

export class FakeLink extends NativeLink {
  readonly kind = "fake";

  constructor(options: FakeLinkOptions) {
    super("fake", options);
  }

  async listen(endpoint: Endpoint): Promise<Endpoint> {
    integer(endpoint.port, "port", 0, 65_535);
    if (this.closed) throw new KvferryError("closed", "the link is closed");
    return typed(() => this.mover.listen(endpoint.host, endpoint.port));
  }

  protected begin(connection: ConnectionId, endpoint: Endpoint, timeoutMs: number): void {
    this.mover.dial(connection, [endpoint.host], endpoint.port, timeoutMs, "");
  }
}

/** Throws KvferryError (unsupported) where there is no addon. */
export function createFakeLink(options: FakeLinkOptions): Link {
  return new FakeLink(options);
}
