/**
 * One llama.cpp engine beside a sidecar. It prefills prompts and offers their KV; it decodes, with KV fetched from another engine's
 * sidecar if there is a ticket for it. Whatever goes wrong on that way, with whatever code, it computes the prompt itself and gives the
 * same answer later.
 */
import { join } from "node:path";
import { blocksFor, copyIn, copyOut, makeStateFolder, piecesOf, removeStateFolder, stateBytes } from "./carrier.ts";
import { type Blocks, type FerryEvent, KvferryError, type TransferReport } from "./kvferry.ts";
import type { Command, Decoded, Failure, Prefilled, Ready, Ticket } from "./protocol.ts";
import type { Runtime } from "./runtime.ts";
import { type Attached, asKvferryError, type EngineFerry, type Sidecar } from "./sidecar.ts";

type DecodeCommand = Extract<Command, { op: "decode" }>;
type PrefillCommand = Extract<Command, { op: "prefill" }>;
type Restored = { readonly report: TransferReport; readonly restoreMs: number };

/** What the sidecar is given beyond the transfer's own deadline before the engine stops waiting for its answer. */
const ANSWER_GRACE_MS = 2_000;
/** For choosing a folder: a state of a long prompt. */
const STATE_BYTES_EXPECTED = 256 * 1024 * 1024;

export class Engine {
  readonly #runtime: Runtime;
  readonly #sidecar: Sidecar;
  readonly #log: (line: string) => void;
  /** Blocks on offer, by handle; they are ours until the offer has ended. */
  readonly #offers = new Map<string, Blocks>();
  #attached: Attached | undefined;

  constructor(runtime: Runtime, sidecar: Sidecar, log: (line: string) => void) {
    this.#runtime = runtime;
    this.#sidecar = sidecar;
    this.#log = log;
  }

  async ready(): Promise<Ready> {
    const { fingerprint, pool } = await this.#attach();
    const { blockBytes, blockCount } = pool;
    return { event: "ready", description: this.#runtime.description, fingerprint, blockBytes, blockCount };
  }

  /** Rejects with KvferryError; nothing stays allocated then. */
  async prefill({ id, prompt }: PrefillCommand): Promise<Prefilled> {
    const tokens = this.#tokenize(prompt);
    const startedAt = performance.now();
    await this.#runtime.prefill(tokens);
    const prefilledAt = performance.now();
    const ticket = await this.#offer(tokens.length - 1);
    return {
      event: "prefilled",
      id,
      tokens: tokens.length - 1,
      prefillMs: prefilledAt - startedAt,
      saveMs: performance.now() - prefilledAt,
      ticket,
    };
  }

  /** Rejects only where the prompt itself is no good: without its KV it is computed here. */
  async decode({ id, prompt, count, from }: DecodeCommand): Promise<Decoded> {
    const startedAt = performance.now();
    const tokens = this.#tokenize(prompt);
    let restored: Restored | undefined;
    let failure: Failure | undefined;
    if (from !== undefined) {
      try {
        restored = await this.#fetch(tokens, from.peer, from.ticket, from.deadlineMs);
      } catch (cause) {
        const { code, message } = asKvferryError(cause);
        failure = { code, message, afterMs: performance.now() - startedAt };
        this.#log(`no KV from ${from.peer}, computing it: ${message}`);
      }
    }
    if (restored === undefined) await this.#runtime.prefill(tokens);

    const made: number[] = [];
    let firstTokenMs = 0;
    await this.#runtime.decode(tokens.at(-1) as number, count, (token) => {
      if (made.length === 0) firstTokenMs = performance.now() - startedAt;
      made.push(token);
    });
    return {
      event: "decoded",
      id,
      via: restored === undefined ? "computed" : "ferried",
      promptTokens: tokens.length,
      firstTokenMs,
      totalMs: performance.now() - startedAt,
      tokens: made,
      text: this.#runtime.detokenize(made),
      ...restored,
      ...(failure === undefined ? {} : { failure }),
    };
  }

  /** The sidecar's events: an offer that has ended gives its blocks back. */
  handleEvent(event: FerryEvent): void {
    if (event.kind !== "offerEnded") return;
    const blocks = this.#offers.get(event.handle);
    if (blocks === undefined || this.#attached === undefined) return;
    this.#offers.delete(event.handle);
    void this.#free(this.#attached.ferry, blocks);
  }

  async close(): Promise<void> {
    await this.#sidecar.close().catch((cause: unknown) => this.#log(asKvferryError(cause).message));
    await this.#runtime.close();
  }

  #tokenize(prompt: string): number[] {
    const tokens = this.#runtime.tokenize(prompt);
    if (tokens.length < 2) throw new KvferryError("invalid_argument", `a prompt has at least 2 tokens, this one has ${tokens.length}`);
    return tokens;
  }

  /** The sidecar, and after it was away: what it still holds of before is given back, as nobody will fetch it. */
  async #attach(): Promise<Attached> {
    const attached = await this.#sidecar.attach();
    if (attached === this.#attached) return attached;
    this.#attached = attached;
    const before = [...this.#offers];
    this.#offers.clear();
    for (const [handle, blocks] of attached.resumed ? before : []) {
      await attached.ferry.withdraw(handle).catch((cause: unknown) => this.#log(asKvferryError(cause).message));
      await this.#free(attached.ferry, blocks);
    }
    return attached;
  }

  async #offer(tokens: number): Promise<Ticket> {
    const { ferry, pool, memory, model } = await this.#attach();
    return this.#withStateFile(async (path) => {
      await this.#runtime.save(path);
      const bytes = stateBytes(path);
      const blocks = await ferry.alloc(blocksFor(bytes, pool.blockBytes));
      try {
        copyIn(path, memory, piecesOf(pool, blocks, bytes));
        const handle = await ferry.offer({ model, groups: [{ group: 0, blocks, tokens: blocks.ids.length }] });
        this.#offers.set(handle, blocks);
        return { handle, bytes, blocks: blocks.ids.length, tokens };
      } catch (cause) {
        await this.#free(ferry, blocks);
        throw cause;
      }
    });
  }

  /** Should it fail, the sidecar takes the blocks back when this process ends. */
  async #free(ferry: EngineFerry, blocks: Blocks): Promise<void> {
    await ferry.free(blocks).catch((cause: unknown) => this.#log(asKvferryError(cause).message));
  }

  async #fetch(tokens: readonly number[], peer: string, ticket: Ticket, deadlineMs: number): Promise<Restored> {
    if (ticket.tokens !== tokens.length - 1) {
      throw new KvferryError("invalid_argument", `the ticket is for ${ticket.tokens} tokens, the prompt needs ${tokens.length - 1}`);
    }
    const attached = await this.#attach();
    if (blocksFor(ticket.bytes, attached.pool.blockBytes) !== ticket.blocks) {
      throw new KvferryError(
        "layout_unconvertible",
        `blocks of ${attached.pool.blockBytes} bytes here hold ${ticket.bytes} bytes in another number`,
      );
    }
    const blocks = await attached.ferry.alloc(ticket.blocks);
    try {
      const report = await this.#transfer(attached, peer, ticket, blocks, deadlineMs);
      const arrivedAt = performance.now();
      await this.#restore(tokens, attached, blocks, ticket.bytes);
      return { report, restoreMs: performance.now() - arrivedAt };
    } finally {
      await this.#free(attached.ferry, blocks);
    }
  }

  async #transfer({ ferry, model }: Attached, peer: string, ticket: Ticket, blocks: Blocks, deadlineMs: number): Promise<TransferReport> {
    const source = { handle: ticket.handle };
    const into = [{ group: 0, blocks, tokens: blocks.ids.length }];
    const answer = ferry.fetch({ peer, model, source, into, deadlineMs }).then((transfer) => transfer.done);
    return withDeadline(answer, deadlineMs + ANSWER_GRACE_MS);
  }

  async #restore(tokens: readonly number[], { pool, memory }: Attached, blocks: Blocks, bytes: number): Promise<void> {
    await this.#withStateFile(async (path) => {
      copyOut(path, memory, piecesOf(pool, blocks, bytes));
      await this.#runtime.restore(path);
    });
    const held = this.#runtime.held();
    // The state names its tokens: KV of another prompt would continue another text.
    if (held.length !== tokens.length - 1 || held.some((token, index) => token !== tokens[index])) {
      throw new KvferryError("invalid_argument", "the KV that came belongs to another prompt");
    }
  }

  /** A file of its own for one state; nothing is left of it, and an engine that is killed while idle leaves nothing behind. */
  async #withStateFile<T>(use: (path: string) => Promise<T>): Promise<T> {
    const folder = makeStateFolder(STATE_BYTES_EXPECTED);
    try {
      return await use(join(folder, "sequence.state"));
    } finally {
      removeStateFolder(folder);
    }
  }
}

async function withDeadline<T>(answer: Promise<T>, timeoutMs: number): Promise<T> {
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
