/**
 * One llama.cpp engine beside a sidecar. It prefills prompts, offers their KV and publishes it; it decodes, with KV that came with a ticket
 * or with the published KV of a prefix. Whatever goes wrong on those ways, with whatever code, it computes the prompt itself and gives the
 * same answer later. Its sequences are independent; each carries out one command at a time, which is the caller's care.
 */
import assert from "node:assert/strict";
import { blockTokensOf } from "./blocks.ts";
import { Handover } from "./handover.ts";
import { type FerryEvent, KvferryError } from "./kvferry.ts";
import { findPrefix } from "./prefix.ts";
import type { Command, Decoded, Failure, Prefilled, Ready, Reuse } from "./protocol.ts";
import type { Runtime, RuntimeSequence } from "./runtime.ts";
import { asKvferryError, type Sidecar } from "./sidecar.ts";

type DecodeCommand = Extract<Command, { op: "decode" }>;
type PrefillCommand = Extract<Command, { op: "prefill" }>;
/** How the prompt's KV came into the sequence. */
type Filled = Pick<Decoded, "via" | "report" | "restoreMs" | "reused" | "failure">;

export class Engine {
  readonly #runtime: Runtime;
  readonly #sidecar: Sidecar;
  readonly #handover: Handover;
  readonly #log: (line: string) => void;

  constructor(runtime: Runtime, sidecar: Sidecar, log: (line: string) => void) {
    this.#runtime = runtime;
    this.#sidecar = sidecar;
    this.#handover = new Handover(sidecar, runtime.kv, log);
    this.#log = log;
  }

  async ready(): Promise<Ready> {
    const { fingerprint, pool, layout } = await this.#handover.attach();
    const { blockBytes, blockCount } = pool;
    const { description, sequences } = this.#runtime;
    const blockTokens = blockTokensOf(layout);
    return { event: "ready", description, fingerprint, blockBytes, blockCount, blockTokens, sequences: sequences.length };
  }

  /** Rejects with KvferryError; nothing stays allocated then. */
  async prefill(command: PrefillCommand): Promise<Prefilled> {
    const sequence = this.#sequence(command.sequence);
    const { before } = this.#tokenize(command.prompt);
    const startedAt = performance.now();
    const { reused } = await this.#fill(sequence, before, command);
    const prefilledAt = performance.now();
    const state = await sequence.save();
    assert(
      state.tokens.length === before.length && state.tokens.every((token, at) => token === before[at]),
      "a state is that of its prompt",
    );
    const ticket = await this.#handover.offer(state);
    return {
      event: "prefilled",
      id: command.id,
      tokens: before.length,
      prefillMs: prefilledAt - startedAt,
      saveMs: performance.now() - prefilledAt,
      ticket,
      ...(reused === undefined ? {} : { reused }),
    };
  }

  /** Rejects only where the prompt itself is no good: without its KV it is computed here. */
  async decode(command: DecodeCommand): Promise<Decoded> {
    const startedAt = performance.now();
    const sequence = this.#sequence(command.sequence);
    const { before, last } = this.#tokenize(command.prompt);
    const filled = await this.#fill(sequence, before, command);
    const made: number[] = [];
    let firstTokenMs = 0;
    await sequence.decode(last, command.count, (token) => {
      if (made.length === 0) firstTokenMs = performance.now() - startedAt;
      made.push(token);
    });
    return {
      event: "decoded",
      id: command.id,
      promptTokens: before.length + 1,
      firstTokenMs,
      totalMs: performance.now() - startedAt,
      tokens: made,
      text: this.#runtime.detokenize(made),
      ...filled,
    };
  }

  handleEvent(event: FerryEvent): void {
    this.#handover.handleEvent(event);
  }

  async close(): Promise<void> {
    await this.#sidecar.close().catch((cause: unknown) => this.#log(asKvferryError(cause).message));
    await this.#runtime.close();
  }

  #sequence(index: number): RuntimeSequence {
    const { sequences } = this.#runtime;
    const sequence = sequences[index];
    if (sequence === undefined)
      throw new KvferryError("invalid_argument", `sequence ${index}, and there are ${sequences.length} (--sequences)`);
    return sequence;
  }

  /** The last token is apart: it is what a decode begins with. */
  #tokenize(prompt: string): { before: number[]; last: number } {
    const tokens = this.#runtime.tokenize(prompt);
    const last = tokens.pop();
    if (last === undefined || tokens.length === 0) throw new KvferryError("invalid_argument", "a prompt has at least 2 tokens");
    const { contextTokens } = this.#runtime;
    // llama.cpp would drop a part of it and move the rest, which is the KV of no prompt.
    if (tokens.length >= contextTokens) {
      throw new KvferryError("invalid_argument", `a prompt of ${tokens.length + 1} tokens, and a context of ${contextTokens} (--context)`);
    }
    return { before: tokens, last };
  }

  /** With the ticket if there is one, else with a published prefix if that is wanted, else by computing. */
  async #fill(sequence: RuntimeSequence, tokens: readonly number[], command: PrefillCommand | DecodeCommand): Promise<Filled> {
    const startedAt = performance.now();
    let failure: Failure | undefined;
    const ways = [
      () => (command.op === "decode" && command.from !== undefined ? this.#fetch(sequence, tokens, command.from) : undefined),
      () => (command.reuse === undefined ? undefined : this.#reuse(sequence, tokens, command.reuse)),
    ];
    for (const way of ways) {
      try {
        const filled = await way();
        if (filled !== undefined) return failure === undefined ? filled : { ...filled, failure };
      } catch (cause) {
        const { code, message } = asKvferryError(cause);
        failure ??= { code, message, afterMs: performance.now() - startedAt };
        this.#log(`no KV from elsewhere: ${message}`);
      }
    }
    await sequence.prefill(tokens);
    return failure === undefined ? { via: "computed" } : { via: "computed", failure };
  }

  async #fetch(sequence: RuntimeSequence, tokens: readonly number[], from: NonNullable<DecodeCommand["from"]>): Promise<Filled> {
    const { peer, ticket, deadlineMs } = from;
    const { stateShape } = this.#runtime;
    const { state, report, arrivedAt } = await this.#handover.fetch(stateShape, Uint32Array.from(tokens), peer, ticket, deadlineMs);
    await sequence.resume(state, tokens);
    return { via: "ferried", report, restoreMs: performance.now() - arrivedAt };
  }

  async #reuse(sequence: RuntimeSequence, tokens: readonly number[], reuse: Reuse): Promise<Filled | undefined> {
    const attached = await this.#handover.attach();
    const prefix = await findPrefix(attached, this.#runtime.stateShape, Uint32Array.from(tokens), reuse, this.#log);
    if (prefix === undefined) return undefined;
    const { state, fetchedTokens, report } = prefix;
    const arrivedAt = performance.now();
    await sequence.resume(state, tokens);
    const reused = { tokens: state.tokens.length, fetchedTokens };
    return { via: "reused", reused, restoreMs: performance.now() - arrivedAt, ...(report === undefined ? {} : { report }) };
  }
}
