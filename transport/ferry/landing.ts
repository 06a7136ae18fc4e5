/** Where pushes land: a registered buffer, or new blocks that are published when every byte is in place. Refusals are codes to the peer. */
import { asKvferryError, KvferryError } from "../errors.ts";
import { planKeys } from "../kv/identity.ts";
import type { Blocks } from "../memory/pool.ts";
import { type Content, headsOf } from "../peer/content.ts";
import type { PeerPort } from "../peer/host.ts";
import type { Offer } from "../peer/messages.ts";
import { contentBytes, kvContent, publishBlocks } from "./blocks.ts";
import type { NodeContext } from "./context.ts";
import { groupOf, type Model } from "./models.ts";
import { reportOf } from "./report.ts";

interface Place {
  readonly content: Content;
  /** Makes what has landed visible, then calls `then`. */
  readonly publish: (then: (failure?: KvferryError) => void) => void;
  /** Lets go of the memory; called once, however it ends. */
  readonly release: () => void;
}

export class Landing {
  readonly #node: NodeContext;

  constructor(node: NodeContext) {
    this.#node = node;
  }

  offer(peer: PeerPort, offer: Offer): void {
    let place: Place;
    try {
      place = offer.ranges === undefined ? this.#blocks(peer, offer) : this.#buffer(offer.ranges);
    } catch (error) {
      return this.#refuse(peer, offer, error);
    }
    const node = this.#node;
    const { content, publish, release } = place;
    let ticket: number;
    try {
      ticket = node.admissions.admit(peer.name, contentBytes(node, content));
    } catch (error) {
      release();
      return this.#refuse(peer, offer, error);
    }
    const nowUs = node.runtime.nowUs();
    peer.receive(nowUs, node.deadlineUs(nowUs, offer.deadlineMs), offer, content, node.newGrant(), publish, {
      onEvent: (event) => {
        if (event.kind === "stalled") node.observer.stalled?.("in");
      },
      onEnd: (outcome) => {
        node.admissions.end(ticket);
        node.observer.transferEnded?.("in", outcome.ok, outcome.code, reportOf(node, 0, outcome), {
          peer: peer.name,
          trace: offer.trace,
        });
        release();
      },
    });
  }

  #refuse(peer: PeerPort, offer: Offer, error: unknown): void {
    const failure = asKvferryError(error);
    this.#node.observer.denied?.("push", peer.name, failure);
    peer.refuseOffer(offer, failure);
  }

  #buffer({ buffer, ranges }: NonNullable<Offer["ranges"]>): Place {
    const { content, release } = this.#node.buffers.use(buffer, ranges);
    return { content, publish: (then) => then(), release };
  }

  #blocks(peer: PeerPort, offer: Offer): Place {
    const node = this.#node;
    const { pool } = node;
    const model = node.models.byFingerprint(offer.fingerprint);
    const { coding } = offer;
    if (coding !== undefined && !node.profiles.pushed(model).includes(coding.profile))
      throw new KvferryError(
        "profile_refused",
        `a push coded with ${coding.profile} would be published as what it is not, or is not known here`,
      );
    const [wanted] = offer.groups;
    if (wanted === undefined || offer.groups.length !== 1) throw new KvferryError("protocol_error", "a push moves one group");
    const { blockTokens } = groupOf(model, wanted.group);
    // What is found under a key is whole: a part of the heads would be served as if it were all of them.
    const held = headsOf(model.layout);
    if (offer.firstHead !== held.first || offer.heads !== held.count) {
      const there = `${offer.heads} heads from ${offer.firstHead}`;
      throw new KvferryError("layout_unconvertible", `a push brings the ${held.count} heads from ${held.first} of this side, not ${there}`);
    }
    const whole = blockTokens === 0 ? wanted.tokens : Math.floor(wanted.tokens / blockTokens);
    const blockKeys = planKeys(blockTokens, offer.keys).slice(0, 32 * whole);
    if (blockKeys.length !== 32 * whole) throw new KvferryError("protocol_error", "a push names a key for every whole page");
    const blocks = pool.alloc(node.holder, blockTokens === 0 ? wanted.tokens : Math.ceil(wanted.tokens / blockTokens));
    pool.pin(blocks);
    const content = kvContent(node, model, [{ group: wanted.group, blocks, tokens: wanted.tokens }]);
    let published = false;
    const publish: Place["publish"] = (then) => {
      published = true;
      pool.unpin(blocks);
      const { whole: full, rest } = split(blocks, whole);
      if (rest.ids.length > 0) pool.free(node.holder, rest);
      const keys = offer.keys;
      this.#publish(model, wanted.group, full, blockKeys, (failure) => {
        if (failure === undefined) node.broadcast({ kind: "published", model: model.id, group: wanted.group, keys, from: peer.name });
        then(failure);
      });
    };
    const release = (): void => {
      if (published) return;
      pool.unpin(blocks);
      pool.free(node.holder, blocks);
    };
    return { content, publish, release };
  }

  #publish(model: Model, group: number, blocks: Blocks, blockKeys: Uint8Array, done: (failure?: KvferryError) => void): void {
    const node = this.#node;
    if (blocks.ids.length === 0) return done();
    const failed = (failure: KvferryError): void => {
      node.pool.free(node.holder, blocks);
      done(failure);
    };
    try {
      const namespace = node.models.namespaceOf(model.fingerprint);
      const settle = (failure?: KvferryError): void => (failure === undefined ? done() : failed(failure));
      publishBlocks(node, node.holder, model, group, blocks, blockKeys, settle, namespace);
    } catch (error) {
      failed(asKvferryError(error));
    }
  }
}

function split({ ids, generations }: Blocks, at: number): { readonly whole: Blocks; readonly rest: Blocks } {
  return {
    whole: { ids: ids.subarray(0, at), generations: generations.subarray(0, at) },
    rest: { ids: ids.subarray(at), generations: generations.subarray(at) },
  };
}
