/**
 * The two steps of a request: its prefill at one engine, the answer from another that fetches the KV. Whatever goes wrong in the first
 * ends in a plain request to a decode engine, with the client's own bytes; a decode engine that fails before its first byte is replaced
 * once. This file knows no client: it returns the answer to pass on.
 */
import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { collect, hasBegun } from "./body.ts";
import { type Completion, decodeBody, paramsOf, prefillBody } from "./core/completion.ts";
import type { Change, EngineChooser, Outcome } from "./core/engines.ts";
import type { EngineCaller, EngineFailure } from "./engine-client.ts";
import { type BodyLength, engineHeaders, type Headers } from "./headers.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Log } from "../log.ts";

export type FallbackReason =
  | "prefill_down"
  | "connect_failed"
  | "connection_lost"
  | "timeout"
  | "status"
  | "answer_too_large"
  | "answer_malformed"
  | "no_params"
  | "params_malformed"
  | "params_too_large";

export type Role = "prefill" | "decode";

export interface ExchangeObserver {
  readonly fallback: (reason: FallbackReason) => void;
  readonly prefillDone: (seconds: number) => void;
  readonly retried: (reason: string) => void;
  readonly changed: (role: Role, engine: string, change: Change) => void;
}

export interface ExchangeParts {
  readonly caller: EngineCaller;
  readonly prefill: EngineChooser;
  readonly decode: EngineChooser;
  readonly prefillTimeoutMs: number;
  readonly nowMs: () => number;
  readonly log: Log;
  readonly observer: ExchangeObserver;
}

export interface ExchangeRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: Buffer;
  readonly trace: string;
  readonly signal: AbortSignal;
}

/** An engine's answer, whose first byte is there. The engine counts as busy until `ended` has been called. */
export interface Answer {
  readonly response: IncomingMessage;
  readonly ended: (outcome: Outcome) => void;
}

type Prefilled =
  | { readonly params: string }
  | { readonly reason: FallbackReason; readonly detail: string; readonly outcome: Outcome }
  | { readonly aborted: true };

type Decoded = { readonly answer: Answer; readonly engine: string } | { readonly failure: EngineFailure; readonly engine: string };

export class Exchange {
  readonly #parts: ExchangeParts;

  constructor(parts: ExchangeParts) {
    this.#parts = parts;
  }

  /**
   * @param among origins of prefill engines, one of which it must be; undefined: any
   * Rejects with KvferryError.
   */
  async run(request: ExchangeRequest, completion: Completion, among: readonly string[] | undefined): Promise<Answer> {
    const params = await this.#prefill(request, completion, among);
    return this.answer(request, params === undefined ? undefined : Buffer.from(decodeBody(completion, params)));
  }

  /** From a decode engine, plainly or, with `handedOver`, from KV that was computed elsewhere. Rejects with KvferryError. */
  async answer(request: ExchangeRequest, handedOver?: Buffer): Promise<Answer> {
    const first = await this.#decode(request, handedOver ?? request.body, undefined);
    if ("answer" in first && first.answer.response.statusCode! < 500) return first.answer;
    if ("failure" in first && first.failure.kind === "aborted") throw abortedError(request.signal);
    const reason = "failure" in first ? first.failure.kind : `status ${first.answer.response.statusCode}`;
    // What a hand-over names is spent once: only an engine that never saw the request leaves it to the next.
    const body = reason === "unsent" ? (handedOver ?? request.body) : request.body;
    const next = this.#second(first, handedOver !== undefined);
    if (next === undefined) {
      if ("answer" in first) return first.answer;
      throw failureError(first.failure, first.engine);
    }
    if ("answer" in first) discard(first.answer, "failed");
    this.#parts.observer.retried(reason);
    this.#parts.log.warn(
      { request: request.trace, engine: first.engine, next, reason },
      "DECODE FAILED before its first byte: trying again",
    );
    const second = await this.#decode(request, body, next);
    if ("answer" in second) return second.answer;
    if (second.failure.kind === "aborted") throw abortedError(request.signal);
    throw failureError(second.failure, second.engine);
  }

  /** From a decode engine, without a second attempt: for a body that streams through. Rejects with KvferryError. */
  async once(request: Omit<ExchangeRequest, "body">, body: Buffer | Readable): Promise<Answer> {
    const decoded = await this.#decode(request, body, undefined);
    if ("answer" in decoded) return decoded.answer;
    throw decoded.failure.kind === "aborted" ? abortedError(request.signal) : failureError(decoded.failure, decoded.engine);
  }

  /** Where a second attempt goes: to another engine, or to the same one where that refused what was handed over. */
  #second(first: Decoded, wasHandedOver: boolean): string | undefined {
    const other = this.#parts.decode.choose(this.#parts.nowMs(), { except: first.engine });
    return other ?? ("answer" in first && wasHandedOver ? first.engine : undefined);
  }

  async #prefill(request: ExchangeRequest, completion: Completion, among: readonly string[] | undefined): Promise<string | undefined> {
    const { prefill, nowMs, observer, log } = this.#parts;
    const engine = prefill.choose(nowMs(), { among });
    if (engine === undefined) {
      observer.fallback("prefill_down");
      log.warn({ request: request.trace, reason: "prefill_down" }, "FALLBACK: plain decode");
      return undefined;
    }
    prefill.handleStart(engine);
    const startedMs = nowMs();
    const prefilled = await this.#prefillAt(engine, request, completion);
    const outcome = "params" in prefilled ? "ok" : "aborted" in prefilled ? "neutral" : prefilled.outcome;
    this.#ended("prefill", engine, outcome);
    if ("aborted" in prefilled) throw abortedError(request.signal);
    if ("params" in prefilled) {
      observer.prefillDone((nowMs() - startedMs) / 1000);
      return prefilled.params;
    }
    const { reason, detail } = prefilled;
    observer.fallback(reason);
    log.warn({ request: request.trace, engine, reason, detail }, "FALLBACK: plain decode");
    return undefined;
  }

  async #prefillAt(engine: string, request: ExchangeRequest, completion: Completion): Promise<Prefilled> {
    const body = Buffer.from(prefillBody(completion));
    const headers = {
      ...engineHeaders(request.headers, request.trace, body.length),
      "accept-encoding": "identity",
      accept: "application/json",
    };
    const ending = new AbortController();
    const abort = (): void => ending.abort();
    request.signal.addEventListener("abort", abort);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      abort();
    }, this.#parts.prefillTimeoutMs);
    try {
      const answer = await this.#parts.caller.call({ ...request, engine, headers, body, signal: ending.signal });
      const prefilled = await readPrefill(answer);
      if (request.signal.aborted) return { aborted: true };
      return isLate && !("params" in prefilled)
        ? { reason: "timeout", detail: `none after ${this.#parts.prefillTimeoutMs} ms`, outcome: "failed" }
        : prefilled;
    } finally {
      clearTimeout(timer);
      request.signal.removeEventListener("abort", abort);
    }
  }

  async #decode(request: Omit<ExchangeRequest, "body">, body: Buffer | Readable, wanted: string | undefined): Promise<Decoded> {
    const { decode, nowMs, caller } = this.#parts;
    // Where all are down one is tried all the same: nobody else can answer.
    const engine = wanted ?? decode.choose(nowMs(), {}) ?? decode.leastDown({});
    if (engine === undefined) throw new KvferryError("connect_failed", "no decode engine is known");
    decode.handleStart(engine);
    const headers = engineHeaders(request.headers, request.trace, lengthOf(request, body));
    const called = await caller.call({ ...request, engine, headers, body });
    const failure = "failure" in called ? called.failure : await brokenOff(called.response, request.signal);
    if (failure !== undefined) {
      this.#ended("decode", engine, failure.kind === "aborted" && !isTimeout(request.signal) ? "neutral" : "failed");
      return { failure, engine };
    }
    if ("failure" in called) return { failure: called.failure, engine };
    let isOver = false;
    const ended = (outcome: Outcome): void => {
      if (isOver) return;
      isOver = true;
      this.#ended("decode", engine, outcome === "ok" && called.response.statusCode! >= 500 ? "failed" : outcome);
    };
    return { answer: { response: called.response, ended }, engine };
  }

  #ended(role: Role, engine: string, outcome: Outcome): void {
    const { nowMs, observer, log } = this.#parts;
    const change = this.#parts[role].handleEnd(engine, outcome, nowMs());
    if (change === "none") return;
    observer.changed(role, engine, change);
    if (change === "down") log.warn({ role, engine }, "ENGINE DOWN: it failed several times in a row");
    else log.info({ role, engine }, "engine up");
  }
}

async function readPrefill(answer: Awaited<ReturnType<EngineCaller["call"]>>): Promise<Prefilled> {
  if ("failure" in answer) {
    const { kind, detail } = answer.failure;
    return { reason: kind === "unsent" ? "connect_failed" : "connection_lost", detail, outcome: "failed" };
  }
  const { response } = answer;
  const status = response.statusCode!;
  if (status < 200 || status >= 300) {
    response.destroy();
    // A refused request is the request's own fault; an engine that breaks, or is too busy, is the engine's.
    return { reason: "status", detail: `HTTP ${status}`, outcome: status >= 500 ? "failed" : "neutral" };
  }
  const collected = await collect(response, limits.routeAnswerBytes);
  if ("failure" in collected) {
    response.destroy();
    return collected.failure === "lost"
      ? { reason: "connection_lost", detail: "in mid-answer", outcome: "failed" }
      : { reason: "answer_too_large", detail: `more than ${limits.routeAnswerBytes} bytes`, outcome: "failed" };
  }
  const params = paramsOf(collected.bytes.toString("utf8"));
  return params.ok ? { params: params.params } : { reason: params.reason, detail: "", outcome: "neutral" };
}

/** An error of an engine is passed on, or replaced, as a whole; so is an answer that has no first byte. */
async function brokenOff(response: IncomingMessage, signal: AbortSignal): Promise<EngineFailure | undefined> {
  if (await hasBegun(response)) return undefined;
  return signal.aborted ? { kind: "aborted", detail: "aborted" } : { kind: "lost", detail: "before the first byte of its answer" };
}

function lengthOf({ headers }: Pick<ExchangeRequest, "headers">, body: Buffer | Readable): BodyLength {
  if (!Buffer.isBuffer(body)) return "stream";
  return body.length === 0 && headers["content-length"] === undefined ? "none" : body.length;
}

export function discard({ response, ended }: Answer, outcome: Outcome): void {
  response.destroy();
  ended(outcome);
}

/** The reason that the request's signal carries: a KvferryError. */
export function abortedError(signal: AbortSignal): KvferryError {
  return signal.reason instanceof KvferryError ? signal.reason : new KvferryError("cancelled");
}

export function isTimeout(signal: AbortSignal): boolean {
  return signal.aborted && abortedError(signal).code === "deadline_exceeded";
}

function failureError({ kind, detail }: EngineFailure, engine: string): KvferryError {
  return new KvferryError(kind === "unsent" ? "connect_failed" : "connection_lost", `decode engine ${engine}: ${detail}`);
}
