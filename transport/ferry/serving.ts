/** The serving side of a node: what peers look up and fetch. Every refusal is a code to the peer; nothing here throws. */
import { asKvferryError, ERRORS, KvferryError } from "../errors.ts";
import { planKeys } from "../kv/identity.ts";
import { limits } from "../limits.ts";
import { commonHeads, type Content } from "../peer/content.ts";
import type { PeerPort } from "../peer/host.ts";
import type { Fetch, Lookup, LookupReply } from "../peer/messages.ts";
import type { Outcome } from "../peer/transfer.ts";
import { checkSeals, contentBytes, kvContent, matchedKeys } from "./blocks.ts";
import type { NodeContext } from "./context.ts";
import { groupOf } from "./models.ts";
import type { OfferRecord } from "./offers.ts";
import { reportOf } from "./report.ts";

type Ending = Pick<Outcome, "ok" | "code">;

/** What a fetch will be answered with. */
interface Answer {
  readonly content: Content;
  readonly ready: "all" | readonly number[];
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

  lookup({ id, fingerprint, group, keys }: Lookup): LookupReply {
    try {
      const model = this.#node.models.byFingerprint(fingerprint);
      return { kind: "lookupReply", id, code: 0, matched: matchedKeys(this.#node, model, group, keys) };
    } catch (error) {
      const { code } = asKvferryError(error);
      return { kind: "lookupReply", id, code: code === "fingerprint_mismatch" ? 0 : ERRORS[code].number, matched: 0 };
    }
  }

  fetch(peer: PeerPort, fetch: Fetch): void {
    let answer: Answer;
    try {
      answer = this.#answer(fetch);
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

  #answer(fetch: Fetch): Answer {
    if (fetch.source.kind === "handle") return this.#ofHandle(fetch, fetch.source.handle);
    if (fetch.source.kind === "keys") return this.#ofKeys(fetch, fetch.source);
    const { content, release } = this.#node.buffers.use(fetch.source.buffer, fetch.source.ranges);
    return { content, ready: "all", end: release, refused: release };
  }

  #ofHandle(fetch: Fetch, handle: string): Answer {
    const node = this.#node;
    const { model, groups } = node.offers.get(handle);
    const content = kvContent(node, model, groups);
    const offer = node.offers.claim(node.runtime.nowUs(), handle, fetch.fingerprint, fetch.readers);
    return {
      content,
      ready: offer.ready === "all" ? "all" : [...offer.ready],
      offer,
      end: ({ ok, code }) => node.offers.settle(offer, ok, code),
      refused: () => node.offers.unclaim(offer),
    };
  }

  /** Published blocks are leased, compared with their seals, then sent. */
  #ofKeys(fetch: Fetch, source: Fetch["source"] & { readonly kind: "keys" }): Answer {
    const node = this.#node;
    const model = node.models.byFingerprint(fetch.fingerprint);
    const { blockTokens } = groupOf(model, source.group);
    const count = Math.ceil(source.tokens / Math.max(blockTokens, 1));
    const blockKeys = planKeys(blockTokens, source.keys).slice(0, 32 * count);
    const blocks = node.pool.lease(node.holder, blockKeys, source.group, false);
    const release = (): void => node.pool.release(node.holder, blocks);
    return {
      content: kvContent(node, model, [{ group: source.group, blocks, tokens: source.tokens }]),
      ready: "all",
      check: (done) => checkSeals(node, model, source.group, blocks, done),
      end: release,
      refused: release,
    };
  }

  #serve(peer: PeerPort, fetch: Fetch, { content, ready, offer, end }: Answer, ticket: number): void {
    const node = this.#node;
    const nowUs = node.runtime.nowUs();
    const heads = content.kind === "kv" ? commonHeads(content.layout, fetch) : { first: 0, count: 0 };
    const request = {
      fetch: fetch.id,
      fingerprint: fetch.fingerprint,
      groups: content.kind === "kv" ? content.groups.map(({ group, tokens }) => ({ group, tokens })) : [],
      firstHead: heads.first,
      heads: heads.count,
      chunkBytes: Math.min(fetch.chunkBytes, limits.chunkBytesMax),
      checksum: node.settings.checksum,
      ranges: content.kind === "ranges" ? { buffer: "", ranges: content.ranges } : undefined,
      keys: new Uint8Array(0),
      deadlineMs: fetch.deadlineMs,
      trace: fetch.trace,
      layout: content.kind === "kv" ? content.layoutBytes : new Uint8Array(0),
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
      },
    });
    if (transfer === undefined) throw new KvferryError("cancelled", "the asker has gone");
    // A layer that became ready while the seals were checked is in the offer's set only.
    if (!transfer.ended) offer?.running.add(transfer);
  }
}
