/**
 * Which engine takes a request: the one with the fewest requests outstanding, in turn among equals. Health is passive: an engine that
 * failed several times in a row is down for a pause that doubles, then one request tries it.
 */
import { assert } from "../../check.ts";
import { limits } from "../../limits.ts";

/** "neutral": the request said nothing about the engine (the client went away, or the request itself was wrong). */
export type Outcome = "ok" | "failed" | "neutral";

export interface Wish {
  /** Only these, known or not; undefined: any that is known. */
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
  /** Never forgotten. */
  readonly isConfigured: boolean;
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

/**
 * An engine that is not configured is known from its first request on. Of more than `routeEnginesMax` such engines the one that has had
 * none for longest is forgotten, with what it failed at; those with requests outstanding are no more than there are requests.
 */
export class LeastOutstanding implements EngineChooser {
  readonly #engines: Map<string, State>;
  readonly #configuredCount: number;
  #turn = 0;

  constructor(configured: readonly string[]) {
    this.#engines = new Map(configured.map((engine) => [engine, newState(engine, true)]));
    this.#configuredCount = this.#engines.size;
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
    const state = this.#engines.get(engine) ?? newState(engine, false);
    this.#engines.set(engine, state);
    state.outstanding++;
    state.turn = ++this.#turn;
    if (state.downUntilMs !== undefined) state.trying = true;
    this.#forget();
  }

  handleEnd(engine: string, outcome: Outcome, nowMs: number): Change {
    const state = this.#engines.get(engine);
    // An engine with requests outstanding is never forgotten.
    assert(state !== undefined && state.outstanding > 0, "a request that began ends, once");
    state.outstanding--;
    const change = this.#judge(state, outcome, nowMs);
    this.#forget();
    return change;
  }

  status(nowMs: number): EngineStatus[] {
    return [...this.#engines.values()].map((state) => ({
      engine: state.engine,
      outstanding: state.outstanding,
      up: isOpen(state, nowMs),
    }));
  }

  #candidates(among: Wish["among"]): readonly State[] {
    return among?.map((engine) => this.#engines.get(engine) ?? newState(engine, false)) ?? [...this.#engines.values()];
  }

  #judge(state: State, outcome: Outcome, nowMs: number): Change {
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

  #forget(): void {
    if (this.#engines.size - this.#configuredCount <= limits.routeEnginesMax) return;
    const idle = [...this.#engines.values()].filter(({ isConfigured, outstanding }) => !isConfigured && outstanding === 0);
    const oldest = least(idle);
    if (oldest !== undefined) this.#engines.delete(oldest.engine);
  }
}

function newState(engine: string, isConfigured: boolean): State {
  return { engine, isConfigured, outstanding: 0, failures: 0, downUntilMs: undefined, pauseMs: 0, trying: false, turn: 0 };
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
