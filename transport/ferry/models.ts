/** Models that engines registered: what makes KV comparable, and how this pool lays it out. */
import { KvferryError } from "../errors.ts";
import { fingerprint, type ModelIdentity } from "../kv/identity.ts";
import type { GroupLayout, Layout } from "../kv/layout.ts";
import { limits } from "../limits.ts";
import { type CodecCounts, sumOfCounts } from "../policy/codec-speed.ts";
import type { Sight } from "../policy/tenancy.ts";
import { type ModelCodecs, NO_PROFILES, type Profiles } from "./profiles.ts";

export interface Model {
  readonly id: number;
  readonly fingerprint: string;
  /** Of all that is published and offered under it. */
  readonly namespace: string;
  readonly layout: Layout;
  readonly layoutBytes: Uint8Array;
  /** That its identity names: what its KV came through; "" = exact. */
  readonly profile: string;
  readonly codecs: ModelCodecs;
}

export class ModelTable {
  readonly #profiles: Profiles;
  readonly #models = new Map<number, Model>();
  /** Who has registered each, and is still here. */
  readonly #users = new Map<number, Set<object>>();
  /** Of models that are gone, by profile. */
  readonly #formerCounts = new Map<string, CodecCounts>();
  #nextId = 1;

  constructor(profiles: Profiles = NO_PROFILES) {
    this.#profiles = profiles;
  }

  /** The same identity, layout and namespace give the same model. When the table is full, one that nobody here uses any more makes room. */
  register(
    user: object,
    identity: ModelIdentity,
    layout: Layout,
    layoutBytes: Uint8Array,
    namespace: string,
  ): { readonly model: Model; readonly added: boolean } {
    const print = fingerprint(identity);
    const isSame = (model: Model): boolean => model.fingerprint === print && model.namespace === namespace;
    const same = this.all().find((model) => isSame(model) && Buffer.compare(model.layoutBytes, layoutBytes) === 0);
    if (same !== undefined) {
      this.#users.get(same.id)?.add(user);
      return { model: same, added: false };
    }
    // The pool has one layout at a time: models of a former one describe memory that is cut otherwise now. Their numbers are not used again.
    for (const former of this.all()) if (Buffer.compare(former.layoutBytes, layoutBytes) !== 0) this.#delete(former.id);
    // Every Hello tells each with its layout.
    const most = Math.min(limits.modelsMax, Math.floor(limits.modelsLayoutBytesMax / layoutBytes.length));
    if (this.#models.size >= most) this.#makeRoom();
    const codecs = this.#profiles.of(identity, layout);
    const { profile } = identity;
    const model = Object.freeze({ id: this.#nextId++, fingerprint: print, namespace, layout, layoutBytes, profile, codecs });
    this.#models.set(model.id, model);
    this.#users.set(model.id, new Set([user]));
    return { model, added: true };
  }

  /** The user has gone. Its models stay as long as there is room: what is published under them can still be fetched. */
  leave(user: object): void {
    for (const users of this.#users.values()) users.delete(user);
  }

  #makeRoom(): void {
    for (const [id, users] of this.#users) if (users.size === 0) return this.#delete(id);
    throw new KvferryError("full", `${this.#models.size} models are in use, and with layouts of this size there is room for no more`);
  }

  /** The node is going. */
  close(): void {
    for (const { codecs } of this.all()) codecs.stop();
  }

  /** By the profiles' names: of all models, also of those that are gone, so that no count ever falls. */
  codecCounts(): ReadonlyMap<string, CodecCounts> {
    const sums = new Map(this.#formerCounts);
    for (const { codecs } of this.all()) addCounts(sums, codecs);
    return sums;
  }

  #delete(id: number): void {
    const codecs = this.#models.get(id)?.codecs;
    codecs?.stop();
    if (codecs !== undefined) addCounts(this.#formerCounts, codecs);
    this.#models.delete(id);
    this.#users.delete(id);
  }

  /** Throws model_unknown. */
  get(id: number): Model {
    const model = this.#models.get(id);
    if (model === undefined) throw new KvferryError("model_unknown", `model ${id}`);
    return model;
  }

  /** The newest model with this fingerprint that exists for whoever asks; throws fingerprint_mismatch. */
  byFingerprint(print: string, sight: Sight = () => true): Model {
    const model = this.all().findLast((candidate) => candidate.fingerprint === print && sight(candidate.namespace));
    if (model === undefined) throw new KvferryError("fingerprint_mismatch", `no model ${print.slice(0, 16)} is registered here`);
    return model;
  }

  /** What a push under this fingerprint is published in: the model's, if all of them are in one namespace, else "". */
  namespaceOf(print: string): string {
    const names = new Set(this.all().flatMap((model) => (model.fingerprint === print ? [model.namespace] : [])));
    return names.size === 1 ? ([...names][0] as string) : "";
  }

  all(): readonly Model[] {
    return [...this.#models.values()];
  }
}

function addCounts(sums: Map<string, CodecCounts>, codecs: ModelCodecs): void {
  for (const [name, counts] of codecs.allCounts()) {
    const before = sums.get(name);
    sums.set(name, before === undefined ? counts : sumOfCounts([before, counts]));
  }
}

/** Throws invalid_argument. */
export function groupOf(model: Model, group: number): GroupLayout {
  const found = model.layout.groups[group];
  if (found === undefined) throw new KvferryError("invalid_argument", `model ${model.id} has no group ${group}`);
  return found;
}
