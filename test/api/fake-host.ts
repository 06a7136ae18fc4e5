/**
 * A node small enough to hold in the head, behind the real API server: a real pool in plain memory, and transfers that end when the test
 * says so. What the server must not change on the way is recorded in `calls`.
 */
import { KvferryError } from "../../transport/errors.ts";
import type {
  BufferInfo,
  FerryEvent,
  FerryStats,
  LookupPlace,
  ModelInfo,
  NodeInfo,
  PoolInfo,
  Transfer,
  TransferReport,
} from "../../transport/ferry/ferry.ts";
import type { FerryHost, FerrySession, SessionOptions } from "../../transport/ferry/host.ts";
import type { Blocks, Pool } from "../../transport/memory/pool.ts";
import { FakeProcesses, openPool, plainRegion } from "../memory/regions.ts";

export const REPORT: Omit<TransferReport, "transfer"> = {
  bytes: 2 ** 40,
  wireBytes: 2 ** 33 + 1,
  seconds: 0.25,
  chunks: 7,
  retries: 0,
  link: "fake",
  order: "flat",
  resumed: 0,
  profile: "0f".repeat(16),
  lossy: true,
};

export class FakeHost implements FerryHost {
  readonly pool: Pool;
  readonly incarnation: string;
  readonly sessions = new Map<string, FakeSession>();
  readonly calls: { readonly op: string; readonly args: readonly unknown[] }[] = [];
  /** If set, the next opening fails with it. */
  refusal: KvferryError | undefined;
  #resumes = 0;

  constructor(incarnation = "0123456789abcdef0123456789abcdef") {
    this.incarnation = incarnation;
    this.pool = openPool(plainRegion(4 * 1024 * 1024), 16 * 1024, new FakeProcesses()).pool;
  }

  openSession(options: SessionOptions): FerrySession {
    if (this.refusal !== undefined) throw this.refusal;
    const former = options.resume === undefined ? undefined : this.sessions.get(options.resume);
    if (former?.detached && former.options.processId === options.processId) return former.reattach();
    const session = new FakeSession(this, options, `${this.incarnation.slice(0, 8)}-${++this.#resumes}`);
    this.sessions.set(session.resume, session);
    return session;
  }

  get only(): FakeSession {
    const [session] = this.sessions.values();
    if (session === undefined || this.sessions.size !== 1) throw new Error(`${this.sessions.size} sessions`);
    return session;
  }
}

export class FakeSession implements FerrySession {
  readonly options: SessionOptions;
  readonly resume: string;
  readonly closes: boolean[] = [];
  readonly cancelled: number[] = [];
  readonly holder: number;
  resumed = false;
  detached = false;
  /** Called within `fetch`, before its promise settles. */
  whileStarting = (_transfer: number): void => {};
  readonly #host: FakeHost;
  readonly #listeners = new Set<(event: FerryEvent) => void>();
  #transfers = 0;

  constructor(host: FakeHost, options: SessionOptions, resume: string) {
    this.#host = host;
    this.options = options;
    this.resume = resume;
    this.holder = host.pool.nextHolder;
    host.pool.addHolder(this.holder, 0);
  }

  reattach(): this {
    this.detached = false;
    this.resumed = true;
    return this;
  }

  tell(event: FerryEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  closeSession(processAlive: boolean): void {
    this.closes.push(processAlive);
    this.detached = true;
    if (processAlive) return;
    this.#host.pool.removeHolder(this.holder);
    this.#host.sessions.delete(this.resume);
  }

  on(listener: (event: FerryEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async pool(): Promise<PoolInfo> {
    const { region, dataOffset, blockBytes, blockCount } = this.#host.pool;
    return {
      path: "/dev/shm/kvferry.fake",
      bytes: region.bytes + 2 ** 40,
      dataOffset,
      blockBytes,
      blockCount,
      incarnation: this.#host.incarnation,
    };
  }

  async alloc(count: number): Promise<Blocks> {
    return this.#host.pool.alloc(this.holder, count);
  }

  async free(blocks: Blocks): Promise<void> {
    this.#host.pool.free(this.holder, blocks);
  }

  async publish(...args: [model: number, group: number, blocks: Blocks, keys: Uint8Array]): Promise<void> {
    const [, group, blocks, keys] = args;
    this.#host.calls.push({ op: "publish", args });
    this.#host.pool.beginSeal(this.holder, blocks);
    // Sealing takes time in the real one: the keys must outlive the message that brought them.
    await new Promise((resolve) => setImmediate(resolve));
    this.#host.pool.seal(blocks, keys, new Uint32Array(blocks.ids.length), group, 16);
  }

  async lease(_model: number, group: number, keys: Uint8Array, prefix = false): Promise<Blocks> {
    return this.#host.pool.lease(this.holder, keys, group, prefix);
  }

  async release(blocks: Blocks): Promise<void> {
    this.#host.pool.release(this.holder, blocks);
  }

  registerModel = this.#answering<ModelInfo>("registerModel", { model: 3, fingerprint: "ab".repeat(32) });
  keys = this.#answering<Uint8Array>(
    "keys",
    Uint8Array.from({ length: 64 }, (_, at) => at),
  );
  lookup = this.#answering<LookupPlace[]>("lookup", [
    { peer: "", matched: 2, code: "" },
    { peer: "b", matched: 0, code: "peer_silent" },
  ]);
  offer = this.#answering<string>("offer", "01234567-00112233445566778899aabbccddeeff");
  ready = this.#answering<undefined>("ready", undefined);
  withdraw = this.#answering<undefined>("withdraw", undefined);
  prewarm = this.#answering<undefined>("prewarm", undefined);
  discard = this.#answering<undefined>("discard", undefined);
  registerBuffer = this.#answering<BufferInfo>("registerBuffer", { handle: "buffer", bytes: 4096 });
  unregisterBuffer = this.#answering<undefined>("unregisterBuffer", undefined);
  fetch = this.#starting("fetch");
  push = this.#starting("push");
  read = this.#starting("read");
  write = this.#starting("write");

  async info(): Promise<NodeInfo> {
    return { name: "fake", address: "[::1]:7411", link: "fake" };
  }

  async stats(): Promise<FerryStats> {
    return {
      pool: this.#host.pool.stats(),
      peers: [{ name: "b", address: "10.0.0.2:7411", up: true, lanes: 4, link: "fake", goodputBytesPerSecond: 1e9, confidence: 0.5 }],
      transfers: this.#transfers,
      bytesSent: 2 ** 40 + 1,
      bytesReceived: 0,
    };
  }

  async close(): Promise<void> {
    this.closeSession(false);
  }

  #answering<Result>(op: string, result: Result) {
    return async (...args: readonly unknown[]): Promise<Result> => {
      this.#host.calls.push({ op, args });
      return result;
    };
  }

  #starting(op: string) {
    return async (...args: readonly unknown[]): Promise<Transfer> => {
      this.#host.calls.push({ op, args });
      const [request] = args as [{ readonly peer: string }];
      if (request.peer === "nobody") throw new KvferryError("peer_not_allowed", "nobody");
      const transfer = ++this.#transfers;
      const cancel = (): void => {
        this.cancelled.push(transfer);
        this.tell({ kind: "failed", transfer, code: "cancelled", detail: "by its caller" });
      };
      this.whileStarting(transfer);
      return { transfer, done: new Promise(() => {}), cancel };
    };
  }
}
