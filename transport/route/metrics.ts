/** What the proxy counts. A registry of its own; labels are bounded: reasons are closed lists, engines come from the configuration. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineStatus } from "./core/engines.ts";
import type { DirectReason } from "./core/plan.ts";
import type { ExchangeObserver, Role } from "./exchange.ts";

const PREFIX = "kvferry_route_";
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export type PathKind = "completions" | "chat" | "other";

export interface RouteSources {
  readonly running: () => number;
  readonly heldBytes: () => number;
  readonly engines: () => readonly (EngineStatus & { readonly role: Role })[];
}

export class RouteMetrics {
  readonly registry = new Registry();
  readonly #requests = this.#counter("requests_total", "Requests that ended; result is a status class, aborted or cut_off", [
    "path",
    "result",
  ]);
  readonly #prefills = this.#counter("prefills_total", "Requests whose prefill was handed over to a decode engine", []);
  readonly #fallbacks = this.#counter("fallbacks_total", "Requests decoded plainly because their prefill failed, by reason", ["reason"]);
  readonly #direct = this.#counter("direct_total", "Completions that were never to be prefilled apart, by reason", ["reason"]);
  readonly #retries = this.#counter("decode_retries_total", "Second attempts at a decode engine, by what the first one met", ["reason"]);
  readonly #changes = this.#counter("engine_changes_total", "Times that an engine was marked down or came up", [
    "role",
    "engine",
    "change",
  ]);
  readonly #prefillSeconds = this.#histogram("prefill_seconds", "From sending a prefill to its whole answer");
  readonly #firstByteSeconds = this.#histogram("first_byte_seconds", "From a request's head to the first byte of its answer");
  readonly #known: (engine: string) => string;

  /** @param engines those with a label of their own; whoever was named by a header shares one. */
  constructor(engines: readonly string[]) {
    const named = new Set(engines);
    this.#known = (engine) => (named.has(engine) ? engine : "by header");
  }

  observer(): ExchangeObserver {
    return {
      fallback: (reason) => this.#fallbacks.inc({ reason }),
      prefillDone: (seconds) => {
        this.#prefills.inc();
        this.#prefillSeconds.observe(seconds);
      },
      retried: (reason) => this.#retries.inc({ reason }),
      changed: (role, engine, change) => this.#changes.inc({ role, engine: this.#known(engine), change }),
    };
  }

  direct(reason: DirectReason): void {
    this.#direct.inc({ reason });
  }

  began(seconds: number): void {
    this.#firstByteSeconds.observe(seconds);
  }

  ended(path: PathKind, result: string): void {
    this.#requests.inc({ path, result });
  }

  observe(sources: RouteSources): void {
    this.#gauge("requests_running", "Requests that have not ended", [], (gauge) => gauge.set(sources.running()));
    this.#gauge("body_bytes_held", "Bytes of bodies whose answer has not begun", [], (gauge) => gauge.set(sources.heldBytes()));
    const perEngine = (name: string, help: string, figure: (status: EngineStatus) => number): void =>
      this.#gauge(name, help, ["role", "engine"], (gauge) => {
        gauge.reset();
        for (const status of sources.engines()) gauge.inc({ role: status.role, engine: this.#known(status.engine) }, figure(status));
      });
    perEngine("engine_up", "1 where requests are sent; those named by a header are summed", ({ up }) => (up ? 1 : 0));
    perEngine("engine_outstanding", "Requests at an engine", ({ outstanding }) => outstanding);
  }

  async scrape(): Promise<{ readonly contentType: string; readonly text: string }> {
    return { contentType: this.registry.contentType, text: await this.registry.metrics() };
  }

  #counter<L extends string>(name: string, help: string, labelNames: readonly L[]): Counter<L> {
    return new Counter({ name: PREFIX + name, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  #histogram(name: string, help: string): Histogram {
    return new Histogram({ name: PREFIX + name, help, buckets: SECONDS, registers: [this.registry] });
  }

  #gauge<L extends string>(name: string, help: string, labelNames: readonly L[], collect: (gauge: Gauge<L>) => void): void {
    const registers = [this.registry];
    const gauge: Gauge<L> = new Gauge({ name: PREFIX + name, help, labelNames: [...labelNames], registers, collect: () => collect(gauge) });
  }
}
