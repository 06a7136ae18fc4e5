/** What a node refused, by cause: counted here, and told of so that somebody can log it. What the link turns away before there is a Hello is in its `refusals`. */
import type { Endpoint } from "../link/link.ts";
import type { Caller } from "../peer/caller.ts";

export const DENIALS = [
  /** Not on the allow-list, or with another secret. */
  "not_allowed",
  /** No tenant of its certificate, or not the one that it claims. */
  "wrong_tenant",
  /** Asked for what is another tenant's, and no rule lets it. */
  "no_rule",
  /** A handle in a namespace that no rule names. */
  "namespace",
  /** A handle that is for other peers. */
  "reader",
  /** A handle that is spent, withdrawn, of a former start, or was never given. */
  "handle",
] as const;

export type Denial = (typeof DENIALS)[number];
export type DenialCounts = Readonly<Record<Denial, number>>;

type Tell = (cause: Denial, remote: Endpoint, detail: string) => void;

export class Denials {
  readonly #tell: Tell;
  readonly #counts = new Map<Denial, number>();

  constructor(tell: Tell) {
    this.#tell = tell;
  }

  add(cause: Denial, { remote, identity }: Caller, detail: string): void {
    this.#counts.set(cause, (this.#counts.get(cause) ?? 0) + 1);
    this.#tell(cause, remote, identity === "" ? detail : `${identity}: ${detail}`);
  }

  get counts(): DenialCounts {
    return Object.fromEntries(DENIALS.map((cause) => [cause, this.#counts.get(cause) ?? 0])) as DenialCounts;
  }
}
