/** The transfers that one session started: fetch, push, read, write. Each holds its blocks pinned until nothing can touch them. */
import { expected } from "../check.ts";
import { isLoopback } from "../config/address.ts";
import { type ErrorCode, KvferryError } from "../errors.ts";
import { planKeys } from "../kv/identity.ts";
import type { HolderId } from "../memory/pool.ts";
import type { Content, KvContent } from "../peer/content.ts";
import { headsOf } from "../peer/content.ts";
import type { Ask, Proposal, TransferHandlers } from "../peer/host.ts";
import type { Peer } from "../peer/peer.ts";
import type { Outcome, PlacedTransfer } from "../peer/transfer.ts";
import { defaultDeadline } from "../policy/deadline.ts";
import type { Priority } from "../policy/priority.ts";
import type { FerryEvent, FetchRequest, GroupBlocks, PushRequest, RangeRequest, Transfer, TransferReport } from "./ferry.ts";
import { contentBytes } from "./blocks.ts";
import { chooseCoding, noteRefused } from "./choice.ts";
import { groupOf, type Model } from "./models.ts";
import type { NodeContext } from "./context.ts";
import { reportOf } from "./report.ts";

interface Start {
  readonly direction: "in" | "out";
  readonly peer: Peer;
  readonly content: Content;
  /** @param outcome undefined: it never began */
  readonly release: (outcome?: Outcome) => void;
  readonly deadlineMs: number | undefined;
  /** The caller wants to hear of each layer. */
  readonly layers?: boolean;
  readonly priority: Priority | undefined;
  readonly trace?: string | undefined;
}

interface Running {
  readonly transfer: Transfer;
  readonly priority: Priority;
  readonly chunkBytes: number;
  readonly handlers: Handlers;
  attach(placed: PlacedTransfer): void;
}

type Handlers = TransferHandlers<RunningEvent>;
type RunningEvent =
  | { readonly kind: "layer"; readonly layer: number }
  | { readonly kind: "stalled"; readonly silentUs: number }
  | { readonly kind: "moving" };

export class Transfers {
  readonly #node: NodeContext;
  readonly #holder: HolderId;
  /** Whose buffers may be named. */
  readonly #owner: object;
  readonly #emit: (event: FerryEvent) => void;
  readonly #running = new Map<number, PlacedTransfer>();

  constructor(node: NodeContext, holder: HolderId, owner: object, emit: (event: FerryEvent) => void) {
    this.#node = node;
    this.#holder = holder;
    this.#owner = owner;
    this.#emit = emit;
  }

  fetch(request: FetchRequest, model: Model, content: KvContent, groups: readonly GroupBlocks[]): Transfer {
    const node = this.#node;
    const { peer, tenant } = node.peers.at(request.peer);
    const filled = this.#fill(groups);
    const release = (outcome?: Outcome): void => {
      // Also of one that failed: some of it may have come.
      if (outcome?.lossy === true) for (const { blocks } of groups) node.origins.note(blocks, outcome.profile);
      filled();
    };
    return this.#run(
      {
        direction: "in",
        peer,
        content,
        release,
        deadlineMs: request.deadlineMs,
        layers: request.layers === true,
        priority: request.priority,
        trace: request.trace,
      },
      ({ handlers, attach, chunkBytes, priority }, nowUs, deadlineUs) => {
        const wanted = request.heads ?? headsOf(model.layout);
        const ask: Ask = {
          fingerprint: model.fingerprint,
          source: sourceOf(request.source),
          firstHead: wanted.first,
          heads: wanted.count,
          chunkBytes,
          deadlineMs: this.#deadlineMs(nowUs, deadlineUs),
          trace: request.trace ?? "",
          readers: request.readers ?? 1,
          priority,
          tenant,
          profiles: node.profiles.accepted(model, wanted, request.exact === true),
        };
        const begin = (beginUs: number, asked: Ask, owner: Handlers): void =>
          attach(peer.fetch(beginUs, deadlineUs, asked, content, node.newGrant(), owner));
        const stored = (owner: Handlers): void => {
          const againUs = node.runtime.nowUs();
          begin(againUs, { ...ask, deadlineMs: this.#deadlineMs(againUs, deadlineUs), profiles: [] }, owner);
        };
        begin(nowUs, ask, ask.profiles.length === 0 ? handlers : onceMore(handlers, stored));
      },
    );
  }

  push(request: PushRequest, model: Model, content: KvContent, groups: readonly GroupBlocks[]): Transfer {
    const node = this.#node;
    const peer = this.#own(request.peer);
    const { blockTokens } = groupOf(model, request.group);
    const whole = blockTokens === 0 ? request.tokens : Math.floor(request.tokens / blockTokens);
    if (planKeys(blockTokens, request.keys).length < 32 * whole) {
      throw expected("a key for every whole page", "keys", `${request.keys.length / 32} keys`);
    }
    const heads = headsOf(model.layout);
    for (const { blocks } of groups) node.origins.check(blocks, model.profile);
    const release = this.#pin(groups);
    return this.#run(
      { direction: "out", peer, content, release, deadlineMs: request.deadlineMs, priority: request.priority, trace: request.trace },
      ({ handlers, attach, chunkBytes, priority }, nowUs, deadlineUs) => {
        const known = new Set(peer.profilesOf(model.fingerprint).map(({ id }) => id));
        const coding = chooseCoding(node, {
          ...{ peer, model, chunkBytes, priority, heads, position: request.position, bytes: contentBytes(node, content) },
          accepted: node.profiles.pushed(model).filter((id) => known.has(id)),
        });
        const offer: Proposal = {
          fetch: 0,
          fingerprint: model.fingerprint,
          groups: [{ group: request.group, tokens: request.tokens }],
          firstHead: heads.first,
          heads: heads.count,
          chunkBytes,
          checksum: node.settings.checksum,
          ranges: undefined,
          keys: request.keys,
          deadlineMs: this.#deadlineMs(nowUs, deadlineUs),
          trace: request.trace ?? "",
          layout: model.layoutBytes,
          coding,
        };
        const begin = (beginUs: number, said: Proposal, owner: Handlers): void => {
          const placed = peer.serve(beginUs, deadlineUs, said, content, "all", priority, owner);
          if (placed !== undefined) attach(placed);
        };
        const stored = (owner: Handlers): void => {
          noteRefused(node, peer);
          const againUs = node.runtime.nowUs();
          begin(againUs, { ...offer, deadlineMs: this.#deadlineMs(againUs, deadlineUs), coding: undefined }, owner);
        };
        begin(nowUs, offer, coding === undefined ? handlers : onceMore(handlers, stored));
      },
    );
  }

  read(request: RangeRequest): Transfer {
    const node = this.#node;
    const { peer, tenant } = node.peers.at(request.peer);
    const { content, release } = this.#local(request);
    return this.#run(
      { direction: "in", peer, content, release, deadlineMs: request.deadlineMs, priority: request.priority },
      ({ handlers, attach, chunkBytes, priority }, nowUs, deadlineUs) => {
        const ask: Ask = {
          fingerprint: "",
          source: { kind: "ranges", buffer: request.remote, ranges: remoteRanges(request) },
          firstHead: 0,
          heads: 0,
          chunkBytes,
          deadlineMs: this.#deadlineMs(nowUs, deadlineUs),
          trace: "",
          readers: 1,
          priority,
          tenant,
          profiles: [],
        };
        attach(peer.fetch(nowUs, deadlineUs, ask, content, node.newGrant(), handlers));
      },
    );
  }

  write(request: RangeRequest): Transfer {
    const node = this.#node;
    const peer = this.#own(request.peer);
    const { content, release } = this.#local(request);
    return this.#run(
      { direction: "out", peer, content, release, deadlineMs: request.deadlineMs, priority: request.priority },
      ({ handlers, attach, chunkBytes, priority }, nowUs, deadlineUs) => {
        const offer: Proposal = {
          fetch: 0,
          fingerprint: "",
          groups: [],
          firstHead: 0,
          heads: 0,
          chunkBytes,
          checksum: node.settings.checksum,
          ranges: { buffer: request.remote, ranges: remoteRanges(request) },
          keys: new Uint8Array(0),
          deadlineMs: this.#deadlineMs(nowUs, deadlineUs),
          trace: "",
          layout: new Uint8Array(0),
          coding: undefined,
        };
        const placed = peer.serve(nowUs, deadlineUs, offer, content, "all", priority, handlers);
        if (placed !== undefined) attach(placed);
      },
    );
  }

  /** Where something is sent: nothing lands at another tenant's. Throws tenant_denied. */
  #own(name: string): Peer {
    const { peer, tenant } = this.#node.peers.at(name);
    if (tenant === "" || tenant === this.#node.tenant) return peer;
    throw new KvferryError("tenant_denied", `what is another tenant's can be fetched and read, not written (${name.slice(0, 64)})`);
  }

  #local(request: RangeRequest): { readonly content: Content; readonly release: () => void } {
    const ranges = request.ranges.map(({ local, bytes }) => ({ offset: local, bytes }));
    return this.#node.buffers.use(request.local, ranges, this.#owner);
  }

  /** The blocks must be held by the session and in no other transfer, and are this one's alone until it has ended. */
  #fill(groups: readonly GroupBlocks[]): () => void {
    const { pool } = this.#node;
    const taken: GroupBlocks[] = [];
    const release = (): void => {
      for (const { blocks } of taken) pool.filled(blocks);
    };
    try {
      for (const group of groups) {
        pool.fill(this.#holder, group.blocks);
        taken.push(group);
      }
    } catch (error) {
      release();
      throw error;
    }
    return release;
  }

  /** The blocks must be the session's, and stay what they are until the transfer has ended. */
  #pin(groups: readonly GroupBlocks[]): () => void {
    const { pool } = this.#node;
    for (const { blocks } of groups) pool.check(this.#holder, blocks);
    for (const { blocks } of groups) pool.pin(blocks);
    return () => {
      for (const { blocks } of groups) pool.unpin(blocks);
    };
  }

  #run(begin: Start, start: (running: Running, nowUs: number, deadlineUs: number) => void): Transfer {
    const node = this.#node;
    const { peer, content, release, deadlineMs } = begin;
    const bytes = contentBytes(node, content);
    let number: number;
    try {
      number = node.admissions.admit(peer.name, bytes);
    } catch (error) {
      release();
      throw error;
    }
    const nowUs = node.runtime.nowUs();
    const running = this.#newRunning(nowUs, number, bytes, begin);
    try {
      const local = peer.address !== undefined && isLoopback(peer.address.host);
      const granted = deadlineMs ?? defaultDeadline(node.settings.deadlines, local, node.admissions.bytes).deadlineMs;
      start(running, nowUs, node.deadlineUs(nowUs, granted));
    } catch (error) {
      this.#running.delete(number);
      node.admissions.end(number);
      release();
      throw error;
    }
    return running.transfer;
  }

  #newRunning(nowUs: number, number: number, bytes: number, begin: Start): Running {
    const node = this.#node;
    const { direction, peer, release, layers = false, priority = "normal", trace = "" } = begin;
    const { promise, resolve, reject } = withResolvers<TransferReport>();
    // Whoever only listens to events need not handle the promise as well.
    promise.catch(() => {});
    return {
      priority,
      chunkBytes: peer.path.chunkSize(nowUs, direction, priority, bytes, peer.chunkBytesMax).bytes,
      transfer: { transfer: number, done: promise, cancel: () => this.cancel(number) },
      attach: (placed) => {
        if (!placed.ended) this.#running.set(number, placed);
      },
      handlers: {
        onEvent: (event) => {
          if (event.kind === "stalled") {
            node.observer.stalled?.(direction);
            this.#emit({ kind: "stalled", transfer: number, silentMs: Math.round(event.silentUs / 1000) });
          } else if (event.kind === "moving") this.#emit({ kind: "moving", transfer: number });
          else if (layers) this.#emit({ kind: "layer", transfer: number, layer: event.layer });
        },
        onEnd: (outcome) => {
          this.#running.delete(number);
          node.admissions.end(number);
          release(outcome);
          const report = reportOf(node, number, outcome);
          if (direction === "out") node.bytesSent += outcome.bytes;
          node.observer.transferEnded?.(direction, outcome.ok, outcome.code, report, { peer: peer.name, trace });
          if (outcome.ok) {
            this.#emit({ kind: "done", transfer: number, report });
            resolve(report);
          } else {
            const code: ErrorCode = outcome.code || "internal";
            this.#emit({ kind: "failed", transfer: number, code, detail: outcome.detail });
            reject(new KvferryError(code, outcome.detail));
          }
        },
      },
    };
  }

  #deadlineMs(nowUs: number, deadlineUs: number): number {
    return Math.max(Math.round((deadlineUs - nowUs) / 1000), 1);
  }

  cancel(number: number): void {
    this.#running.get(number)?.cancel(this.#node.runtime.nowUs(), "cancelled", "by its caller", true);
  }

  cancelAll(code: ErrorCode): void {
    const nowUs = this.#node.runtime.nowUs();
    for (const placed of [...this.#running.values()]) placed.cancel(nowUs, code, "its client has gone", true);
  }
}

/**
 * What is refused for its profile is said once more without: the other end may have been restarted, or cannot code these planes. To whom its handle means
 * nothing by then that refusal was the end of it, and is what is told.
 */
function onceMore(handlers: Handlers, stored: (owner: Handlers) => void): Handlers {
  const { onEvent, onEnd } = handlers;
  return {
    onEvent,
    onEnd: (refused) => {
      if (refused.code !== "profile_refused") return onEnd(refused);
      const onEndAgain = (outcome: Outcome): void => {
        const { code, detail } = outcome.code === "handle_unknown" ? refused : outcome;
        onEnd({ ...outcome, code, detail, startedUs: refused.startedUs });
      };
      stored({ onEvent, onEnd: onEndAgain });
    },
  };
}

function sourceOf(source: FetchRequest["source"]): Ask["source"] {
  if ("handle" in source) return { kind: "handle", handle: source.handle };
  const { keys, group, tokens, position } = source;
  return { kind: "keys", keys, group, tokens, position };
}

function remoteRanges(request: RangeRequest): { readonly offset: number; readonly bytes: number }[] {
  return request.ranges.map(({ remote, bytes }) => ({ offset: remote, bytes }));
}

interface Resolvers<Value> {
  readonly promise: Promise<Value>;
  readonly resolve: (value: Value) => void;
  readonly reject: (error: Error) => void;
}

/** Promise.withResolvers, which Node 20 does not have. */
function withResolvers<Value>(): Resolvers<Value> {
  let [resolve, reject]: [(value: Value) => void, (error: Error) => void] = [() => {}, () => {}];
  const promise = new Promise<Value>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
