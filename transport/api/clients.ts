/**
 * The engines' processes. An engine is its process: the session of one that lost its connection is kept while that process lives, because
 * shared memory cannot keep it from writing, and ends when the process is proven dead, even if its socket lingers.
 */
import { statSync } from "node:fs";
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import type { FerrySession } from "../ferry/host.ts";
import type { Processes } from "../memory/liveness.ts";

interface Client<Connected> {
  readonly session: FerrySession;
  readonly processId: number;
  readonly startTicks: number;
  /** Undefined while the client has no connection. */
  connected: Connected | undefined;
  /** The connection that it has, or had last. */
  readonly last: Connected;
  stopWatching: () => void;
}

export class Clients<Connected> {
  readonly #processes: Processes;
  readonly #onDeath: (connected: Connected) => void;
  readonly #clients = new Map<string, Client<Connected>>();

  /** @param onDeath ends the connection of a process that is dead. */
  constructor(processes: Processes, onDeath: (connected: Connected) => void) {
    this.#processes = processes;
    this.#onDeath = onDeath;
  }

  /** Connected clients. */
  get count(): number {
    let count = 0;
    for (const client of this.#clients.values()) if (client.connected !== undefined) count++;
    return count;
  }

  /**
   * The process that is watched for the client: its own, or 0 where none can be watched (no /proc).
   * Throws invalid_argument unless it is a living process of this user, as seen from here; 0 is nobody's.
   */
  checkProcess(processId: number): number {
    if (processId === 0 || this.#processes.startTicks(process.pid) === 0) return 0;
    const owner = statSync(`/proc/${processId}`, { throwIfNoEntry: false })?.uid;
    if (owner === undefined || this.#processes.startTicks(processId) === 0) {
      throw expected(
        "a living process (sidecar and engine must share a PID namespace; 0 for a client that does not attach)",
        "processId",
        processId,
      );
    }
    if (owner !== process.getuid?.()) throw new KvferryError("tenant_denied", `process ${processId} is another user's`);
    return processId;
  }

  /** The connection that the token's session has or had last, if the same process asks for it. */
  lastOf(resume: string, processId: number): Connected | undefined {
    const client = this.#clients.get(resume);
    if (client === undefined || client.processId !== processId) return undefined;
    return client.startTicks === this.#processes.startTicks(processId) ? client.last : undefined;
  }

  add(session: FerrySession, processId: number, connected: Connected): void {
    this.#clients.get(session.resume)?.stopWatching();
    const startTicks = processId === 0 ? 0 : this.#processes.startTicks(processId);
    const client: Client<Connected> = { session, processId, startTicks, connected, last: connected, stopWatching: () => {} };
    this.#clients.set(session.resume, client);
    if (processId !== 0) client.stopWatching = this.#processes.watch(processId, startTicks, () => this.#died(client));
  }

  /** The client's connection is gone. */
  left(session: FerrySession, connected: Connected): void {
    const client = this.#clients.get(session.resume);
    if (client === undefined || client.connected !== connected) return;
    client.connected = undefined;
    const alive = client.processId !== 0 && this.#processes.startTicks(client.processId) === client.startTicks;
    if (!alive) this.#forget(client);
    session.closeSession(alive);
  }

  /** The session was closed by its client: nothing of it is left to watch. */
  closed(session: FerrySession): void {
    const client = this.#clients.get(session.resume);
    if (client !== undefined) this.#forget(client);
  }

  close(): void {
    for (const client of this.#clients.values()) client.stopWatching();
    this.#clients.clear();
  }

  #died(client: Client<Connected>): void {
    const { connected } = client;
    client.connected = undefined;
    this.#forget(client);
    if (connected !== undefined) this.#onDeath(connected);
    client.session.closeSession(false);
  }

  #forget(client: Client<Connected>): void {
    client.stopWatching();
    if (this.#clients.get(client.session.resume) === client) this.#clients.delete(client.session.resume);
  }
}
