/** One request of a client while it runs: its deadline, and the signal that ends what is done for it when nobody waits any more. */
import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream";
import { KvferryError } from "../errors.ts";
import { abortedError, type Answer } from "./exchange.ts";
import { clientHeaders, traceOf } from "./headers.ts";

/** How a request ended, for the metrics: "2xx" to "5xx", "aborted" by the client, or "cut_off" in mid-answer. */
export type Result = string;

export class RunningRequest {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly trace: string;
  readonly #ending = new AbortController();
  readonly #timer: NodeJS.Timeout;

  constructor(request: IncomingMessage, response: ServerResponse, timeoutMs: number) {
    this.request = request;
    this.response = response;
    this.trace = traceOf(request.headersDistinct);
    this.#timer = setTimeout(() => this.end(new KvferryError("deadline_exceeded", `no end after ${timeoutMs} ms`)), timeoutMs);
    // What of a body nobody has read is thrown away, so that the connection can carry the next request.
    response.once("finish", () => request.resume());
    response.once("close", () => {
      clearTimeout(this.#timer);
      if (!response.writableFinished) this.end(new KvferryError("cancelled", "the client went away"));
    });
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  /** Ends what runs at engines; the client hears why if its answer has not begun. */
  end(reason: KvferryError): void {
    this.#ending.abort(reason);
  }

  /** Byte by byte, as fast as the client reads. An answer that breaks off is cut off for the client too, never ended as if whole. */
  async relay({ response: answer, ended }: Answer): Promise<Result> {
    const { response, signal } = this;
    try {
      response.writeHead(answer.statusCode!, answer.statusMessage, clientHeaders(answer.headersDistinct, this.trace));
    } catch (cause) {
      // What node:http reads from an engine and does not write to a client, such as a status of 000.
      answer.destroy();
      ended("failed");
      throw new KvferryError("connection_lost", "the decode engine's answer is no HTTP", { cause });
    }
    return new Promise((resolve) => {
      let isBroken = false;
      answer.once("error", () => (isBroken = !signal.aborted));
      pipeline(answer, response, (error) => {
        ended(isBroken ? "failed" : error === undefined || error === null ? "ok" : "neutral");
        if (error === undefined || error === null) resolve(`${Math.floor(answer.statusCode! / 100)}xx`);
        else resolve(!isBroken && abortedError(signal).code === "cancelled" ? "aborted" : "cut_off");
      });
    });
  }
}
