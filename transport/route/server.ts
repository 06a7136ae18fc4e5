/**
 * The proxy's HTTP side: what is served where, bounds, and the drain. A completion takes the two steps of exchange.ts; everything else
 * under /v1/ goes to a decode engine as it is.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { RouteConfig } from "../config/route.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Log } from "../log.ts";
import { collect } from "./body.ts";
import { parseCompletion } from "./core/completion.ts";
import { LeastOutstanding } from "./core/engines.ts";
import { planStatically } from "./core/plan.ts";
import { EngineClient } from "./engine-client.ts";
import { abortedError, type Answer, Exchange, type ExchangeRequest } from "./exchange.ts";
import { type PathKind, RouteMetrics } from "./metrics.ts";
import { pass } from "./pass.ts";
import { PREFILLER_HEADER, Prefillers } from "./prefillers.ts";
import { replyError, replyNotFound, replyText } from "./replies.ts";
import { type Result, RunningRequest } from "./running.ts";

/** An engine decodes %63 to c and walks over dots: what is decided by the path here must be what the engine sees. */
const SAFE_PATH = /^\/v1(?:\/[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*)+\/?$/;
const COMPLETIONS: Readonly<Record<string, PathKind>> = { "/v1/completions": "completions", "/v1/chat/completions": "chat" };
const TEXT = "text/plain; charset=utf-8";

export class RouteServer {
  readonly metrics: RouteMetrics;
  readonly #config: RouteConfig;
  readonly #log: Log;
  readonly #server: Server;
  readonly #client = new EngineClient();
  readonly #prefill: LeastOutstanding;
  readonly #decode: LeastOutstanding;
  readonly #prefillers: Prefillers;
  readonly #exchange: Exchange;
  readonly #running = new Set<RunningRequest>();
  #heldBytes = 0;
  #isDraining = false;
  #whenIdle: (() => void) | undefined;

  constructor(config: RouteConfig, log: Log) {
    this.#config = config;
    this.#log = log;
    this.#prefill = new LeastOutstanding(config.prefill);
    this.#decode = new LeastOutstanding(config.decode);
    this.#prefillers = new Prefillers(config.prefill, config.allowPrefiller);
    this.metrics = new RouteMetrics([...config.prefill, ...config.decode]);
    this.metrics.observe({ running: () => this.#running.size, heldBytes: () => this.#heldBytes, engines: () => this.#statuses() });
    this.#exchange = new Exchange({
      caller: this.#client,
      prefill: this.#prefill,
      decode: this.#decode,
      prefillTimeoutMs: config.prefillTimeoutMs,
      nowMs,
      log,
      observer: this.metrics.observer(),
    });
    this.#server = createServer(
      {
        maxHeaderSize: limits.routeHeaderBytes,
        headersTimeout: limits.routeHeadersTimeoutMs,
        requestTimeout: limits.routeReceiveTimeoutMs,
        keepAliveTimeout: limits.routeKeepAliveMs,
      },
      (request, response) => void this.#answer(request, response),
    );
    this.#server.maxConnections = limits.routeConnectionsMax;
  }

  get running(): number {
    return this.#running.size;
  }

  /** Resolves with the port. Rejects with KvferryError (address_unavailable). */
  listen(): Promise<number> {
    const { host, port } = this.#config.listen;
    return new Promise((resolve, reject) => {
      this.#server.once("error", (cause) => reject(new KvferryError("address_unavailable", cause.message, { cause })));
      this.#server.listen({ host, port }, () => resolve((this.#server.address() as AddressInfo).port));
    });
  }

  /** Takes nothing new, lets what runs end, at most `drainMs`; true if all did. Then closes. */
  async stop(drainMs: number): Promise<boolean> {
    this.#isDraining = true;
    const drained = await this.#idleWithin(drainMs);
    for (const running of this.#running) running.end(new KvferryError("draining", "the proxy is shutting down"));
    // An answer that had not begun gets its error; one that had is cut off.
    await this.#idleWithin(1_000);
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    this.#client.close();
    await closed;
    return drained;
  }

  #idleWithin(ms: number): Promise<boolean> {
    if (this.#running.size === 0) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ms);
      this.#whenIdle = () => {
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "").split("?", 1)[0]!;
    if (path === "/healthz" && request.method === "GET") {
      return replyText(response, this.#isDraining ? 503 : 200, TEXT, this.#isDraining ? "draining\n" : "ok\n");
    }
    if (path === "/metrics" && request.method === "GET") {
      const { contentType, text } = await this.metrics.scrape();
      return replyText(response, 200, contentType, text);
    }
    const running = new RunningRequest(request, response, this.#config.requestTimeoutMs);
    const kind = (request.method === "POST" ? COMPLETIONS[path] : undefined) ?? "other";
    if (!SAFE_PATH.test(path)) return replyNotFound(response, running.trace);
    const refusal = this.#refusal();
    if (refusal !== undefined) {
      this.metrics.ended(kind, "5xx");
      return replyError(response, running.trace, refusal);
    }
    this.#running.add(running);
    const result = await this.#run(running, kind).catch((error: unknown) => this.#failed(running, error));
    this.metrics.ended(kind, result);
    this.#log.debug({ request: running.trace, path, status: response.statusCode, result }, "request ended");
    this.#running.delete(running);
    if (this.#running.size === 0) this.#whenIdle?.();
  }

  #refusal(): KvferryError | undefined {
    if (this.#isDraining) return new KvferryError("draining", "the proxy is shutting down");
    const { requestsMax } = this.#config;
    return this.#running.size >= requestsMax ? new KvferryError("full", `${requestsMax} requests are running`) : undefined;
  }

  async #run(running: RunningRequest, kind: PathKind): Promise<Result> {
    const startedMs = nowMs();
    const answer = kind === "other" ? await pass(running, this.#exchange, this.#config.bodyBytesMax) : await this.#complete(running);
    this.metrics.began((nowMs() - startedMs) / 1000);
    return running.relay(answer);
  }

  async #complete(running: RunningRequest): Promise<Answer> {
    const { request, trace, signal } = running;
    const named = this.#prefillers.named(request.headersDistinct[PREFILLER_HEADER]);
    const encoding = request.headers["content-encoding"] ?? "identity";
    if (encoding !== "identity") throw new KvferryError("unsupported", `a body in content-encoding ${encoding}`);
    const body = await this.#receive(running);
    try {
      const completion = parseCompletion(textOf(body));
      const plan = planStatically(completion.value, this.#config);
      const sent: ExchangeRequest = { method: "POST", path: request.url!, headers: request.headersDistinct, body, trace, signal };
      const among = named ?? (this.#config.prefill.length > 0 ? this.#config.prefill : undefined);
      if (plan.prefill && among !== undefined) return await this.#exchange.run(sent, completion, among);
      this.metrics.direct(plan.prefill ? "no_prefill_engine" : plan.reason);
      return await this.#exchange.answer(sent);
    } finally {
      this.#heldBytes -= body.length;
    }
  }

  /** The whole body, within the request's time; its bytes count as held from then on. */
  async #receive({ request, signal }: RunningRequest): Promise<Buffer> {
    let receivedBytes = 0;
    let isFull = false;
    const received = (bytes: number): boolean => {
      isFull = this.#heldBytes + bytes > this.#config.bodiesBytesMax;
      if (isFull) return false;
      this.#heldBytes += bytes;
      receivedBytes += bytes;
      return true;
    };
    const collected = await collect(request, this.#config.bodyBytesMax, { received, signal });
    if ("bytes" in collected) return collected.bytes;
    this.#heldBytes -= receivedBytes;
    if (collected.failure === "aborted") throw abortedError(signal);
    if (isFull) throw new KvferryError("full", "the bodies of other requests fill the memory kept for them");
    if (collected.failure === "lost") throw new KvferryError("cancelled", "the client went away");
    throw new KvferryError("message_too_large", `the body is longer than ${this.#config.bodyBytesMax} bytes`);
  }

  #failed({ response, trace }: RunningRequest, error: unknown): Result {
    if (!(error instanceof KvferryError) || error.code === "internal")
      this.#log.error({ request: trace, error: String(error) }, "request failed");
    else if (error.code !== "cancelled") this.#log.warn({ request: trace, code: error.code, detail: error.detail }, "request failed");
    if (response.destroyed || (error instanceof KvferryError && error.code === "cancelled")) {
      response.destroy();
      return "aborted";
    }
    replyError(response, trace, error);
    return `${Math.floor(response.statusCode / 100)}xx`;
  }

  #statuses() {
    const now = nowMs();
    return [
      ...this.#prefill.status(now).map((status) => ({ ...status, role: "prefill" as const })),
      ...this.#decode.status(now).map((status) => ({ ...status, role: "decode" as const })),
    ];
  }
}

/** Engines would guess the encoding of what is no UTF-8, and read another text than was checked here. */
function textOf(body: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch (cause) {
    throw new KvferryError("message_malformed", "the body is not UTF-8", { cause });
  }
}

function nowMs(): number {
  return performance.now();
}
