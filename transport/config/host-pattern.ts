/** Hosts and ports that a setting allows: HOST:PORT, where HOST is an address, a name, a CIDR range or *.SUFFIX, and PORT a number or *. */
import { BlockList, isIP } from "node:net";
import { isCidr, isHost } from "./address.ts";

export interface HostPattern {
  /** Of a host in lower case, without brackets. A range matches addresses only, a suffix names only: nothing is resolved. */
  readonly matches: (host: string) => boolean;
  /** undefined: any. */
  readonly port: number | undefined;
}

/** undefined: it is none. */
export function parseHostPattern(text: string): HostPattern | undefined {
  const match = /^(.+):(\*|\d{1,5})$/.exec(text.trim().toLowerCase());
  if (match === null) return undefined;
  const [, written = "", portText = ""] = match;
  const port = portText === "*" ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65_535)) return undefined;
  const host = written.startsWith("[") && written.endsWith("]") ? written.slice(1, -1) : written;
  const matches = hostMatcher(host);
  return matches === undefined ? undefined : { matches, port };
}

function hostMatcher(host: string): HostPattern["matches"] | undefined {
  if (host.startsWith("*.")) {
    const suffix = host.slice(1);
    return isHost(suffix.slice(1)) && isIP(suffix.slice(1)) === 0 ? (name) => isIP(name) === 0 && name.endsWith(suffix) : undefined;
  }
  if (isCidr(host)) {
    const [address = "", bits = ""] = host.split("/");
    const ranges = new BlockList();
    ranges.addSubnet(address, Number(bits), isIP(address) === 6 ? "ipv6" : "ipv4");
    return (name) => isIP(name) !== 0 && ranges.check(name, isIP(name) === 6 ? "ipv6" : "ipv4");
  }
  return isHost(host) ? (name) => name === host : undefined;
}
