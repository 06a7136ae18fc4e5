/**
 * The engine-facing edge: WebSocket messages of schemas/api.md over a unix socket or loopback TCP, each client with a session of its own on
 * the node; /metrics, /healthz and /status over the same listener.
 */
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import type { FerryHost, FerrySession } from "../ferry/host.ts";
import { limits } from "../limits.ts";
import { type Processes, hostProcesses } from "../memory/liveness.ts";
import { type Backend, CLOSE, type Connection, type ConnectionHandlers, type Place } from "./backend.ts";
import { loadUws } from "./backend-uws.ts";
import { makeWsBackend } from "./backend-ws.ts";
import { Clients } from "./clients.ts";
import type { Message } from "./codec.ts";
import { type Admission, type Doorman, Engine } from "./engine.ts";
import type { Hello } from "./messages.ts";
import { Routes } from "./routes.ts";
import { checkSocketPath, clearStaleSocket, removeSocket, socketIdentity } from "./socket-file.ts";

export interface ApiServerOptions {
  readonly host: FerryHost;
  /** Path of a unix socket, mode 0600. */
  readonly socket?: string;
  /** A loopback address and the token that clients present. Port 0: any free one. */
  readonly listen?: { readonly host: string; readonly port: number; readonly token: string };
  readonly log?: ApiLog;
  readonly observer?: ApiObserver;
  /** Text of /metrics. */
  readonly metrics?: () => Promise<{ readonly contentType: string; readonly text: string }>;
  /** JSON of /status. */
  readonly status?: () => unknown;
  /** Whether engines' processes live. Default: as the host says. */
  readonly processes?: Processes;
  /** "auto": uWebSockets.js where it loads. */
  readonly backend?: "auto" | "uws" | "ws";
}

export interface ApiLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface ApiObserver {
  /** `result` is "ok" or an error code; both labels are from closed lists. */
  request?(op: string, result: string, seconds: number): void;
}

export interface ApiServer {
  /** What serves, and why not the other. */
  readonly backend: { readonly kind: "uws" | "ws"; readonly reason: string };
  /** "" unless a unix socket is served. */
  readonly socket: string;
  /** 0 unless TCP is served. */
  readonly port: number;
  /** Connected clients. */
  readonly clients: number;
  /** Takes no new clients and answers /healthz with 503; those that are connected stay. */
  drain(): void;
  /** Ends every connection. Sessions end as those of clients whose connection is lost; the node's own close ends them for good. */
  close(): Promise<void>;
}

/** Rejects with invalid_argument, address_unavailable or unsupported. */
export async function createApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const server = new Server(options);
  await server.listen();
  return server;
}

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

class Server implements ApiServer, Doorman {
  readonly backend: ApiServer["backend"];
  readonly #options: ApiServerOptions;
  readonly #listeners: { readonly backend: Backend; readonly place: Place }[] = [];
  readonly #clients: Clients<Engine>;
  readonly #routes: Routes;
  #connections = 0;
  #socketIdentity = 0;
  #port = 0;
  #draining = false;

  constructor(options: ApiServerOptions) {
    this.#options = options;
    const { socket, listen } = options;
    if (socket === undefined && listen === undefined)
      throw new KvferryError("invalid_argument", "no engine could connect: neither a socket nor an address is set");
    const uws = options.backend === "ws" ? { problem: "asked for" } : loadUws();
    if (options.backend === "uws" && "problem" in uws) throw new KvferryError("unsupported", uws.problem);
    this.backend = "make" in uws ? { kind: "uws", reason: "it loads" } : { kind: "ws", reason: uws.problem };
    const make = "make" in uws ? uws.make : makeWsBackend;
    this.#routes = new Routes(options, () => !this.#draining);
    this.#clients = new Clients(options.processes ?? hostProcesses(), (engine) =>
      engine.connection.end(CLOSE.processEnded, "the process has ended"),
    );
    if (socket !== undefined) this.#add(make, { path: checkSocketPath(socket) }, "");
    if (listen !== undefined) this.#add(make, { host: checkLoopback(listen.host), port: listen.port }, checkToken(listen.token));
  }

  get socket(): string {
    return this.#options.socket ?? "";
  }
  get port(): number {
    return this.#port;
  }
  get clients(): number {
    return this.#clients.count;
  }

  async listen(): Promise<void> {
    try {
      for (const { backend, place } of this.#listeners) {
        if ("path" in place) await clearStaleSocket(place.path);
        this.#port = (await backend.listen(place)) || this.#port;
        if ("path" in place) this.#socketIdentity = socketIdentity(place.path);
      }
    } catch (error) {
      await this.close();
      throw error;
    }
    const where = { socket: this.socket, port: this.#port, backend: this.backend.kind, reason: this.backend.reason };
    if (this.backend.kind === "ws" && this.#options.backend !== "ws")
      this.#options.log?.warn(where, "the engine API is served by node:http and ws, which is slower");
    else this.#options.log?.info(where, "the engine API is served");
  }

  drain(): void {
    this.#draining = true;
  }

  async close(): Promise<void> {
    this.#draining = true;
    await Promise.all(this.#listeners.map(({ backend }) => backend.close()));
    this.#clients.close();
    if (this.#options.socket !== undefined) removeSocket(this.#options.socket, this.#socketIdentity);
  }

  admit(engine: Engine, hello: Hello): Admission {
    const { version, minVersion = version } = hello;
    if (minVersion > limits.apiVersion || version < limits.apiVersionMin) {
      throw new KvferryError("version_unsupported", `this side speaks ${limits.apiVersionMin} to ${limits.apiVersion}`);
    }
    if (this.#draining) throw new KvferryError("draining");
    if (this.#clients.count >= limits.apiClientsMax) throw new KvferryError("too_many_clients", `${limits.apiClientsMax} are connected`);
    const { client, resume, unanswered = [] } = hello;
    const processId = this.#clients.checkProcess(hello.processId);
    // A client that comes back may be faster than the news that its former connection is gone.
    const former = resume === undefined ? undefined : this.#clients.lastOf(resume, processId);
    former?.connection.end(CLOSE.replaced, "the client has come back");
    const session = this.#options.host.openSession({ client, processId, ...(resume === undefined ? {} : { resume }) });
    this.#clients.add(session, processId, engine);
    former?.takeBack(unanswered);
    this.#options.log?.info({ client, processId, resumed: session.resumed }, "engine connected");
    return { session, attaches: processId !== 0, answer: this.#welcome(session, Math.min(version, limits.apiVersion)) };
  }

  left(engine: Engine, session: FerrySession | undefined): void {
    this.#connections--;
    if (session === undefined) return;
    this.#clients.left(session, engine);
    this.#options.log?.info({ clients: this.#clients.count }, "engine disconnected");
  }

  finished(session: FerrySession): void {
    this.#clients.closed(session);
  }

  broken(op: string, error: unknown): void {
    this.#options.log?.error(
      { op, error: error instanceof Error ? (error.stack ?? error.message) : String(error) },
      "a request failed by a bug of kvferry",
    );
  }

  answered(op: string, result: string, startedMs: number): void {
    this.#options.observer?.request?.(op, result, (performance.now() - startedMs) / 1000);
  }

  #add(make: typeof makeWsBackend, place: Place, token: string): void {
    const admits = (authorization: string): boolean => this.#routes.admits(token, authorization);
    const backend = make({
      opened: (connection) => this.#opened(connection),
      request: (path, authorization) => this.#routes.answer(path, admits(authorization)),
      admits,
    });
    this.#listeners.push({ backend, place });
  }

  #opened(connection: Connection): ConnectionHandlers {
    if (this.#connections >= limits.apiConnectionsMax) {
      connection.end(CLOSE.tooManyConnections, "too many connections");
      return { message() {}, closed() {} };
    }
    this.#connections++;
    return new Engine(connection, this);
  }

  #welcome(session: FerrySession, version: number): Message {
    const { apiBatchMax, apiMessageBytes, apiPendingMax, apiIdleSeconds } = limits;
    return {
      version,
      incarnation: this.#options.host.incarnation,
      resume: session.resume,
      resumed: session.resumed,
      limits: { batchMax: apiBatchMax, messageBytes: apiMessageBytes, pendingMax: apiPendingMax, idleSeconds: apiIdleSeconds },
    };
  }
}

function checkLoopback(host: string): string {
  if (!LOOPBACK.has(host)) throw expected("a loopback address (127.0.0.1, ::1 or localhost)", "listen.host", host);
  return host;
}

function checkToken(token: string): string {
  if (token.length < limits.apiTokenCharactersMin)
    throw expected(`a token of at least ${limits.apiTokenCharactersMin} characters`, "listen.token", `one of ${token.length}`);
  return token;
}
