/**
 * HTTP to engines: connections that are kept, a bound for connecting, and a failure that says whether the engine can have seen the
 * request.
 */
import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as httpRequest } from "node:http";
import { Agent as HttpsAgent, request as httpsRequest } from "node:https";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { limits } from "../limits.ts";

export interface EngineRequest {
  /** Its origin: "http://127.0.0.1:8000". */
  readonly engine: string;
  readonly method: string;
  /** With the query, as the client wrote it. */
  readonly path: string;
  readonly headers: Record<string, string | string[]>;
  /** Bytes that can be sent again, or a stream that cannot. */
  readonly body: Buffer | Readable;
  readonly signal: AbortSignal;
}

/** "unsent": the engine has not seen the request; "lost": it may have; "aborted": the signal said so. */
export interface EngineFailure {
  readonly kind: "unsent" | "lost" | "aborted";
  readonly detail: string;
}

export type EngineAnswer = { readonly response: IncomingMessage } | { readonly failure: EngineFailure };

/** What the exchange needs of it. */
export interface EngineCaller {
  call(request: EngineRequest): Promise<EngineAnswer>;
}

export class EngineClient implements EngineCaller {
  readonly #http: HttpAgent;
  readonly #https: HttpsAgent;

  constructor() {
    // The agent's timeout ends idle connections only, before the engine ends them under a request.
    const options = { keepAlive: true, maxFreeSockets: limits.routeIdleConnections, timeout: limits.routeIdleMs } as const;
    this.#http = new HttpAgent(options);
    this.#https = new HttpsAgent(options);
  }

  /** Never rejects. */
  async call(request: EngineRequest): Promise<EngineAnswer> {
    const first = await this.#once(request, true);
    // A kept connection may be closed at the moment in which it is used: that says nothing about the engine.
    if (!("staleConnection" in first) || !Buffer.isBuffer(request.body) || request.signal.aborted) return first;
    return this.#once(request, false);
  }

  close(): void {
    this.#http.destroy();
    this.#https.destroy();
  }

  #once(request: EngineRequest, keptConnections: boolean): Promise<EngineAnswer & { readonly staleConnection?: true }> {
    return new Promise((resolve) => {
      if (request.signal.aborted) return resolve({ failure: { kind: "aborted", detail: "aborted before it was sent" } });
      const outgoing = this.#open(request, keptConnections);
      const abort = (): void => void outgoing.destroy();
      request.signal.addEventListener("abort", abort);
      outgoing.once("close", () => {
        request.signal.removeEventListener("abort", abort);
        // Some endings have neither an answer nor an error, such as a change of protocol that nobody asked for.
        resolve({ failure: { kind: request.signal.aborted ? "aborted" : "lost", detail: "closed without an answer" } });
      });
      let isConnected = false;
      watchConnecting(outgoing, () => (isConnected = true));
      outgoing.once("response", (response) => {
        // What happens from now on is told by the response; a body that is still being sent may fail without that.
        response.on("error", () => {});
        resolve({ response });
      });
      outgoing.on("error", (error: NodeJS.ErrnoException) => {
        const detail = error.code ?? error.message;
        if (request.signal.aborted) resolve({ failure: { kind: "aborted", detail } });
        else if (outgoing.reusedSocket) resolve({ failure: { kind: "lost", detail }, staleConnection: true });
        else resolve({ failure: { kind: isConnected ? "lost" : "unsent", detail } });
      });
      if (Buffer.isBuffer(request.body)) outgoing.end(request.body);
      // Not pipeline: it would end the client's connection together with the engine's, and nobody could say why.
      else request.body.pipe(outgoing);
    });
  }

  #open({ engine, method, path, headers }: EngineRequest, keptConnections: boolean): ClientRequest {
    const { protocol, hostname, port } = new URL(engine);
    const host = hostname.startsWith("[") ? hostname.slice(1, -1) : hostname;
    const options = { host, port, method, path, headers, maxHeaderSize: limits.routeHeaderBytes };
    return protocol === "https:"
      ? httpsRequest({ ...options, agent: keptConnections ? this.#https : false })
      : httpRequest({ ...options, agent: keptConnections ? this.#http : false });
  }
}

/** A host that answers nothing would be waited for until the kernel gives up, minutes later. */
function watchConnecting(outgoing: ClientRequest, connected: () => void): void {
  const late = (): void => {
    outgoing.destroy(Object.assign(new Error("no connection in time"), { code: "ETIMEDOUT" }));
  };
  const timer = setTimeout(late, limits.routeConnectTimeoutMs);
  outgoing.once("close", () => clearTimeout(timer));
  outgoing.once("socket", (socket: Socket) => {
    const done = (): void => {
      clearTimeout(timer);
      connected();
    };
    if (!socket.connecting) done();
    else socket.once("encrypted" in socket ? "secureConnect" : "connect", done);
  });
}
