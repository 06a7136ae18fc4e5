/** A node as one tenant's: who may be its peer, and what of other tenants of this process their peers may ask for. */
import { KvferryError } from "../errors.ts";
import type { ConnectionId } from "../link/link.ts";
import type { Caller } from "../peer/caller.ts";
import type { Hello } from "../peer/messages.ts";
import type { Sight, Tenancy } from "../policy/tenancy.ts";
import type { NodeContext } from "./context.ts";
import type { Denials } from "./denials.ts";
import type { Serving } from "./serving.ts";

/** What the nodes of one process have in common: the policy as it is now, and each other. */
export interface TenantHost {
  readonly name: string;
  readonly tenancy: Tenancy;
  /** Of another tenant of the policy. */
  nodeOf(tenant: string): TenantNode;
  /** What the link tells of this connection is for that tenant's node from now on, and what it has told already. */
  handOver(connection: ConnectionId, tenant: string): void;
}

/** Where somebody who dialled this process is let in. */
export interface Entrance {
  /** Throws full. */
  welcome(nowUs: number, connection: ConnectionId, hello: Hello, caller: Caller): void;
}

export interface TenantNode extends NodeContext {
  readonly peers: NodeContext["peers"] & Entrance;
  readonly serving: Serving;
}

/** Whose content is asked for, and what of it exists for the asker (undefined: all). */
export interface Held {
  readonly node: TenantNode;
  readonly sight: Sight | undefined;
}

export class TenantDoor {
  readonly #own: TenantNode;
  readonly #host: TenantHost | undefined;
  readonly #denials: Denials;

  /** @param host undefined: there is no policy, and all peers are this node's */
  constructor(own: TenantNode, host: TenantHost | undefined, denials: Denials) {
    this.#own = own;
    this.#host = host;
    this.#denials = denials;
  }

  get name(): string {
    return this.#host?.name ?? "";
  }

  /** Bytes a second, 0 = none. */
  get rateBytesPerSecond(): number {
    return this.#host?.tenancy.rateOf(this.name) ?? 0;
  }

  /** Somebody whom this node dialled. Throws tenant_denied. */
  meet(caller: Caller): void {
    if (!this.knows(caller)) this.#refuse("wrong_tenant", caller, `it may not speak for tenant ${this.name}`);
  }

  /** The policy is another one now: whether the other end may still be one of this node's. */
  knows({ identity }: Caller): boolean {
    return this.#host === undefined || this.#host.tenancy.tenantsOf(identity).includes(this.name);
  }

  /** Where somebody who dialled us belongs, by its certificate and its Hello. Throws tenant_denied. */
  entranceFor(connection: ConnectionId, hello: Hello, caller: Caller): Entrance {
    const tenant = this.#tenantOf(hello, caller);
    if (this.#host === undefined || tenant === this.name) return this.#own.peers;
    this.#host.handOver(connection, tenant);
    return this.#host.nodeOf(tenant).peers;
  }

  /** Throws tenant_denied: the other end of a connection of this node's is not of its tenant, or not any more. */
  check(hello: Hello, caller: Caller): void {
    const tenant = this.#tenantOf(hello, caller);
    if (tenant !== this.name) this.#refuse("wrong_tenant", caller, `it is of tenant ${tenant}, not of ${this.name}`);
  }

  /** For a question about `tenant`, "" = the asker's own. Throws tenant_denied, in the same words for one that is not here. */
  holding(tenant: string, caller: Caller): Held {
    if (tenant === "" || tenant === this.name) return { node: this.#own, sight: undefined };
    const sight = this.#host?.tenancy.sight(this.name, tenant);
    if (this.#host !== undefined && sight !== undefined) return { node: this.#host.nodeOf(tenant), sight };
    return this.#refuse(
      "no_rule",
      caller,
      `nothing of tenant ${tenant} may be asked for${this.name === "" ? "" : ` by tenant ${this.name}`}`,
    );
  }

  #tenantOf(hello: Hello, caller: Caller): string {
    if (this.#host === undefined) return "";
    try {
      return this.#host.tenancy.tenantOf(caller.identity, hello.tenant);
    } catch (error) {
      if (error instanceof KvferryError) this.#denials.add("wrong_tenant", caller, error.detail);
      throw error;
    }
  }

  #refuse(cause: "wrong_tenant" | "no_rule", caller: Caller, detail: string): never {
    this.#denials.add(cause, caller, detail);
    throw new KvferryError("tenant_denied", detail);
  }
}
