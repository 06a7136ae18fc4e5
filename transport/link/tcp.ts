/** The TCP link: native threads move bytes between sockets and regions. Host names are looked up here, so that native code never waits for DNS. */
import { lookup } from "node:dns";
import { lookup as lookupAsync } from "node:dns/promises";
import { isIP } from "node:net";
import { integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import type { ConnectionId, Endpoint, Link } from "./link.ts";
import { NativeLink, type NativeLinkOptions, numberOf, typed } from "./native-link.ts";

/** Addresses of one name that are tried, in the resolver's order. */
const ADDRESSES_MAX = 8;

export type TcpLinkOptions = NativeLinkOptions;

export class TcpLink extends NativeLink {
  readonly kind = "tcp";

  constructor(options: TcpLinkOptions) {
    super("tcp", options);
  }

  /** "::" listens on IPv4 too. */
  async listen(endpoint: Endpoint): Promise<Endpoint> {
    integer(endpoint.port, "port", 0, 65_535);
    const host = isIP(endpoint.host) > 0 ? endpoint.host : await addressOf(endpoint.host);
    if (this.closed) throw new KvferryError("closed", "the link is closed");
    return typed(() => this.mover.listen(host, endpoint.port));
  }

  protected begin(connection: ConnectionId, { host, port }: Endpoint, timeoutMs: number, identity: string): void {
    if (isIP(host) > 0) return this.mover.dial(connection, [host], port, timeoutMs, identity);
    const startedMs = performance.now();
    // The connection outlives neither this timer nor the look-up: native ignores what comes for one that is gone.
    const timer = setTimeout(() => {
      this.mover.abandon(connection, numberOf("connect_timeout"), `no address of ${host} in ${timeoutMs} ms`);
    }, timeoutMs);
    timer.unref();
    lookup(host, { all: true, order: "verbatim" }, (error, addresses) => {
      clearTimeout(timer);
      if (error !== null) return this.mover.abandon(connection, numberOf("connect_failed"), error.message);
      const leftMs = Math.ceil(timeoutMs - (performance.now() - startedMs));
      const hosts = addresses.slice(0, ADDRESSES_MAX).map(({ address }) => address);
      this.mover.dial(connection, hosts, port, Math.max(leftMs, 1), identity);
    });
  }
}

/** Throws KvferryError (unsupported) where there is no addon. */
export function createTcpLink(options: TcpLinkOptions): Link {
  return new TcpLink(options);
}

async function addressOf(host: string): Promise<string> {
  try {
    return (await lookupAsync(host)).address;
  } catch (error) {
    throw new KvferryError("address_unavailable", `${host}: ${(error as Error).message}`, { cause: error });
  }
}
