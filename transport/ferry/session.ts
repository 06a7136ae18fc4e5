/**
 * One client's Ferry on a node: an engine behind the API, or the library's user. What it holds in the pool, its offers, buffers and transfers end with it.
 * Methods that need nothing from outside settle at once; all check their arguments here, once.
 */
import { expected, integer } from "../check.ts";
import { asKvferryError, type ErrorCode, KvferryError } from "../errors.ts";
import { keyChain, planKeys, stateKey } from "../kv/identity.ts";
import type { Layout } from "../kv/layout.ts";
import { parseLayout, serializeLayout } from "../kv/parse.ts";
import { limits } from "../limits.ts";
import type { Blocks, HolderId } from "../memory/pool.ts";
import type {
  BufferInfo,
  Ferry,
  FerryEvent,
  FerryStats,
  FetchRequest,
  GroupBlocks,
  KeySeed,
  LookupPlace,
  ModelIdentity,
  ModelInfo,
  NodeInfo,
  OfferRequest,
  PoolInfo,
  PrewarmRequest,
  PushRequest,
  RangeRequest,
  Transfer,
} from "./ferry.ts";
import type { FerrySession, SessionOptions } from "./host.ts";
import { groupOf, type Model } from "./models.ts";
import { kvContent, matchedKeys, publishBlocks } from "./blocks.ts";
import type { NodeContext } from "./context.ts";
import { layerCount, type OfferRecord } from "./offers.ts";
import type { Misfit } from "./profiles.ts";
import { Transfers } from "./transfers.ts";

export class Session implements FerrySession, Ferry {
  readonly resume: string;
  readonly processId: number;
  readonly holder: HolderId;
  readonly #node: NodeContext;
  readonly #transfers: Transfers;
  readonly #offers = new Set<OfferRecord>();
  readonly #listeners = new Set<(event: FerryEvent) => void>();
  #resumed = false;
  #detached = false;
  #closed: KvferryError | undefined;

  constructor(node: NodeContext, holder: HolderId, options: SessionOptions) {
    this.#node = node;
    this.holder = holder;
    this.processId = options.processId;
    this.resume = `${node.incarnation.slice(0, 8)}-${holder}-${Buffer.from(node.runtime.random(16)).toString("hex")}`;
    this.#transfers = new Transfers(node, holder, this, (event) => this.emit(event));
  }

  get resumed(): boolean {
    return this.#resumed;
  }
  /** Its connection is gone while its process lives. */
  get detached(): boolean {
    return this.#detached;
  }

  reattach(): this {
    this.#detached = false;
    this.#resumed = true;
    return this;
  }

  emit(event: FerryEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  on(listener: (event: FerryEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #open(): NodeContext {
    if (this.#closed !== undefined) throw this.#closed;
    return this.#node;
  }

  async info(): Promise<NodeInfo> {
    const { settings, link } = this.#open();
    return { name: settings.name, address: settings.advertise, link: link.kind };
  }

  async pool(): Promise<PoolInfo> {
    const { pool } = this.#open();
    const { region, dataOffset, blockBytes, blockCount, incarnation } = pool;
    return { path: region.path, bytes: region.bytes, dataOffset, blockBytes, blockCount, incarnation };
  }

  async registerModel(identity: ModelIdentity, layout: Layout, namespace = ""): Promise<ModelInfo> {
    const node = this.#open();
    const { pool, models } = node;
    const parsed = parseLayout(layout, pool.blockBytes * pool.blockCount, pool.blockBytes);
    const layoutBytes = serializeLayout(parsed);
    pool.setLayout(layoutBytes, parsed.blockCount);
    const { model, added } = models.register(this, identity, parsed, layoutBytes, checkNamespace(namespace));
    if (added) this.#tellModel(node, model, identity.model);
    return { model: model.id, fingerprint: model.fingerprint };
  }

  /** Peers hear of it at once, and again when it is known how fast this node decodes its KV, or that it does not. */
  #tellModel(node: NodeContext, { codecs }: Model, model: string): void {
    const tell = (): void => node.peers.tell({ kind: "models", models: node.modelEntries() });
    const warn = ({ name, why }: Misfit): void => node.observer.profileMissing?.(name, model, why);
    codecs.misfits.forEach(warn);
    tell();
    void codecs.prepare((misfit) => {
      if (misfit !== undefined) warn(misfit);
      tell();
    });
  }

  async keys(model: number, group: number, tokens: Uint32Array, seed: KeySeed = {}): Promise<Uint8Array> {
    const known = this.#open().models.get(model);
    const { blockTokens } = groupOf(known, group);
    const { fingerprint } = known;
    return blockTokens === 0 ? stateKey({ fingerprint, seed, tokens }) : keyChain({ fingerprint, seed, blockTokens, tokens });
  }

  async alloc(count: number): Promise<Blocks> {
    return this.#open().pool.alloc(this.holder, integer(count, "count", 1, limits.apiBatchMax));
  }

  async free(blocks: Blocks): Promise<void> {
    this.#open().pool.free(this.holder, blocks);
  }

  publish(model: number, group: number, blocks: Blocks, keys: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      const node = this.#open();
      const known = node.models.get(model);
      const blockKeys = planKeys(groupOf(known, group).blockTokens, keys);
      if (blockKeys.length !== 32 * blocks.ids.length) {
        throw expected(`page keys of ${blocks.ids.length} blocks`, "keys", `those of ${blockKeys.length / 32}`);
      }
      node.origins.check(blocks, known.profile);
      publishBlocks(node, this.holder, known, group, blocks, blockKeys, (failure) => {
        if (failure !== undefined) return reject(failure);
        node.broadcast({ kind: "published", model, group, keys, from: "" });
        resolve();
      });
    });
  }

  async lookup(model: number, group: number, keys: Uint8Array, peers: readonly string[] = []): Promise<LookupPlace[]> {
    const node = this.#open();
    const known = node.models.get(model);
    const here: LookupPlace = { peer: "", matched: matchedKeys(node, known, group, keys), code: "" };
    const nowUs = node.runtime.nowUs();
    const there = peers.map(
      (name) =>
        new Promise<LookupPlace>((resolve) => {
          const settle = (matched: number, code: string): void => resolve({ peer: name, matched, code });
          try {
            const { peer, tenant } = node.peers.at(name);
            peer.lookup(nowUs, { fingerprint: known.fingerprint, group, keys, tenant }, settle);
          } catch (error) {
            // One name that leads nowhere is that place's answer, and takes nothing from the others.
            settle(0, asKvferryError(error).code);
          }
        }),
    );
    return [here, ...(await Promise.all(there))];
  }

  async lease(model: number, group: number, keys: Uint8Array, prefix = false): Promise<Blocks> {
    const node = this.#open();
    const blockKeys = planKeys(groupOf(node.models.get(model), group).blockTokens, keys);
    return node.pool.lease(this.holder, blockKeys, group, prefix);
  }

  async release(blocks: Blocks): Promise<void> {
    this.#open().pool.release(this.holder, blocks);
  }

  async offer(request: OfferRequest): Promise<string> {
    const node = this.#open();
    const { pool } = node;
    if (request.peers !== undefined && !node.settings.hasTls)
      throw new KvferryError("invalid_argument", "an offer for certain peers needs TLS: without certificates nobody has an identity");
    const model = node.models.get(request.model);
    const groups = this.#checkGroups(request.model, request.groups);
    const position = checkPosition(request.position);
    if (position !== undefined) checkTogether(model, groups);
    for (const { blocks } of groups) pool.check(this.holder, blocks);
    for (const { blocks } of groups) node.origins.check(blocks, model.profile);
    for (const { blocks } of groups) pool.pin(blocks);
    const unpin = (): void => {
      for (const { blocks } of groups) pool.unpin(blocks);
    };
    try {
      const record: OfferRecord = node.offers.add(request.handle, {
        model,
        groups,
        endsUs: node.runtime.nowUs() + Math.min(request.deadlineMs ?? limits.offerDeadlineMs, limits.deadlineMaxMs) * 1000,
        trace: request.trace ?? "",
        position,
        peers: request.peers,
        ready: request.ready === false ? new Set() : "all",
        onEnd: (ok, code) => {
          unpin();
          this.#offers.delete(record);
          this.emit({ kind: "offerEnded", handle: record.handle, ok, code });
        },
      });
      this.#offers.add(record);
      node.touched();
      return record.handle;
    } catch (error) {
      unpin();
      throw error;
    }
  }

  async ready(handle: string, layer: number): Promise<void> {
    const node = this.#open();
    const offer = this.#offerOf(handle);
    integer(layer, "layer", 0, layerCount(offer) - 1);
    if (offer.ready === "all") return;
    offer.ready.add(layer);
    for (const transfer of offer.running) transfer.handleReady(node.runtime.nowUs(), layer);
  }

  async withdraw(handle: string): Promise<void> {
    const node = this.#open();
    node.offers.withdraw(node.runtime.nowUs(), this.#offerOf(handle), "cancelled");
  }

  async prewarm({ peer: name, bytes, inMs, direction }: PrewarmRequest): Promise<void> {
    const node = this.#open();
    const [{ peer }, nowUs] = [node.peers.at(name), node.runtime.nowUs()];
    const hint = { kind: "prewarm", bytes, inMs } as const;
    if (direction === "in") return peer.hint(nowUs, hint);
    peer.lanes.prewarm(nowUs, hint);
    peer.dial(nowUs);
    node.touched();
  }

  async discard(peer: string, handle: string): Promise<void> {
    const node = this.#open();
    node.peers.at(peer).peer.hint(node.runtime.nowUs(), { kind: "discard", handle });
  }

  #offerOf(handle: string): OfferRecord {
    const offer = this.#node.offers.get(handle);
    if (!this.#offers.has(offer)) throw new KvferryError("not_owner", "the offer is another client's");
    return offer;
  }

  async fetch(request: FetchRequest): Promise<Transfer> {
    const node = this.#open();
    const model = node.models.get(request.model);
    const groups = this.#checkGroups(request.model, request.into);
    const content = kvContent(node, model, groups);
    return this.#transfers.fetch(request, model, request.heads === undefined ? content : { ...content, heads: request.heads }, groups);
  }

  async push(request: PushRequest): Promise<Transfer> {
    const node = this.#open();
    const model = node.models.get(request.model);
    const { group, blocks, tokens } = request;
    const groups = this.#checkGroups(request.model, [{ group, blocks, tokens }]);
    return this.#transfers.push(request, model, kvContent(node, model, groups), groups);
  }

  #checkGroups(model: number, groups: readonly GroupBlocks[]): readonly GroupBlocks[] {
    const known = this.#node.models.get(model);
    if (groups.length === 0) throw expected("at least one group", "groups", groups);
    for (const { group, blocks, tokens } of groups) {
      const { blockTokens } = groupOf(known, group);
      const most = blocks.ids.length * Math.max(blockTokens, 1);
      integer(tokens, `tokens of group ${group}`, 1, most);
    }
    return groups;
  }

  async registerBuffer(memory: Uint8Array | { readonly path: string; readonly bytes: number }, namespace = ""): Promise<BufferInfo> {
    const node = this.#open();
    checkNamespace(namespace);
    const region = node.bufferRegion(memory);
    try {
      return { handle: node.buffers.add(this, region, namespace), bytes: region.bytes };
    } catch (error) {
      region.close();
      throw error;
    }
  }

  async unregisterBuffer(handle: string): Promise<void> {
    this.#open().buffers.remove(handle, this);
  }

  async read(request: RangeRequest): Promise<Transfer> {
    this.#open();
    return this.#transfers.read(request);
  }

  async write(request: RangeRequest): Promise<Transfer> {
    this.#open();
    return this.#transfers.write(request);
  }

  async cancelTransfer(transfer: number): Promise<void> {
    this.#open();
    this.#transfers.cancel(transfer);
  }

  async stats(): Promise<FerryStats> {
    const node = this.#open();
    const peers = node.peers.all().map((peer) => {
      const { goodputBytesPerSecond, confidence } = peer.path.estimate(node.runtime.nowUs());
      return {
        name: peer.name,
        address: peer.advertised,
        up: peer.up,
        lanes: peer.lanes.up,
        link: node.link.kind,
        goodputBytesPerSecond,
        confidence,
      };
    });
    const { transfers, bytesSent, bytesReceived } = node;
    return { pool: node.pool.stats(), peers, transfers, bytesSent, bytesReceived };
  }

  async close(): Promise<void> {
    this.closeSession(false);
  }

  closeSession(processAlive: boolean): void {
    if (this.#closed !== undefined) return;
    this.#endWork("cancelled");
    this.#detached = true;
    if (!processAlive) this.shut(new KvferryError("closed"));
  }

  /**
   * Ends it for good. With `keepsBlocks` what it holds stays its own in the pool's table: this node goes, but the process that may be writing
   * there does not, and the pool's next owner must know.
   */
  shut(reason: KvferryError, keepsBlocks = false): void {
    if (this.#closed !== undefined) return;
    this.#endWork("closed");
    this.#closed = reason;
    this.#node.buffers.removeAll(this);
    this.#node.models.leave(this);
    if (!keepsBlocks) this.#node.pool.removeHolder(this.holder);
    this.#node.forgetSession(this.resume);
    this.#listeners.clear();
  }

  #endWork(code: ErrorCode): void {
    const nowUs = this.#node.runtime.nowUs();
    this.#transfers.cancelAll(code);
    for (const offer of [...this.#offers]) this.#node.offers.withdraw(nowUs, offer, "cancelled");
  }
}

function checkPosition(position: number | undefined): number | undefined {
  return position === undefined ? undefined : integer(position, "position", 0, limits.keyTokensMax - 1);
}

/** One position is that of all groups with tokens: those that hold fewer, such as a window's, begin later, and keys would be turned back by wrong angles. */
function checkTogether(model: Model, groups: readonly GroupBlocks[]): void {
  const [first, ...others] = groups.filter(({ group }) => groupOf(model, group).blockTokens > 0);
  const other = others.find(({ tokens }) => tokens !== first?.tokens);
  if (first === undefined || other === undefined) return;
  const differ = `${first.tokens} tokens of group ${first.group} and ${other.tokens} of group ${other.group}`;
  throw expected("groups that begin together, or none", "position", differ);
}

function checkNamespace(namespace: string): string {
  if (typeof namespace === "string" && namespace.length <= limits.namespaceCharacters) return namespace;
  throw expected(`text of at most ${limits.namespaceCharacters} characters`, "namespace", namespace);
}
