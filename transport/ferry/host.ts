/**
 * What the API server needs of a node: one Ferry for each client, with a holder of its own in the pool. FerryNode implements it;
 * the tests of the server have a small one of their own.
 */
import type { Ferry } from "./ferry.ts";

export interface SessionOptions {
  /** The client's own name, for logs; not unique. */
  readonly client: string;
  /** Proven by the server to be a living process of this user; its death ends the session's holds (0: in process). */
  readonly processId: number;
  /**
   * Token of an earlier session of the same process. Of this incarnation: the new session holds what that one held. Of a former one: the
   * process declares that nothing of it writes or reads there any more, so that the blocks quarantined for it may be freed.
   * A token that names nothing opens a fresh session.
   */
  readonly resume?: string;
}

export interface FerrySession extends Ferry {
  /** Unguessable; names this session's holder to a later `openSession`. */
  readonly resume: string;
  /** True if the holder is that of the token. */
  readonly resumed: boolean;
  /**
   * The connection is gone. While the process lives its blocks and leases stay (shared memory cannot fence), and its transfers are
   * cancelled; otherwise all of it ends. Called again with `false` when the process dies later. Idempotent; never throws.
   */
  closeSession(processAlive: boolean): void;
}

export interface FerryHost {
  /** 32 hex digits; a new one at each start. */
  readonly incarnation: string;
  /** Throws KvferryError (draining, too_many_clients, full ...). */
  openSession(options: SessionOptions): FerrySession;
}
