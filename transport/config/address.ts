/** Addresses as text: "host:port", "[::1]:7421", and which of them stay on this machine. */
import { isIP, isIPv4 } from "node:net";

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** HOST:PORT with an IPv6 host in brackets; undefined when it does not parse. A name is not resolved. */
export function parseAddress(text: string): HostPort | undefined {
  const match = /^(?:\[([0-9A-Fa-f:.%a-z]+)\]|([^\s:[\]/]+)):(\d{1,5})$/.exec(text.trim());
  if (match === null) return undefined;
  const port = Number(match[3]);
  const bracketed = match[1];
  if (port > 65_535) return undefined;
  if (bracketed !== undefined) return isIP(bracketed) === 6 ? { host: bracketed, port } : undefined;
  const host = match[2]!;
  return isHost(host) ? { host, port } : undefined;
}

export function formatAddress(address: HostPort): string {
  return address.host.includes(":") ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** An IP address or a DNS name. All digits and dots must be a real IPv4 address: "1.2.3.400" is a typing error, not a name. */
export function isHost(text: string): boolean {
  if (isIP(text) !== 0) return true;
  if (/^[\d.]+$/.test(text)) return false;
  return text.length <= 253 && /^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?$/.test(text);
}

/** True only for what certainly is this machine; an unknown name counts as foreign. */
export function isLoopback(host: string): boolean {
  if (host === "localhost" || host === "::1" || host === "0:0:0:0:0:0:0:1") return true;
  const mapped = host.toLowerCase().startsWith("::ffff:") ? host.slice(7) : host;
  return isIPv4(mapped) && mapped.startsWith("127.");
}

/** "10.0.0.0/8", "2001:db8::/32". */
export function isCidr(text: string): boolean {
  const [address, bits, more] = text.split("/");
  if (more !== undefined || address === undefined || bits === undefined || !/^\d{1,3}$/.test(bits)) return false;
  const family = isIP(address);
  return family !== 0 && Number(bits) <= (family === 4 ? 32 : 128);
}
