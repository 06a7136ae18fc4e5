/** Doubles for the tests of the engine: a runtime whose arithmetic a reader can follow, and a sidecar that hands blocks over itself. */
import { readFileSync, writeFileSync } from "node:fs";
import type { Runtime } from "../../engines/llama/runtime.ts";
import type { EngineFerry } from "../../engines/llama/sidecar.ts";
import { ERRORS, type ErrorCode, KvferryError } from "../../transport/errors.ts";
import type { FerryEvent, FetchRequest, OfferRequest, Transfer, TransferReport } from "../../transport/ferry/ferry.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { Region } from "../../transport/memory/region.ts";

const STATE_BYTES_PER_TOKEN = 100;

/** "Tokens" are the characters' codes; each new one is the sum of all that went before. Its state is 100 bytes a token. */
export class SumRuntime implements Runtime {
  readonly identity = { model: "sum", revision: "1", element: "u8", rope: "", profile: "", extra: "" };
  readonly description = "sums";
  prefills = 0;
  #held: number[] = [];

  tokenize(text: string): number[] {
    return [...Buffer.from(text, "latin1")];
  }
  detokenize(tokens: readonly number[]): string {
    return Buffer.from(tokens).toString("latin1");
  }
  async prefill(tokens: readonly number[]): Promise<void> {
    this.prefills++;
    this.#held = tokens.slice(0, -1);
  }
  async save(path: string): Promise<void> {
    writeFileSync(path, Buffer.concat(this.#held.map((token) => Buffer.alloc(STATE_BYTES_PER_TOKEN, token))));
  }
  async restore(path: string): Promise<void> {
    const state = readFileSync(path);
    this.#held = Array.from({ length: state.length / STATE_BYTES_PER_TOKEN }, (_, index) => state[index * STATE_BYTES_PER_TOKEN] as number);
  }
  held(): readonly number[] {
    return this.#held;
  }
  async decode(last: number, count: number, onToken: (token: number) => void): Promise<void> {
    for (let token = last, made = 0; made < count; made++) {
      this.#held.push(token);
      token = this.#held.reduce((sum, held) => (sum + held) % 251, made);
      onToken(token);
    }
  }
  async close(): Promise<void> {}
}

export const BLOCK_BYTES = 256;
const BLOCK_COUNT = 64;
const DATA_OFFSET = 4096;
const POOL_BYTES = DATA_OFFSET + BLOCK_BYTES * BLOCK_COUNT;

type Offers = Map<string, { readonly from: NearSidecar; readonly blocks: Blocks }>;

/** Sidecars that know each other: what one offers the other can fetch, once. */
export class NearSidecar implements EngineFerry {
  readonly memory = new Uint8Array(POOL_BYTES).fill(0xee);
  readonly held = new Set<number>();
  /** Makes every fetch fail. */
  failWith: ErrorCode | undefined;
  /** Away: nothing works until it is back, under a new life if `forgets`. */
  away = false;
  forgets = false;
  readonly #offers: Offers;
  readonly #listeners = new Set<(event: FerryEvent) => void>();
  /** Ids are given out far apart and backwards, as a pool in use would. */
  #nextBlock = BLOCK_COUNT - 1;

  constructor(offers: Offers) {
    this.#offers = offers;
  }

  async pool(): ReturnType<EngineFerry["pool"]> {
    this.#check();
    return { path: "p", bytes: POOL_BYTES, dataOffset: DATA_OFFSET, blockBytes: BLOCK_BYTES, blockCount: BLOCK_COUNT, incarnation: "0" };
  }
  async attach(): Promise<Region> {
    return { bytes: POOL_BYTES, path: "p", nativeId: -1, view: this.memory, close: () => undefined };
  }
  async registerModel(): ReturnType<EngineFerry["registerModel"]> {
    return { model: 1, fingerprint: "f" };
  }
  async reconnect(): ReturnType<EngineFerry["reconnect"]> {
    this.#check();
    if (this.forgets) this.held.clear();
    return { resumed: !this.forgets, incarnationChanged: this.forgets };
  }
  async alloc(count: number): Promise<Blocks> {
    this.#check();
    if (this.held.size + count > BLOCK_COUNT) throw new KvferryError("pool_exhausted");
    const ids = Uint32Array.from({ length: count }, () => this.#takeBlock());
    return { ids, generations: new Uint32Array(count).fill(1) };
  }
  async free(blocks: Blocks): Promise<void> {
    this.#check();
    for (const id of blocks.ids) if (!this.held.delete(id)) throw new KvferryError("not_owner", `block ${id}`);
  }
  async offer({ groups }: OfferRequest): Promise<string> {
    const handle = `offer ${this.#offers.size}`;
    this.#offers.set(handle, { from: this, blocks: groups[0]?.blocks as Blocks });
    return handle;
  }
  async withdraw(handle: string): Promise<void> {
    if (!this.#offers.delete(handle)) throw new KvferryError("handle_unknown");
  }
  async fetch({ source, into }: FetchRequest): Promise<Transfer> {
    this.#check();
    if (this.failWith !== undefined) throw new KvferryError(this.failWith, "as the test asked");
    const handle = "handle" in source ? source.handle : "";
    const offer = this.#offers.get(handle);
    if (offer === undefined) throw new KvferryError("handle_unknown");
    this.#offers.delete(handle);
    const done = Promise.resolve(this.#carry(offer.from, offer.blocks, into[0]?.blocks as Blocks));
    offer.from.emit({ kind: "offerEnded", handle, ok: true, code: "" });
    return { transfer: 1, cancel: () => undefined, done };
  }
  on(listener: (event: FerryEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  async close(): Promise<void> {}
  emit(event: FerryEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
  leave(): void {
    this.away = true;
    this.emit({ kind: "lost", detail: "as the test asked" });
  }

  #check(): void {
    if (this.away) throw new KvferryError("connect_failed", "away");
  }

  #takeBlock(): number {
    do this.#nextBlock = (this.#nextBlock + BLOCK_COUNT - 7) % BLOCK_COUNT;
    while (this.held.has(this.#nextBlock));
    this.held.add(this.#nextBlock);
    return this.#nextBlock;
  }

  #carry(from: NearSidecar, theirs: Blocks, ours: Blocks): TransferReport {
    theirs.ids.forEach((block, index) => {
      const at = DATA_OFFSET + block * BLOCK_BYTES;
      this.memory.set(from.memory.subarray(at, at + BLOCK_BYTES), DATA_OFFSET + (ours.ids[index] as number) * BLOCK_BYTES);
    });
    const bytes = theirs.ids.length * BLOCK_BYTES;
    return { transfer: 1, bytes, wireBytes: bytes, seconds: 1, chunks: 1, retries: 0, link: "near", order: "flat", resumed: 0 };
  }
}

export const ALL_CODES = Object.keys(ERRORS) as ErrorCode[];
