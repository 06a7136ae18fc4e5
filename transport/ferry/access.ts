/** Who may connect: names and secrets of configured peers, addresses and CIDR blocks of the allow-list. */
import { BlockList, isIP } from "node:net";
import { KvferryError } from "../errors.ts";
import type { Endpoint } from "../link/link.ts";
import { sameSecret } from "../peer/greeting.ts";
import type { Hello } from "../peer/messages.ts";

export interface AccessRules {
  /** Names (of the remote's configuration), addresses or CIDR blocks; empty: nobody. */
  readonly allow: readonly string[];
  /** Shared secret of all that have none of their own; "" = none asked. */
  readonly secret: string;
  /** Configured peers: one with a secret of its own proves itself by that, whoever dials. */
  readonly peers: readonly { readonly name: string; readonly secret: string }[];
}

export class Access {
  readonly #names = new Set<string>();
  readonly #blocks = new BlockList();
  readonly #secret: string;
  readonly #ownSecrets = new Map<string, string>();

  constructor({ allow, secret, peers }: AccessRules) {
    this.#secret = secret;
    for (const peer of peers) if (peer.secret !== "") this.#ownSecrets.set(peer.name, peer.secret);
    for (const entry of allow) this.#add(entry);
  }

  #add(entry: string): void {
    const [address = "", prefix] = entry.split("/");
    const family = isIP(address);
    if (family === 0) this.#names.add(entry);
    else if (prefix === undefined) this.#blocks.addAddress(address, family === 6 ? "ipv6" : "ipv4");
    else this.#blocks.addSubnet(address, Number(prefix), family === 6 ? "ipv6" : "ipv4");
  }

  /** The address is on the list. */
  allows({ host }: Endpoint): boolean {
    const plain = host.startsWith("::ffff:") ? host.slice(7) : host;
    const family = isIP(plain);
    if (family === 0) return host === "localhost" && this.allows({ host: "127.0.0.1", port: 0 });
    return this.#blocks.check(plain, family === 6 ? "ipv6" : "ipv4");
  }

  /** Throws peer_not_allowed. The answer names no rule: a stranger learns nothing. */
  check(hello: Hello, remote: Endpoint): void {
    const secret = this.#ownSecrets.get(hello.name) ?? this.#secret;
    const byAddress = this.allows(remote);
    // A name is only as good as the secret that comes with it.
    const byName = secret !== "" && this.#names.has(hello.name);
    if (!byAddress && !byName) throw new KvferryError("peer_not_allowed", "not on the allow-list");
    if (!sameSecret(hello.secret, secret)) throw new KvferryError("peer_not_allowed", "another secret");
  }
}
