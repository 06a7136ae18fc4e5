/**
 * Doubles for the tests of the engine: a runtime whose arithmetic a reader can follow and whose states are llama.cpp's, and a sidecar that
 * hands blocks over itself and knows keys.
 */
import type { KvShape } from "../../engines/llama/blocks.ts";
import type { Runtime, RuntimeSequence } from "../../engines/llama/runtime.ts";
import { newState, type SequenceState } from "../../engines/llama/state.ts";
import type { EngineFerry } from "../../engines/llama/sidecar.ts";
import { ERRORS, type ErrorCode, KvferryError } from "../../transport/errors.ts";
import type { FerryEvent, FetchRequest, OfferRequest, Transfer, TransferReport } from "../../transport/ferry/ferry.ts";
import { fingerprint, keyChain } from "../../transport/kv/identity.ts";
import type { Blocks } from "../../transport/memory/pool.ts";
import type { Region } from "../../transport/memory/region.ts";

export const KV: KvShape = { layers: 2, heads: 2, channels: 2 };
const SHAPE = { layers: KV.layers, rowValues: KV.heads * KV.channels, transposed: true, streams: 2 } as const;
const IDENTITY = { model: "sum", revision: "1", element: "f16", rope: "", profile: "", extra: "" };

/** What stands in the tensors for a token at a position: layer, which of K and V, and channel make a difference. */
function valueOf(token: number, position: number, layer: number, v: boolean, channel: number): number {
  return (token * 7 + position * 131 + layer * 1_009 + (v ? 5_003 : 0) + channel * 17) % 65_536;
}

/** "Tokens" are the characters' codes; each new one is the sum of all that went before, read from its KV. */
class SumSequence implements RuntimeSequence {
  evaluated = 0;
  #held: SequenceState | undefined;

  async prefill(tokens: readonly number[]): Promise<void> {
    this.#held = undefined;
    this.#evaluate(tokens);
  }
  async resume(state: SequenceState, tokens: readonly number[]): Promise<void> {
    this.#held = state;
    this.#evaluate(tokens.slice(state.tokens.length));
  }
  async save(): Promise<SequenceState> {
    return this.#held as SequenceState;
  }
  async decode(last: number, count: number, onToken: (token: number) => void): Promise<void> {
    for (let token = last, made = 0; made < count; made++) {
      this.#evaluate([token]);
      const { layers } = this.#held as SequenceState;
      token = layers.flatMap(({ k, v }) => [...k, ...v]).reduce((sum, value) => (sum + value) % 251, made);
      onToken(token);
    }
  }

  #evaluate(more: readonly number[]): void {
    this.evaluated += more.length;
    const before = this.#held;
    const from = before?.tokens.length ?? 0;
    const tokens = Uint32Array.from([...(before?.tokens ?? []), ...more]);
    const state = newState({ shape: SHAPE, tokens });
    const cells = tokens.length;
    state.layers.forEach(({ k, v }, layer) => {
      for (let at = 0; at < cells; at++) {
        for (let channel = 0; channel < SHAPE.rowValues; channel++) {
          const old = before?.layers[layer];
          const [kAt, vAt] = [at * SHAPE.rowValues + channel, channel * cells + at];
          const token = tokens[at] as number;
          k[kAt] = at < from ? (old?.k[kAt] as number) : valueOf(token, at, layer, false, channel);
          v[vAt] = at < from ? (old?.v[channel * from + at] as number) : valueOf(token, at, layer, true, channel);
        }
      }
    });
    this.#held = state;
  }
}

export class SumRuntime implements Runtime {
  readonly identity = IDENTITY;
  readonly kv = KV;
  readonly stateShape = SHAPE;
  readonly contextTokens = 1_200;
  readonly description = "sums";
  readonly sequences = [new SumSequence(), new SumSequence()];

  /** Tokens evaluated so far, in all sequences. */
  get evaluated(): number {
    return this.sequences.reduce((sum, { evaluated }) => sum + evaluated, 0);
  }
  tokenize(text: string): number[] {
    return [...Buffer.from(text, "latin1")];
  }
  detokenize(tokens: readonly number[]): string {
    return Buffer.from(tokens).toString("latin1");
  }
  async close(): Promise<void> {}
}

/** Of one page of this model, and something besides. */
export const BLOCK_BYTES = 16 * 32 + 8;
export const BLOCK_TOKENS = 16;
const BLOCK_COUNT = 64;
const DATA_OFFSET = 4096;
const POOL_BYTES = DATA_OFFSET + BLOCK_BYTES * BLOCK_COUNT;

/** Sidecars that know each other: what one offers or publishes the others can fetch. */
export class Neighbourhood {
  readonly offers = new Map<string, { readonly from: NearSidecar; readonly blocks: Blocks }>();
  readonly sidecars = new Map<string, NearSidecar>();
}

export class NearSidecar implements EngineFerry {
  readonly memory = new Uint8Array(POOL_BYTES).fill(0xee);
  /** Blocks of the engine's. */
  readonly held = new Set<number>();
  /** Published blocks, by the key of their page in hex. */
  readonly published = new Map<string, number>();
  /** Leases that have not come back. */
  leases = 0;
  /** Makes every fetch, look-up or publication fail. */
  failWith: ErrorCode | undefined;
  /** Away: nothing works until it is back, under a new life if `forgets`. */
  away = false;
  forgets = false;
  readonly #near: Neighbourhood;
  readonly #listeners = new Set<(event: FerryEvent) => void>();
  /** Ids are given out far apart and backwards, as a pool in use would. */
  #nextBlock = BLOCK_COUNT - 1;

  constructor(near: Neighbourhood, name: string) {
    this.#near = near;
    near.sidecars.set(name, this);
  }

  async pool(): ReturnType<EngineFerry["pool"]> {
    this.#check();
    return { path: "p", bytes: POOL_BYTES, dataOffset: DATA_OFFSET, blockBytes: BLOCK_BYTES, blockCount: BLOCK_COUNT, incarnation: "0" };
  }
  async attach(): Promise<Region> {
    return { bytes: POOL_BYTES, path: "p", nativeId: -1, view: this.memory, close: () => undefined };
  }
  async registerModel(): ReturnType<EngineFerry["registerModel"]> {
    return { model: 1, fingerprint: fingerprint(IDENTITY) };
  }
  async reconnect(): ReturnType<EngineFerry["reconnect"]> {
    this.#check();
    if (this.forgets) this.held.clear();
    return { resumed: !this.forgets, incarnationChanged: this.forgets };
  }
  async keys(_model: number, _group: number, tokens: Uint32Array): Promise<Uint8Array> {
    this.#check();
    return keyChain({ fingerprint: fingerprint(IDENTITY), seed: {}, blockTokens: BLOCK_TOKENS, tokens });
  }
  async alloc(count: number): Promise<Blocks> {
    this.#check();
    if (this.held.size + this.published.size + count > BLOCK_COUNT) throw new KvferryError("pool_exhausted");
    const ids = Uint32Array.from({ length: count }, () => this.#takeBlock());
    return { ids, generations: new Uint32Array(count).fill(1) };
  }
  async free(blocks: Blocks): Promise<void> {
    this.#check();
    for (const id of blocks.ids) if (!this.held.delete(id)) throw new KvferryError("not_owner", `block ${id}`);
  }
  async publish(_model: number, _group: number, blocks: Blocks, keys: Uint8Array): Promise<void> {
    this.#failOnRequest();
    await this.free(blocks);
    hexKeys(keys).forEach((key, at) => {
      if (!this.published.has(key)) this.published.set(key, blocks.ids[at] as number);
    });
  }
  async lookup(_model: number, _group: number, keys: Uint8Array, peers: readonly string[] = []): ReturnType<EngineFerry["lookup"]> {
    this.#failOnRequest();
    return ["", ...peers].map((peer) => {
      const sidecar = peer === "" ? this : this.#near.sidecars.get(peer);
      return { peer, matched: sidecar?.find(keys).length ?? 0, code: sidecar === undefined ? "peer_not_allowed" : "" };
    });
  }
  async lease(_model: number, _group: number, keys: Uint8Array): Promise<Blocks> {
    this.#check();
    const ids = Uint32Array.from(this.find(keys));
    this.leases += ids.length;
    return { ids, generations: new Uint32Array(ids.length).fill(1) };
  }
  async release({ ids }: Blocks): Promise<void> {
    this.#check();
    this.leases -= ids.length;
  }
  async offer({ groups }: OfferRequest): Promise<string> {
    const handle = `offer ${this.#near.offers.size}`;
    this.#near.offers.set(handle, { from: this, blocks: groups[0]?.blocks as Blocks });
    return handle;
  }
  async withdraw(handle: string): Promise<void> {
    if (!this.#near.offers.delete(handle)) throw new KvferryError("handle_unknown");
  }
  async fetch({ peer, source, into }: FetchRequest): Promise<Transfer> {
    this.#failOnRequest();
    const ours = into[0]?.blocks as Blocks;
    if ("keys" in source) {
      const from = this.#near.sidecars.get(peer) as NearSidecar;
      const theirs = from.find(source.keys);
      if (theirs.length !== ours.ids.length) throw new KvferryError("key_not_found");
      return { transfer: 1, cancel: () => undefined, done: Promise.resolve(this.#carry(from, theirs, ours)) };
    }
    const offer = this.#near.offers.get(source.handle);
    if (offer === undefined) throw new KvferryError("handle_unknown");
    this.#near.offers.delete(source.handle);
    const done = Promise.resolve(this.#carry(offer.from, [...offer.blocks.ids], ours));
    offer.from.emit({ kind: "offerEnded", handle: source.handle, ok: true, code: "" });
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
  /** The blocks published under these keys, from the first on. */
  find(keys: Uint8Array): number[] {
    const blocks = hexKeys(keys).map((key) => this.published.get(key));
    const missing = blocks.indexOf(undefined);
    return blocks.slice(0, missing === -1 ? blocks.length : missing) as number[];
  }

  #check(): void {
    if (this.away) throw new KvferryError("connect_failed", "away");
  }

  #failOnRequest(): void {
    this.#check();
    if (this.failWith !== undefined) throw new KvferryError(this.failWith, "as the test asked");
  }

  #takeBlock(): number {
    const taken = new Set([...this.held, ...this.published.values()]);
    do this.#nextBlock = (this.#nextBlock + BLOCK_COUNT - 7) % BLOCK_COUNT;
    while (taken.has(this.#nextBlock));
    this.held.add(this.#nextBlock);
    return this.#nextBlock;
  }

  #carry(from: NearSidecar, theirs: readonly number[], ours: Blocks): TransferReport {
    theirs.forEach((block, index) => {
      const at = DATA_OFFSET + block * BLOCK_BYTES;
      this.memory.set(from.memory.subarray(at, at + BLOCK_BYTES), DATA_OFFSET + (ours.ids[index] as number) * BLOCK_BYTES);
    });
    const bytes = theirs.length * BLOCK_BYTES;
    const plainly = { profile: "", lossy: false };
    return { transfer: 1, bytes, wireBytes: bytes, seconds: 1, chunks: 1, retries: 0, link: "near", order: "flat", resumed: 0, ...plainly };
  }
}

function hexKeys(keys: Uint8Array): string[] {
  return Array.from({ length: keys.length / 32 }, (_, at) => Buffer.from(keys.subarray(at * 32, (at + 1) * 32)).toString("hex"));
}

export const ALL_CODES = Object.keys(ERRORS) as ErrorCode[];
