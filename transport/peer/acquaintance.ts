/** What a remote has said of itself: which process it is, what it can, which models it has and how they lie there, whether it sends checksums. */
import { LayoutCache } from "../kv/layout-cache.ts";
import { limits } from "../limits.ts";
import type { Capability } from "./greeting.ts";
import type { Hello, ModelEntry, ModelProfile, Offer } from "./messages.ts";

export class Acquaintance {
  /** The remote's, as they come with its offers and grants. */
  readonly layouts = new LayoutCache();
  /** Whether its last offer asked for checksums; undefined: it has made none. */
  checksum: boolean | undefined;
  #hello: Hello | undefined;
  /** The newest of a fingerprint is the one that it serves. */
  #models: ReadonlyMap<string, ModelEntry> = new Map();
  /** By fingerprint, what the last offer was coded with. */
  readonly #chosen = new Map<string, string>();

  /** True if another process said the last Hello. */
  meet(hello: Hello): boolean {
    const isAnother = this.#hello !== undefined && this.#hello.node !== hello.node;
    this.#hello = hello;
    if (isAnother) {
      this.checksum = undefined;
      this.#chosen.clear();
    }
    this.learn(hello.models);
    return isAnother;
  }

  learn(models: readonly ModelEntry[]): void {
    this.#models = new Map(models.map((model) => [model.fingerprint, model]));
  }

  /** What its offers are like, so that the next can be foretold. */
  note({ checksum, fetch, fingerprint, coding }: Offer): void {
    this.checksum = checksum;
    // What is pushed was chosen from what this side says, not from what it asked for.
    if (fetch === 0) return;
    this.#chosen.delete(fingerprint);
    if (coding === undefined) return;
    if (this.#chosen.size >= limits.modelsMax) this.#chosen.clear();
    this.#chosen.set(fingerprint, coding.profile);
  }

  /** The process that was last seen there, or "". */
  get node(): string {
    return this.#hello?.node ?? "";
  }
  /** HOST:PORT where the remote says that it is reached, or "". */
  get advertised(): string {
    return this.#hello?.advertise ?? "";
  }
  get chunkBytesMax(): number {
    return this.#hello?.chunkBytesMax ?? limits.chunkBytesMax;
  }

  /** Of a remote that was never there nothing is known: it may. */
  isCapable(capability: Capability): boolean {
    return this.#hello === undefined || this.#hello.capabilities.includes(capability);
  }

  /** As it travels; undefined: it has no such model. */
  layoutOf(fingerprint: string): Uint8Array | undefined {
    return this.#models.get(fingerprint)?.layout;
  }
  /** What KV of the model may be sent to it coded with. */
  profilesOf(fingerprint: string): readonly ModelProfile[] {
    return this.#models.get(fingerprint)?.profiles ?? [];
  }
  profileOf(fingerprint: string): string | undefined {
    return this.#chosen.get(fingerprint);
  }
}
