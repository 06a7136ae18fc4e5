/** One end of a bench: a link, a pool of private memory, the placements of a case. Client and server each hold one. */
import { readFileSync } from "node:fs";
import { assert } from "../transport/check.ts";
import { defaultIoThreads } from "../transport/config.ts";
import { codeOfNumber, KvferryError } from "../transport/errors.ts";
import { limits } from "../transport/limits.ts";
import type { ConnectionId, Link, LinkEvent, PlacementId } from "../transport/link/link.ts";
import { privateRegion, type Region } from "../transport/memory/region.ts";
import { native, nativeProblem } from "../transport/native.ts";
import type { TlsOptions } from "../transport/tls/options.ts";
import type { CheckReply, UseReply } from "./calls.ts";
import { type Content, chunkDigests, countWrong, fillSlot, poisonSlot } from "./content.ts";
import type { Requester } from "./requests.ts";
import { bytesOf, chunksOf, type Side, type Workload } from "./workload.ts";

const EVENTS_AT_ONCE = 1_024;
const POISON = 0xa5;

export type BenchLinkKind = "tcp" | "js" | "fake";

export interface CasePlan {
  /** Counts the cases of a session: grants of different cases never meet. */
  readonly number: number;
  readonly workload: Workload;
  readonly side: Side;
  /** Slots that the client pushes, and those it pulls; disjoint. */
  readonly write: readonly number[];
  readonly read: readonly number[];
  readonly checksum: boolean;
}

/** "auto" is native TCP, or JavaScript where the addon is absent. Throws unsupported for a link that was forced and cannot be had. */
export function chooseLink(wanted: string): BenchLinkKind {
  if (wanted === "js") return "js";
  if (native !== undefined) return wanted === "fake" ? "fake" : "tcp";
  if (wanted === "auto") return "js";
  throw new KvferryError("unsupported", `link ${wanted} needs the addon: ${nativeProblem}`);
}

export class Endpoint {
  readonly link: Link;
  readonly kind: BenchLinkKind;
  #region: Region | undefined;
  #plan: CasePlan | undefined;
  #placements = new Map<number, PlacementId>();
  readonly #leaving = new Set<PlacementId>();
  #onRevoked: (() => void) | undefined;
  #connection: ConnectionId | undefined;
  /** By lane and its port, the last that was seen: a lane that dies takes its counter along, and another comes in its place. */
  readonly #retransmits = new Map<string, number>();
  /** When something of a request was heard of the other end. */
  heardMs = 0;
  #isHeard = false;
  requesters: readonly Requester[] = [];
  /** Called when events have been handled: the place to begin new requests, outside of the link's own call. */
  afterPoll: () => void = () => {};
  /** Events that are no request's: connections, lanes, messages. */
  onOther: (event: LinkEvent) => void = () => {};
  /** The link or a request failed; nothing more will complete. */
  onFailure: (error: Error) => void = (error) => {
    throw error;
  };

  /** Only the link that is used is loaded. */
  static async open(kind: BenchLinkKind, ioThreads: number, tls?: TlsOptions): Promise<Endpoint> {
    const make = await linkMaker(kind);
    const more = tls === undefined ? {} : { tls };
    return new Endpoint(kind, (onWake) => make({ onWake, ioThreads: ioThreads || defaultIoThreads(), ...more }));
  }

  private constructor(kind: BenchLinkKind, make: (onWake: () => void) => Link) {
    this.kind = kind;
    this.link = make(() => this.pump());
  }

  /** Memory for all cases of a session, touched once so that no page is faulted in while the clock runs. */
  allocate(bytes: number): void {
    assert(this.#region === undefined, "one pool for a session");
    let memory: Uint8Array;
    try {
      memory = Buffer.allocUnsafeSlow(bytes).fill(POISON);
    } catch (error) {
      throw new KvferryError("memory_unavailable", `${bytes} bytes for the bench pool`, { cause: error });
    }
    this.#region = privateRegion(memory);
  }

  /** Makes the case's slots known to the link; returns how long each took. */
  prepare(plan: CasePlan, connection: ConnectionId): number[] {
    this.#plan = plan;
    this.#connection = connection;
    const local = plan.side === "local";
    const place =
      (direction: "in" | "out") =>
      (slot: number): number => {
        const startMs = performance.now();
        this.#place(slot, direction, connection);
        return (performance.now() - startMs) * 1000;
      };
    return [...plan.write.map(place(local ? "out" : "in")), ...plan.read.map(place(local ? "in" : "out"))];
  }

  placements(slots: readonly number[]): PlacementId[] {
    return slots.map((slot) => this.#placements.get(slot)!);
  }

  /** Takes the case's memory back from the link; resolves when nothing can touch it. */
  async release(): Promise<void> {
    this.requesters = [];
    for (const placement of this.#placements.values()) this.#leaving.add(placement);
    this.#placements.clear();
    const gone = new Promise<void>((resolve) => {
      this.#onRevoked = resolve;
    });
    const leaving = [...this.#leaving];
    for (const placement of leaving) this.link.revoke(placement);
    if (leaving.length > 0) await gone;
    this.#onRevoked = undefined;
  }

  fill(slots: readonly number[], content: Content): string[][] {
    const { workload, side } = this.#case();
    return slots.map((slot) => fillSlot(this.#memory(), workload.place(side, slot), chunksOf(workload, slot), slot, content));
  }

  poison(slots: readonly number[]): void {
    const { workload, side } = this.#case();
    for (const slot of slots) poisonSlot(this.#memory(), workload.place(side, slot), chunksOf(workload, slot), POISON);
  }

  /** Compares slots with what they should hold: with the content itself, or with the sender's digests where only it has the content. */
  check(slots: readonly number[], content: Content | undefined, digests: readonly (readonly string[])[]): CheckReply {
    const { workload, side } = this.#case();
    let wrong = 0;
    slots.forEach((slot, index) => {
      const [place, chunks] = [workload.place(side, slot), chunksOf(workload, slot)];
      if (content !== undefined) wrong += countWrong(this.#memory(), place, chunks, slot, content);
      else {
        const found = chunkDigests(this.#memory(), place, chunks);
        found.forEach((digest, chunk) => {
          if (digest !== digests[index]?.[chunk]) wrong += chunks[chunk]!.bytes;
        });
      }
    });
    return { verifiedBytes: bytesOf(workload, slots), wrong };
  }

  use(): UseReply {
    const { user, system } = process.cpuUsage();
    const retries = this.requesters.reduce((sum, requester) => sum + requester.retries, 0);
    const mainThreadSeconds = mainThreadCpuSeconds();
    return {
      mainThreadSeconds,
      cpuUserSeconds: user / 1e6,
      cpuSystemSeconds: system / 1e6,
      residentBytes: process.memoryUsage.rss(),
      retries,
      retransmits: this.retransmits(),
    };
  }

  /** Segments that were sent again since the connection began; null: only TCP that the kernel speaks of counts them. */
  retransmits(): number | null {
    if (this.kind !== "tcp" || this.#connection === undefined) return null;
    for (const { lane, local, retransmits } of this.link.laneInfo(this.#connection)) {
      this.#retransmits.set(`${lane}:${local?.port}`, retransmits);
    }
    let sum = 0;
    for (const count of this.#retransmits.values()) sum += count;
    return sum;
  }

  /** Handles what the link has to tell, then offers it again what it had no room for. */
  pump(): void {
    try {
      while (this.link.poll(this.#handle, EVENTS_AT_ONCE) === EVENTS_AT_ONCE);
      if (this.#isHeard) this.heardMs = performance.now();
      this.#isHeard = false;
      for (const requester of this.requesters) requester.flush();
      this.afterPoll();
    } catch (error) {
      this.onFailure(error as Error);
    }
  }

  async close(): Promise<void> {
    await this.link.close();
    this.#region?.close();
    this.#region = undefined;
  }

  readonly #handle = (event: LinkEvent): void => {
    if (event.kind === "revoked") {
      this.#leaving.delete(event.placement);
      if (this.#leaving.size === 0) this.#onRevoked?.();
      return;
    }
    for (const requester of this.requesters) {
      if (!requester.handle(event)) continue;
      this.#isHeard = true;
      return;
    }
    this.onOther(event);
    if (event.kind === "disconnected") this.onFailure(new KvferryError(codeOfNumber(event.code), `bench connection: ${event.detail}`));
  };

  #place(slot: number, direction: "in" | "out", connection: ConnectionId): void {
    const { workload, side, number, checksum } = this.#case();
    const grant = number * limits.placementsMax + slot + 1;
    const { planes, blockLists } = workload.place(side, slot);
    const placement = this.link.place({
      direction,
      connection,
      grant,
      generation: 1,
      region: this.#pool(),
      planes,
      blockLists,
      chunks: chunksOf(workload, slot),
      standing: true,
      checksum,
    });
    if (placement === "full") throw new KvferryError("full", "the link's placement table");
    this.#placements.set(slot, placement);
  }

  #pool(): Region {
    assert(this.#region !== undefined, "allocate() comes first");
    return this.#region;
  }

  #memory(): Uint8Array {
    return this.#pool().view;
  }

  #case(): CasePlan {
    assert(this.#plan !== undefined, "prepare() comes first");
    return this.#plan;
  }
}

/** Linux counts CPU time of each thread in nanoseconds; the main thread's id is the process's. */
function mainThreadCpuSeconds(): number {
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "latin1").split(" ")[0]) / 1e9;
  } catch {
    return Number.NaN;
  }
}

type LinkOptions = { readonly onWake: () => void; readonly ioThreads: number; readonly tls?: TlsOptions };

async function linkMaker(kind: BenchLinkKind): Promise<(options: LinkOptions) => Link> {
  if (kind === "tcp") return (await import("../transport/link/tcp.ts")).createTcpLink;
  if (kind === "fake") return (await import("../transport/link/fake.ts")).createFakeLink;
  return (await import("../transport/link/js.ts")).createJsLink;
}
