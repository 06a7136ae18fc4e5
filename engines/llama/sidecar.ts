/**
 * The engine's connection to the sidecar beside it: made when it is first needed, and again after it was lost. An engine outlives its
 * sidecar, and computes while there is none.
 */
import { type ClientFerry, connect, type FerryEvent, KvferryError, type Layout, type ModelIdentity, type PoolInfo } from "./kvferry.ts";

/** What an engine uses of a client. */
export type EngineFerry = Pick<
  ClientFerry,
  "pool" | "attach" | "registerModel" | "alloc" | "free" | "offer" | "withdraw" | "fetch" | "on" | "reconnect" | "close"
>;

export interface Attached {
  readonly ferry: EngineFerry;
  readonly pool: PoolInfo;
  /** The pool's memory. It stays mapped while somebody holds it, also when the sidecar is gone: what is written then reaches nobody. */
  readonly memory: Uint8Array;
  /** The sidecar's number for our model on this connection. */
  readonly model: number;
  readonly fingerprint: string;
  /** After a loss: blocks and offers of before are still ours. */
  readonly resumed: boolean;
}

export interface SidecarOptions {
  readonly identity: ModelIdentity;
  /** How the blocks of a pool are described. */
  readonly layout: (pool: PoolInfo) => Layout;
  readonly open: () => Promise<EngineFerry>;
  readonly onEvent: (event: FerryEvent) => void;
}

export class Sidecar {
  readonly #options: SidecarOptions;
  #ferry: EngineFerry | undefined;
  #attached: Promise<Attached> | undefined;
  #release: () => void = () => undefined;

  constructor(options: SidecarOptions) {
    this.#options = options;
  }

  /** The same object until the connection is lost. Rejects with KvferryError while the sidecar is away; the next call tries again. */
  attach(): Promise<Attached> {
    if (this.#attached === undefined) {
      const attached = this.#attach();
      this.#attached = attached;
      attached.catch(() => {
        if (this.#attached === attached) this.#attached = undefined;
      });
    }
    return this.#attached;
  }

  async close(): Promise<void> {
    this.#attached = undefined;
    await this.#ferry?.close();
    this.#release();
  }

  async #attach(): Promise<Attached> {
    const { identity, layout } = this.#options;
    const { ferry, resumed } = await this.#connect();
    const pool = await ferry.pool();
    const region = await ferry.attach();
    this.#release();
    this.#release = () => region.close();
    const { model, fingerprint } = await ferry.registerModel(identity, layout(pool));
    return { ferry, pool, memory: region.view, model, fingerprint, resumed };
  }

  async #connect(): Promise<{ ferry: EngineFerry; resumed: boolean }> {
    if (this.#ferry !== undefined) {
      const { resumed, incarnationChanged } = await this.#ferry.reconnect();
      return { ferry: this.#ferry, resumed: resumed && !incarnationChanged };
    }
    const ferry = await this.#options.open();
    ferry.on((event) => {
      if (event.kind === "lost") this.#attached = undefined;
      this.#options.onEvent(event);
    });
    this.#ferry = ferry;
    return { ferry, resumed: false };
  }
}

/** Whatever went wrong, as an error of the closed list. */
export function asKvferryError(cause: unknown): KvferryError {
  if (cause instanceof KvferryError) return cause;
  return new KvferryError("internal", cause instanceof Error ? cause.message : String(cause), { cause });
}

export function openSocket(socket: string): () => Promise<EngineFerry> {
  return () => connect(socket, { client: `llama.cpp ${process.pid}` });
}
