/**
 * The engine's connection to the sidecar beside it: made when it is first needed, and again after it was lost. An engine outlives its
 * sidecar, and computes while there is none.
 */
import { type ClientFerry, connect, type FerryEvent, KvferryError, type Layout, type ModelIdentity, type PoolInfo } from "./kvferry.ts";

/** What an engine uses of a client. */
export type EngineFerry = Pick<
  ClientFerry,
  | "pool"
  | "attach"
  | "registerModel"
  | "keys"
  | "alloc"
  | "free"
  | "publish"
  | "lookup"
  | "lease"
  | "release"
  | "offer"
  | "withdraw"
  | "fetch"
  | "on"
  | "reconnect"
  | "close"
>;

export interface Attached {
  readonly ferry: EngineFerry;
  readonly pool: PoolInfo;
  /** The pool's memory. It stays mapped while somebody holds it, also when the sidecar is gone: what is written then reaches nobody. */
  readonly memory: Uint8Array;
  /** How its blocks are divided. */
  readonly layout: Layout;
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
    const divided = layout(pool);
    const { model, fingerprint } = await ferry.registerModel(identity, divided);
    return { ferry, pool, memory: region.view, layout: divided, model, fingerprint, resumed };
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

/** What the sidecar is given beyond a transfer's own deadline before the engine stops waiting for its answer. */
const ANSWER_GRACE_MS = 2_000;

/** Rejects with KvferryError deadline_exceeded where the sidecar itself does not keep the deadline. */
export async function withDeadline<T>(answer: Promise<T>, deadlineMs: number): Promise<T> {
  const timeoutMs = deadlineMs + ANSWER_GRACE_MS;
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new KvferryError("deadline_exceeded", `the sidecar has not answered for ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([answer, silence]);
  } finally {
    clearTimeout(timer);
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
