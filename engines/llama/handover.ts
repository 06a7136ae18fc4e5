/**
 * P/D hand-over: the KV of a whole prompt, the partly filled last block with it, offered under a handle and fetched with a ticket. Its full
 * blocks are published besides, so that later prompts that begin alike find them (prefix.ts).
 */
import { createHash } from "node:crypto";
import { blockTokensOf, copyFromBlocks, copyToBlocks, tokenBytes, type KvShape } from "./blocks.ts";
import { type Blocks, type FerryEvent, KvferryError, type TransferReport } from "./kvferry.ts";
import { pageKeys } from "./prefix.ts";
import type { Ticket } from "./protocol.ts";
import { type Attached, asKvferryError, type Sidecar, withDeadline } from "./sidecar.ts";
import { newState, type SequenceState, type StateShape } from "./state.ts";

interface Fetched {
  readonly state: SequenceState;
  readonly report: TransferReport;
  /** When the blocks were there, before the state was made of them (performance.now). */
  readonly arrivedAt: number;
}

export class Handover {
  readonly #sidecar: Sidecar;
  readonly #kv: KvShape;
  readonly #log: (line: string) => void;
  /** Blocks on offer, by handle; those that were not published are ours until the offer has ended. */
  readonly #offers = new Map<string, Blocks>();
  #attached: Attached | undefined;

  constructor(sidecar: Sidecar, kv: KvShape, log: (line: string) => void) {
    this.#sidecar = sidecar;
    this.#kv = kv;
    this.#log = log;
  }

  /** The sidecar, and after it was away: what it still holds of before is given back, as nobody will fetch it. */
  async attach(): Promise<Attached> {
    const attached = await this.#sidecar.attach();
    if (attached === this.#attached) return attached;
    this.#attached = attached;
    const before = [...this.#offers];
    this.#offers.clear();
    for (const [handle, blocks] of attached.resumed ? before : []) {
      await attached.ferry.withdraw(handle).catch((cause: unknown) => this.#log(asKvferryError(cause).message));
      await this.#free(attached, blocks);
    }
    return attached;
  }

  /** Rejects with KvferryError; nothing stays allocated then. */
  async offer(state: SequenceState): Promise<Ticket> {
    const attached = await this.attach();
    const { ferry, model, layout } = attached;
    const tokens = state.tokens.length;
    const blocks = await ferry.alloc(Math.ceil(tokens / blockTokensOf(layout)));
    let handle: string;
    try {
      copyToBlocks(state, attached, blocks);
      handle = await ferry.offer({ model, groups: [{ group: 0, blocks, tokens }], position: 0 });
    } catch (cause) {
      await this.#free(attached, blocks);
      throw cause;
    }
    this.#offers.set(handle, await this.#publish(attached, state.tokens, blocks));
    const bytes = tokens * tokenBytes(this.#kv);
    return { handle, bytes, blocks: blocks.ids.length, tokens, digest: digestOf(state.tokens) };
  }

  /** The state of exactly these tokens, by a ticket. Rejects with KvferryError; no block stays with us either way. */
  async fetch(shape: StateShape, tokens: Uint32Array, peer: string, ticket: Ticket, deadlineMs: number): Promise<Fetched> {
    if (ticket.tokens !== tokens.length || ticket.digest !== digestOf(tokens)) {
      throw new KvferryError(
        "invalid_argument",
        `the ticket is for ${ticket.tokens} tokens of another prompt, this one needs ${tokens.length}`,
      );
    }
    const attached = await this.attach();
    const { ferry, model, layout } = attached;
    const blocks = await ferry.alloc(Math.ceil(tokens.length / blockTokensOf(layout)));
    try {
      const into = [{ group: 0, blocks, tokens: tokens.length }];
      const answer = ferry
        .fetch({ peer, model, source: { handle: ticket.handle }, into, exact: true, deadlineMs })
        .then(({ done }) => done);
      const report = await withDeadline(answer, deadlineMs);
      const arrivedAt = performance.now();
      const state = newState({ shape, tokens });
      copyFromBlocks(state, attached, blocks);
      return { state, report, arrivedAt };
    } finally {
      await this.#free(attached, blocks);
    }
  }

  /** The sidecar's events: an offer that has ended gives its blocks back. */
  handleEvent(event: FerryEvent): void {
    if (event.kind !== "offerEnded") return;
    const blocks = this.#offers.get(event.handle);
    if (blocks === undefined || this.#attached === undefined) return;
    this.#offers.delete(event.handle);
    void this.#free(this.#attached, blocks);
  }

  /** Publishes the full ones of offered blocks, which the offer keeps as they are until it ends; returns those that stay ours. */
  async #publish(attached: Attached, tokens: Uint32Array, blocks: Blocks): Promise<Blocks> {
    const whole = Math.floor(tokens.length / blockTokensOf(attached.layout));
    if (whole === 0) return blocks;
    try {
      await attached.ferry.publish(attached.model, 0, sliceBlocks(blocks, 0, whole), await pageKeys(attached, tokens));
      return sliceBlocks(blocks, whole);
    } catch (cause) {
      // The hand-over does not need it.
      this.#log(`the prefix is not published: ${asKvferryError(cause).message}`);
      return blocks;
    }
  }

  /** Should it fail, the sidecar takes the blocks back when this process ends. */
  async #free({ ferry }: Attached, blocks: Blocks): Promise<void> {
    if (blocks.ids.length === 0) return;
    await ferry.free(blocks).catch((cause: unknown) => this.#log(asKvferryError(cause).message));
  }
}

function sliceBlocks({ ids, generations }: Blocks, from: number, to?: number): Blocks {
  return { ids: ids.slice(from, to), generations: generations.slice(from, to) };
}

function digestOf(tokens: Uint32Array): string {
  const bytes = new DataView(new ArrayBuffer(tokens.length * 4));
  tokens.forEach((token, index) => bytes.setUint32(index * 4, token, true));
  return createHash("sha256").update(new Uint8Array(bytes.buffer)).digest("hex");
}
