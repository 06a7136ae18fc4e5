/** Who is at the other end of a connection, before it has said anything. */
import type { Endpoint } from "../link/link.ts";
import type { TlsPeer } from "../tls/options.ts";

export interface Caller {
  readonly remote: Endpoint;
  /** Whose certificate it has, over TLS; else "". */
  readonly identity: string;
}

export function callerOf({ remote, peer }: { readonly remote: Endpoint; readonly peer?: TlsPeer }): Caller {
  return { remote, identity: peer?.identity ?? "" };
}
