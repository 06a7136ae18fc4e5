/**
 * Which engine takes a request: the one with the fewest requests outstanding, in turn among equals. Health is passive: an engine that
 * failed several times in a row is down for a pause that doubles, then one request tries it.
 */
import { assert } from "../../check.ts";
import { limits } from "../../limits.ts";

/** "neutral": the request said nothing about the engine (the client went away, or the request itself was wrong). */
export type Outcome = "ok" | "failed" | "neutral";

export interface Wish {
  /** Only these; undefined: any. */
  readonly among?: readonly string[] | undefined;
  /** Not this one. */
  readonly except?: string | undefined;
}

/** What the exchange asks; a router that knows of prefixes and costs is another implementation. */
export interface EngineChooser {
  /** An engine that is up; undefined when there is none. */
  choose(nowMs: number, wish: Wish): string | undefined;
  /** For when none is up and something must be tried all the same: the one that is next to be up again. */
  leastDown(wish: Wish): string | undefined;
  handleStart(engine: string): void;
  /** True if this ended a time in which the engine was up (`down`) or down (`up`). */
  handleEnd(engine: string, outcome: Outcome, nowMs: number): Change;
}

export type Change = "down" | "up" | "none";

export interface EngineStatus {
  readonly engine: string;
  readonly outstanding: number;
  readonly up: boolean;
}

interface State {
  readonly engine: string;
  outstanding: number;
  /** In a row. */
  failures: number;
  /** undefined: up. Past: the next request tries it. */
  downUntilMs: number | undefined;
  pauseMs: number;
  trying: boolean;
  /** Rises with every start, so that the one that waited longest is next among equals. */
  turn: number;
}

export class LeastOutstanding implements EngineChooser {
  readonly #engines = new Map<string, State>();
  #turn = 0;

  constructor(engines: readonly string[]) {
    for (const engine of engines) this.add(engine);
  }

  /** Idempotent. False when the table is full. */
  add(engine: string): boolean {
    if (this.#engines.has(engine)) return true;
    if (this.#engines.size >= limits.routeEnginesMax) return false;
    const state = { engine, outstanding: 0, failures: 0, downUntilMs: undefined, pauseMs: 0, trying: false, turn: 0 };
    this.#engines.set(engine, state);
    return true;
  }

  choose(nowMs: number, { among, except }: Wish): string | undefined {
    return least(this.#candidates(among).filter((state) => state.engine !== except && isOpen(state, nowMs)))?.engine;
  }

  leastDown({ among, except }: Wish): string | undefined {
    const candidates = this.#candidates(among).filter(({ engine }) => engine !== except);
    return candidates.reduce<State | undefined>(
      (best, state) => (best === undefined || (state.downUntilMs ?? 0) < (best.downUntilMs ?? 0) ? state : best),
      undefined,
    )?.engine;
  }

  handleStart(engine: string): void {
    const state = this.#state(engine);
    state.outstanding++;
    state.turn = ++this.#turn;
    if (state.downUntilMs !== undefined) state.trying = true;
  }

  handleEnd(engine: string, outcome: Outcome, nowMs: number): Change {
    const state = this.#state(engine);
    assert(state.outstanding > 0, "a request ends once");
    state.outstanding--;
    const wasUp = state.downUntilMs === undefined;
    if (outcome === "neutral") {
      state.trying = false;
      return "none";
    }
    if (outcome === "ok") {
      Object.assign(state, { failures: 0, downUntilMs: undefined, pauseMs: 0, trying: false });
      return wasUp ? "none" : "up";
    }
    return this.#fail(state, nowMs, wasUp);
  }

  status(nowMs: number): EngineStatus[] {
    return [...this.#engines.values()].map((state) => ({
      engine: state.engine,
      outstanding: state.outstanding,
      up: isOpen(state, nowMs),
    }));
  }

  #candidates(among: Wish["among"]): readonly State[] {
    return among === undefined ? [...this.#engines.values()] : among.flatMap((engine) => this.#engines.get(engine) ?? []);
  }

  #fail(state: State, nowMs: number, wasUp: boolean): Change {
    state.failures++;
    // Requests that were under way when it went down fail with it: they do not make its pause longer.
    if (!wasUp && !state.trying) return "none";
    if (wasUp && state.failures < limits.routeFailuresToDown) return "none";
    state.pauseMs = Math.min(Math.max(state.pauseMs * 2, limits.routeDownMinMs), limits.routeDownMaxMs);
    state.downUntilMs = nowMs + state.pauseMs;
    state.trying = false;
    return wasUp ? "down" : "none";
  }

  #state(engine: string): State {
    const state = this.#engines.get(engine);
    assert(state !== undefined, `${engine} is an engine of this table`);
    return state;
  }
}

function isOpen(state: State, nowMs: number): boolean {
  return state.downUntilMs === undefined || (nowMs >= state.downUntilMs && !state.trying);
}

function least(candidates: readonly State[]): State | undefined {
  return candidates.reduce<State | undefined>((best, state) => {
    if (best === undefined || state.outstanding < best.outstanding) return state;
    return state.outstanding === best.outstanding && state.turn < best.turn ? state : best;
  }, undefined);
}
