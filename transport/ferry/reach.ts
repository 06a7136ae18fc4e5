/**
 * Whether the address that this node tells others leads to it: dialled once, at the start. The proof is the node's own Hello, which comes in at its own
 * door; what is answered proves nothing.
 */
import { codeOfNumber, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { ConnectionId, Endpoint, Link, LinkEvent } from "../link/link.ts";

export interface ReachOptions {
  readonly link: Link;
  readonly address: Endpoint;
  /** Of the node's own certificate, over TLS. */
  readonly identity: string | undefined;
  /** What the node says to itself. */
  readonly hello: () => Uint8Array;
  /** Called once. `problem`: "" if it was reached. */
  readonly onKnown: (problem: string) => void;
}

export class Reach {
  readonly #options: ReachOptions;
  #connection: ConnectionId | undefined;
  #endsUs = 0;
  /** Undefined until it is known; "": it is reached. */
  #problem: string | undefined;

  constructor(options: ReachOptions) {
    this.#options = options;
  }

  /** Why others will not reach the node there; "": they will, as far as can be seen from here; undefined: not known yet. */
  get problem(): string | undefined {
    return this.#problem;
  }

  begin(nowUs: number): void {
    const { link, address, identity } = this.#options;
    this.#endsUs = nowUs + (limits.connectTimeoutMs + limits.helloTimeoutMs) * 1000;
    try {
      this.#connection = link.dial(address, limits.connectTimeoutMs, identity);
    } catch (error) {
      if (!(error instanceof KvferryError)) throw error;
      this.#know(error.message);
    }
  }

  isOf(connection: ConnectionId): boolean {
    return connection === this.#connection;
  }

  handle(event: LinkEvent): void {
    const { link, hello } = this.#options;
    if (event.kind === "connected") link.send(event.connection, hello());
    else if (event.kind === "message") this.#know("another node answers there");
    else if (event.kind === "disconnected") this.#know(`${codeOfNumber(event.code)}: ${event.detail}`);
  }

  /** The node's own Hello has come in. */
  handleSelf(): void {
    this.#know("");
  }

  turn(nowUs: number): void {
    if (this.#problem === undefined && nowUs >= this.#endsUs) this.#know("nobody answers there");
  }

  nextDeadlineUs(): number {
    return this.#problem === undefined ? this.#endsUs : Number.POSITIVE_INFINITY;
  }

  #know(problem: string): void {
    if (this.#problem !== undefined) return;
    this.#problem = problem;
    if (this.#connection !== undefined) this.#options.link.disconnect(this.#connection);
    this.#options.onKnown(problem);
  }
}
