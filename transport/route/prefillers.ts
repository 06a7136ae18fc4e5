/**
 * Who may be named as the prefill engine of a request. llm-d's scheduler does that with the header x-prefiller-host-port; whoever else
 * reaches this port can send it too, and would have prompts and credentials sent anywhere (SSRF). So only listed engines are taken,
 * port included, and a request that names another is refused: llm-d's own sidecar does the same where its protection is switched on.
 */
import { parseAddress } from "../config/address.ts";
import { type HostPattern, parseHostPattern } from "../config/host-pattern.ts";
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";

export const PREFILLER_HEADER = "x-prefiller-host-port";

export class Prefillers {
  readonly #listed: ReadonlyMap<string, string>;
  readonly #patterns: readonly HostPattern[];

  /** @param engines origins ("http://10.0.0.1:8100") that may always be named. */
  constructor(engines: readonly string[], patterns: readonly string[]) {
    this.#listed = new Map(engines.map((engine) => [hostPortOf(engine), engine]));
    this.#patterns = patterns.map((text) => {
      const pattern = parseHostPattern(text);
      if (pattern === undefined) throw expected("HOST:PORT, CIDR:PORT or *.SUFFIX:PORT", "allowPrefiller", text, "invalid_config");
      return pattern;
    });
  }

  /** The origins that the header's lines name; undefined when there is none. Throws KvferryError. */
  named(lines: readonly string[] | undefined): string[] | undefined {
    const words = (lines ?? []).flatMap((line) => line.split(",")).map((word) => word.trim());
    const named = words.filter((word) => word !== "");
    if (named.length === 0) return undefined;
    if (named.length > limits.routePrefillersNamedMax) {
      throw new KvferryError("invalid_argument", `${PREFILLER_HEADER} names more than ${limits.routePrefillersNamedMax} engines`);
    }
    return [...new Set(named.map((word) => this.#originOf(word)))];
  }

  #originOf(word: string): string {
    const address = parseAddress(word);
    if (address === undefined || address.port === 0) throw expected("HOST:PORT", PREFILLER_HEADER, word);
    const host = address.host.toLowerCase();
    const hostPort = `${host.includes(":") ? `[${host}]` : host}:${address.port}`;
    const listed = this.#listed.get(hostPort);
    if (listed !== undefined) return listed;
    if (this.#patterns.some(({ matches, port }) => (port === undefined || port === address.port) && matches(host))) {
      return `http://${hostPort}`;
    }
    throw new KvferryError("peer_not_allowed", `${PREFILLER_HEADER} names an engine that this proxy may not use`);
  }
}

function hostPortOf(origin: string): string {
  const url = new URL(origin);
  return `${url.hostname}:${url.port === "" ? (url.protocol === "https:" ? 443 : 80) : url.port}`;
}
