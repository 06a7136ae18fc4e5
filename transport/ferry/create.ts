/** A node in this process as its user holds it: a session of its own, which is the node's as well. */
import type { Config } from "../config.ts";
import { KvferryError } from "../errors.ts";
import type { Endpoint } from "../link/link.ts";
import { newMemory, type Region } from "../memory/region.ts";
import type { FerryBuffer, UserFerry } from "./ferry.ts";
import type { FerryHost } from "./host.ts";
import type { FerryNode } from "./node.ts";
import { type OpenNode, openNode, type OpenOptions } from "./open.ts";
import { Session } from "./session.ts";

/** A node in this process. As a Ferry it is its own first client. */
export interface LocalFerry extends UserFerry, Pick<OpenNode, "address" | "link" | "tls" | "drain"> {
  /** For an API server: a Ferry for each of its clients. */
  readonly host: FerryHost;
  readonly node: FerryNode;
}

/** Throws KvferryError: memory_unavailable, address_unavailable, unsupported, invalid_config. */
export async function openFerry(config: Config, options: OpenOptions = {}): Promise<LocalFerry> {
  // A library's user would be every tenant at once.
  if (config.policy !== "")
    throw new KvferryError("invalid_config", "policy: tenants have sockets of their own; kvferry serve serves them");
  const opened = await openNode(config, options);
  const [{ node }] = opened.worlds;
  return node.enroll(0, (holder) => new Library(node, holder, opened));
}

/** The library user's own session: closing it closes the node. */
class Library extends Session implements LocalFerry {
  readonly host: FerryHost;
  readonly node: FerryNode;
  readonly #opened: OpenNode;

  constructor(node: FerryNode, holder: number, opened: OpenNode) {
    super(node, holder, { client: "library", processId: 0 });
    this.host = node;
    this.node = node;
    this.#opened = opened;
  }

  get incarnation(): string {
    return this.node.incarnation;
  }
  get address(): Endpoint | undefined {
    return this.#opened.address;
  }
  get link(): LocalFerry["link"] {
    return this.#opened.link;
  }
  get tls(): LocalFerry["tls"] {
    return this.#opened.tls;
  }

  /** The node's own mapping: it lies in this process already, and goes with the node. */
  async attach(): Promise<Region> {
    await this.pool();
    return { ...this.node.pool.region, close: () => {} };
  }

  async createBuffer(bytes: number, namespace = ""): Promise<FerryBuffer> {
    const memory = newMemory(bytes);
    const info = await this.registerBuffer(memory, namespace);
    return {
      ...info,
      // The link's right to it ends with the registration, and the memory with whoever holds it.
      region: { bytes, path: "", nativeId: -1, view: memory, close: () => {} },
      close: () => this.unregisterBuffer(info.handle),
    };
  }

  drain(timeoutMs: number): Promise<boolean> {
    return this.#opened.drain(timeoutMs);
  }

  override close(): Promise<void> {
    return this.#opened.close();
  }
}
