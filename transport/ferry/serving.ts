/** The serving side of a node: what peers look up and fetch. Every refusal is a code to the peer; nothing here throws. */
import { asKvferryError, ERRORS, KvferryError } from "../errors.ts";
import { planKeys } from "../kv/identity.ts";
import { limits } from "../limits.ts";
import { commonHeads, type Content, type HeadRange } from "../peer/content.ts";
import type { PeerPort } from "../peer/host.ts";
import type { Coding, Fetch, Lookup, LookupReply } from "../peer/messages.ts";
import type { Outcome } from "../peer/transfer.ts";
import type { Sight } from "../policy/tenancy.ts";
import { checkSeals, contentBytes, kvContent, leaseSeen, matchedKeys } from "./blocks.ts";
import { chooseCoding } from "./choice.ts";
import type { NodeContext } from "./context.ts";
import type { Denial } from "./denials.ts";
import { unknownHandle } from "./handles.ts";
import { groupOf, type Model } from "./models.ts";
import type { OfferRecord } from "./offers.ts";
import { reportOf } from "./report.ts";

type Ending = Pick<Outcome, "ok" | "code" | "profile">;

/** What a fetch will be answered with. */
interface Answer {
  readonly content: Content;
  readonly ready: "all" | readonly number[];
  /** Of KV: which model's, and where in its sequence the first token stands, if that was said. */
  readonly kv?: { readonly model: Model; readonly position: number | undefined };
  readonly offer?: OfferRecord;
  /** Compares the content with its seals first. */
  readonly check?: (done: (failure?: KvferryError) => void) => void;
  /** Lets go of the memory; called once, however it ends. */
  readonly end: (ending: Ending) => void;
  /** In place of `end`, where nothing was sent. */
  readonly refused: () => void;
}

export class Serving {
  readonly #node: NodeContext;

  constructor(node: NodeContext) {
    this.#node = node;
  }

  /** `sight`, here and in fetch: the asker is of another tenant, and what it does not see is not there for it. */
  lookup({ id, fingerprint, group, keys }: Lookup, sight?: Sight): LookupReply {
    try {
      const model = this.#node.models.byFingerprint(fingerprint, sight);
      return { kind: "lookupReply", id, code: 0, matched: matchedKeys(this.#node, model, group, keys, sight) };
    } catch (error) {
      const { code } = asKvferryError(error);
      return { kind: "lookupReply", id, code: code === "fingerprint_mismatch" ? 0 : ERRORS[code].number, matched: 0 };
    }
  }

  fetch(peer: PeerPort, fetch: Fetch, sight?: Sight): void {
    let answer: Answer;
    try {
      answer = this.#answer(peer, fetch, sight);
    } catch (error) {
      return this.#refuse(peer, fetch, asKvferryError(error));
    }
    let ticket = 0;
    const refuse = (error: unknown): void => {
      const failure = asKvferryError(error);
      this.#node.admissions.end(ticket);
      answer.refused();
      this.#refuse(peer, fetch, failure);
    };
    const serve = (): void => {
      try {
        this.#serve(peer, fetch, answer, ticket);
      } catch (error) {
        refuse(error);
      }
    };
    try {
      ticket = this.#node.admissions.admit(peer.name, contentBytes(this.#node, answer.content));
      if (answer.check === undefined) serve();
      else answer.check((failure) => (failure === undefined ? serve() : refuse(failure)));
    } catch (error) {
      refuse(error);
    }
  }

  #refuse(peer: PeerPort, fetch: Fetch, failure: KvferryError): void {
    this.#node.observer.denied?.("fetch", peer.name, failure);
    peer.refuseFetch(fetch, failure);
  }

  #answer(peer: PeerPort, fetch: Fetch, sight: Sight | undefined): Answer {
    const { source } = fetch;
    if (source.kind === "keys") return this.#ofKeys(fetch, source, sight);
    if (source.kind === "handle") return this.#ofHandle(peer, fetch, source.handle, sight);
    const { buffers } = this.#node;
    const namespace = buffers.namespaceOf(source.buffer);
    if (namespace !== undefined && sight?.(namespace) === false) this.#hide(peer, "namespace", source.buffer);
    const { content, release } = this.#told(peer, () => buffers.use(source.buffer, source.ranges));
    return { content, ready: "all", end: release, refused: release };
  }

  /** Who may not have it is answered as if it had never been there. */
  #hide(peer: PeerPort, cause: Denial, handle: string): never {
    this.#node.denials.add(cause, peer.caller, `it may not have ${handle.slice(0, limits.handleCharacters)}`);
    throw unknownHandle(this.#node.incarnation, handle);
  }

  /** A handle that means nothing here is counted: it may be a replay. */
  #told<T>(peer: PeerPort, use: () => T): T {
    try {
      return use();
    } catch (error) {
      const { code, detail } = asKvferryError(error);
      if (code === "handle_unknown" || code === "incarnation_mismatch") this.#node.denials.add("handle", peer.caller, detail);
      throw error;
    }
  }

  #ofHandle(peer: PeerPort, fetch: Fetch, handle: string, sight: Sight | undefined): Answer {
    const node = this.#node;
    const named = this.#told(peer, () => node.offers.get(handle));
    if (!node.offers.isFor(peer.caller.identity, named)) this.#hide(peer, "reader", handle);
    if (sight?.(named.model.namespace) === false) this.#hide(peer, "namespace", handle);
    const content = kvContent(node, named.model, named.groups);
    const offer = this.#told(peer, () => node.offers.claim(node.runtime.nowUs(), handle, fetch.fingerprint, fetch.readers));
    return {
      content,
      kv: named,
      ready: offer.ready === "all" ? "all" : [...offer.ready],
      offer,
      // A reader that cannot use the profile asks once more, for the same as it is.
      end: ({ ok, code, profile }) =>
        code === "profile_refused" && profile !== "" ? node.offers.unclaim(offer) : node.offers.settle(offer, ok, code),
      refused: () => node.offers.unclaim(offer),
    };
  }

  /** Published blocks are leased, compared with their seals, then sent. */
  #ofKeys(fetch: Fetch, source: Fetch["source"] & { readonly kind: "keys" }, sight: Sight | undefined): Answer {
    const node = this.#node;
    const model = node.models.byFingerprint(fetch.fingerprint, sight);
    const { blockTokens } = groupOf(model, source.group);
    const count = Math.ceil(source.tokens / Math.max(blockTokens, 1));
    const blockKeys = planKeys(blockTokens, source.keys).slice(0, 32 * count);
    const blocks = leaseSeen(node, blockKeys, source.group, sight);
    const release = (): void => node.pool.release(node.holder, blocks);
    return {
      content: kvContent(node, model, [{ group: source.group, blocks, tokens: source.tokens }]),
      kv: { model, position: source.position },
      ready: "all",
      check: (done) => checkSeals(node, model, source.group, blocks, done),
      end: release,
      refused: release,
    };
  }

  /** What of the profiles that the asker takes its content is coded with. */
  #choose(peer: PeerPort, fetch: Fetch, { content, kv }: Answer, heads: HeadRange, chunkBytes: number): Coding | undefined {
    const node = this.#node;
    if (kv === undefined) return undefined;
    const previous = fetch.grant?.coding?.profile;
    const of = { ...kv, heads, chunkBytes, previous, priority: fetch.priority, bytes: contentBytes(node, content) };
    return chooseCoding(node, { peer, ...of, accepted: fetch.profiles });
  }

  #serve(peer: PeerPort, fetch: Fetch, answer: Answer, ticket: number): void {
    const node = this.#node;
    const nowUs = node.runtime.nowUs();
    const { content, ready, offer, end } = answer;
    const heads = content.kind === "kv" ? commonHeads(content.layout, fetch) : { first: 0, count: 0 };
    const chunkBytes = Math.min(fetch.chunkBytes, limits.chunkBytesMax);
    const request = {
      fetch: fetch.id,
      fingerprint: fetch.fingerprint,
      groups: content.kind === "kv" ? content.groups.map(({ group, tokens }) => ({ group, tokens })) : [],
      firstHead: heads.first,
      heads: heads.count,
      chunkBytes,
      checksum: node.settings.checksum,
      ranges: content.kind === "ranges" ? { buffer: "", ranges: content.ranges } : undefined,
      keys: new Uint8Array(0),
      deadlineMs: fetch.deadlineMs,
      trace: fetch.trace,
      layout: content.kind === "kv" ? content.layoutBytes : new Uint8Array(0),
      coding: this.#choose(peer, fetch, answer, heads, chunkBytes),
    };
    const transfer = peer.serve(nowUs, node.deadlineUs(nowUs, fetch.deadlineMs), request, content, ready, fetch.priority, {
      onEvent: (event) => {
        if (event.kind === "stalled") node.observer.stalled?.("out");
      },
      onEnd: (outcome) => {
        node.admissions.end(ticket);
        node.bytesSent += outcome.bytes;
        node.observer.transferEnded?.("out", outcome.ok, outcome.code, reportOf(node, 0, outcome), {
          peer: peer.name,
          trace: fetch.trace || (offer?.trace ?? ""),
        });
        if (transfer !== undefined) offer?.running.delete(transfer);
        end(outcome);
        // The peer may be another tenant's, whose turn is not this node's.
        node.touched();
      },
    });
    if (transfer === undefined) throw new KvferryError("cancelled", "the asker has gone");
    // A layer that became ready while the seals were checked is in the offer's set only.
    if (!transfer.ended) offer?.running.add(transfer);
  }
}
