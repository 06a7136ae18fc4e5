/** What was begun and must end: each transfer once, in time, with a code if not with its bytes. */
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** After its deadline a transfer still has to get its memory back from the link, and a late completion or two may lie in between. */
const GRACE_US = 3_000_000;

/** Time enough for silence to be noticed, for redials and for what is left to be sent. */
const HEALTHY_US = 15_000_000;

/** How a transfer cannot end unless somebody breaks the rules. */
const BUGS: ReadonlySet<string> = new Set(["protocol_error", "internal", "chunk_busy", "duplicate_chunk", "version_unsupported"]);

export interface Entry {
  readonly number: number;
  readonly kind: string;
  readonly node: SimNode;
  readonly life: number;
  readonly startedUs: number;
  readonly deadlineUs: number;
  /** From the promise: "ok" or a code. */
  outcome: string | undefined;
  /** From the event that the client gets. */
  told: string | undefined;
}

export class Ledger {
  readonly #world: World;
  readonly #open = new Set<Entry>();
  readonly #outcomes = new Map<string, number>();
  #next = 1;
  /** Before that no transfer can be late. */
  #nextLateUs = Number.POSITIVE_INFINITY;
  ended = 0;
  /** Since when everything works. */
  healedUs = Number.POSITIVE_INFINITY;
  /** Its node was killed: nobody is left to be told. */
  lost = 0;

  constructor(world: World) {
    this.#world = world;
  }

  get begun(): number {
    return this.#next - 1;
  }
  get open(): number {
    return this.#open.size;
  }
  /** How transfers ended: kind and outcome, with counts. */
  get outcomes(): ReadonlyMap<string, number> {
    return this.#outcomes;
  }

  begin(kind: string, node: SimNode, deadlineMs: number): Entry {
    const { nowUs } = this.#world;
    const times = { startedUs: nowUs, deadlineUs: nowUs + deadlineMs * 1000 };
    const entry: Entry = { number: this.#next++, kind, node, life: node.lives, ...times, outcome: undefined, told: undefined };
    this.#open.add(entry);
    this.#nextLateUs = Math.min(this.#nextLateUs, lateUs(entry));
    this.#world.trace(`begin ${kind} at ${node.name}`, entry.number, deadlineMs);
    return entry;
  }

  /** The client's event. */
  tell(entry: Entry, outcome: string): void {
    if (entry.told !== undefined) this.#world.violate(`${describe(entry)} was told ${entry.told} and then ${outcome}`);
    entry.told = outcome;
  }

  /** The promise has settled, or the call was refused. */
  end(entry: Entry, outcome: string): void {
    if (entry.outcome !== undefined) this.#world.violate(`${describe(entry)} ended ${entry.outcome} and then ${outcome}`);
    if (entry.told !== undefined && entry.told !== outcome) {
      this.#world.violate(`${describe(entry)} ended ${outcome} although its event said ${entry.told}`);
    }
    const worked = entry.deadlineUs - Math.max(entry.startedUs, this.healedUs);
    if (outcome === "deadline_exceeded" && worked >= HEALTHY_US)
      this.#world.violate(`${describe(entry)} had ${worked} us without faults and did not end by itself`);
    // Pages of two sizes have no keys in common, and a push finds out only at the other end.
    if (BUGS.has(outcome) && entry.kind !== "push") this.#world.violate(`${describe(entry)} ended ${outcome} between two honest nodes`);
    entry.outcome = outcome;
    this.#open.delete(entry);
    this.ended += 1;
    const row = `${entry.kind} ${outcome}`;
    this.#outcomes.set(row, (this.#outcomes.get(row) ?? 0) + 1);
    this.#world.trace(`end ${entry.kind} ${outcome}`, entry.number);
  }

  /** The node's process died, with all it knew. */
  loseAll(node: SimNode): void {
    for (const entry of this.#open) {
      if (entry.node !== node) continue;
      this.#open.delete(entry);
      this.lost += 1;
    }
  }

  /** No transfer outlives its deadline. A stop moves the moment only further away, so nobody is looked at before the first one's. */
  check(): void {
    const { nowUs } = this.#world;
    if (nowUs <= this.#nextLateUs) return;
    this.#nextLateUs = Number.POSITIVE_INFINITY;
    for (const entry of this.#open) {
      this.#nextLateUs = Math.min(this.#nextLateUs, lateUs(entry));
      if (nowUs > lateUs(entry)) this.#world.violate(`${describe(entry)} has not ended ${nowUs - entry.deadlineUs} us after its deadline`);
    }
  }
}

/** A stopped node cannot end anything. */
function lateUs({ deadlineUs, node }: Entry): number {
  return Math.max(deadlineUs, node.host.stoppedUntilUs) + GRACE_US;
}

function describe({ number, kind, node, startedUs }: Entry): string {
  return `transfer ${number} (${kind} at ${node.name}, begun at ${startedUs} us)`;
}
