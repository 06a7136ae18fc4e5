/** The words in which the pool is spoken to. */
import type { Processes } from "./liveness.ts";
import type { Region } from "./region.ts";

/** Blocks in a batch: ids and their generations, same length. */
export interface Blocks {
  readonly ids: Uint32Array;
  readonly generations: Uint32Array;
}

/** Who holds blocks: a connected engine, a transfer, or the pool's own publishing. Unique in a pool's life; 1 or more. */
export type HolderId = number;

/** "ending": given back, but a transfer or a reader still uses it; free when the last of them is done. */
export type BlockState = "free" | "held" | "sealing" | "published" | "quarantined" | "ending";

export interface PoolOptions {
  readonly name: string;
  readonly region: Region;
  readonly blockBytes: number;
  /** 16 random bytes for a new pool's incarnation: randomness is injected. */
  readonly random: (bytes: number) => Uint8Array;
  readonly nowUs: () => number;
  /** Whether former holders live. Default: as the host says for a region that others can map, nobody for a private one. */
  readonly processes?: Processes;
}

export interface PoolEvents {
  /**
   * Published blocks without leases were taken for another use: their keys, 32 bytes each. Once for the call that
   * caused it, after it has done its work.
   */
  readonly evicted: (keys: Uint8Array, blocks: Uint32Array) => void;
}

export interface PoolStats {
  /** Blocks of the layout. */
  readonly blockCount: number;
  readonly free: number;
  /** Held or being sealed, and blocks given back that a transfer still uses. */
  readonly held: number;
  readonly published: number;
  /** Published blocks with at least one lease. */
  readonly leased: number;
  readonly quarantined: number;
  /** Blocks in use by transfers, whatever their state. */
  readonly pinned: number;
  readonly evictions: number;
  /** How long the block evicted last had not been used: how far back this pool remembers. */
  readonly evictedIdleUs: number;
}
