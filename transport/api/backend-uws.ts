/**
 * The API's WebSocket server on uWebSockets.js: the fast one. Loaded by its binary's own path, because the package's
 * door prints and falls back by itself.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { HttpRequest, HttpResponse, TemplatedApp, us_listen_socket, us_socket_context_t, WebSocket } from "uWebSockets.js";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import {
  type Backend,
  type BackendHandlers,
  CLOSE,
  type Connection,
  type ConnectionHandlers,
  type MakeBackend,
  type Place,
  WS_PATH,
} from "./backend.ts";
import { bindPrivately, whyNotAt } from "./socket-file.ts";

interface Library {
  App(): TemplatedApp;
  us_listen_socket_close(socket: us_listen_socket): void;
  us_socket_local_port(socket: us_listen_socket): number;
  readonly DISABLED: number;
  readonly LIBUS_LISTEN_EXCLUSIVE_PORT: number;
}

type Loaded = { readonly make: MakeBackend } | { readonly problem: string };

/** The maker of backends, or why this process cannot have one. */
export function loadUws(): Loaded {
  const require = createRequire(import.meta.url);
  try {
    const folder = dirname(dirname(require.resolve("uWebSockets.js")));
    const binary = join(folder, "binaries", `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`);
    if (!existsSync(binary))
      return { problem: `uWebSockets.js has no binary for Node ${process.versions.node} on ${process.platform}-${process.arch}` };
    const library = require(binary) as Library;
    return { make: (handlers) => new UwsBackend(library, handlers) };
  } catch (cause) {
    return { problem: `uWebSockets.js does not load: ${(cause as Error).message.split("\n", 1)[0]}` };
  }
}

interface Peer {
  handlers?: ConnectionHandlers;
}

class UwsBackend implements Backend {
  readonly kind = "uws";
  readonly #library: Library;
  readonly #handlers: BackendHandlers;
  readonly #app: TemplatedApp;
  readonly #connections = new Set<UwsConnection>();
  #socket: us_listen_socket | undefined;

  constructor(library: Library, handlers: BackendHandlers) {
    this.#library = library;
    this.#handlers = handlers;
    this.#app = library.App();
    const byPeer = new WeakMap<Peer, UwsConnection>();
    this.#app.ws<Peer>(WS_PATH, {
      maxPayloadLength: limits.apiMessageBytes,
      // The server's own check comes first and says why; this is the wall behind it.
      maxBackpressure: limits.apiBackpressureBytes + limits.apiMessageBytes,
      closeOnBackpressureLimit: 1,
      idleTimeout: limits.apiIdleSeconds,
      sendPingsAutomatically: true,
      maxLifetime: 0,
      compression: library.DISABLED,
      upgrade: (response, request, context) => this.#upgrade(response, request, context),
      open: (socket) => {
        const connection = new UwsConnection(socket);
        this.#connections.add(connection);
        byPeer.set(socket.getUserData(), connection);
        socket.getUserData().handlers = handlers.opened(connection);
      },
      message: (socket, bytes, binary) => socket.getUserData().handlers?.message(new Uint8Array(bytes), binary),
      close: (socket, code) => {
        const connection = byPeer.get(socket.getUserData());
        connection?.gone();
        if (connection !== undefined) this.#connections.delete(connection);
        socket.getUserData().handlers?.closed(code);
      },
    });
    this.#app.any("/*", (response, request) => this.#answer(response, request));
  }

  async listen(place: Place): Promise<number> {
    const socket = await new Promise<us_listen_socket | false>((resolve) => {
      if ("path" in place) bindPrivately(() => this.#app.listen_unix(resolve, place.path));
      else this.#listenAlone(place.host, place.port, resolve);
    });
    if (!socket) throw new KvferryError("address_unavailable", "path" in place ? whyNotAt(place.path) : `${place.host}:${place.port}`);
    this.#socket = socket;
    return "path" in place ? 0 : this.#library.us_socket_local_port(socket);
  }

  async close(): Promise<void> {
    if (this.#socket !== undefined) this.#library.us_listen_socket_close(this.#socket);
    this.#socket = undefined;
    for (const connection of this.#connections) connection.end(CLOSE.goingAway, "the server is closing");
  }

  /** By default two processes may share a port, each getting half of the clients. The typings lack the form with a host and options. */
  #listenAlone(host: string, port: number, resolve: (socket: us_listen_socket | false) => void): void {
    const app = this.#app as unknown as { listen(host: string, port: number, options: number, done: typeof resolve): void };
    app.listen(host, port, this.#library.LIBUS_LISTEN_EXCLUSIVE_PORT, resolve);
  }

  #upgrade(response: HttpResponse, request: HttpRequest, context: us_socket_context_t): void {
    if (!this.#handlers.admits(request.getHeader("authorization"))) {
      response.writeStatus("401 Unauthorized").end("a token is needed\n", true);
      return;
    }
    const key = request.getHeader("sec-websocket-key");
    const extensions = request.getHeader("sec-websocket-extensions");
    const peer: Peer = {};
    response.upgrade(peer, key, request.getHeader("sec-websocket-protocol"), extensions, context);
  }

  #answer(response: HttpResponse, request: HttpRequest): void {
    if (request.getMethod() !== "get") {
      response.writeStatus("405 Method Not Allowed").end("", true);
      return;
    }
    let aborted = false;
    response.onAborted(() => {
      aborted = true;
    });
    void this.#handlers.request(request.getUrl(), request.getHeader("authorization")).then(({ status, contentType, body }) => {
      if (aborted) return;
      response.cork(() => {
        response.writeStatus(String(status)).writeHeader("content-type", contentType).end(body);
      });
    });
  }
}

class UwsConnection implements Connection {
  #socket: WebSocket<Peer> | undefined;

  constructor(socket: WebSocket<Peer>) {
    this.#socket = socket;
  }

  send(bytes: Uint8Array): void {
    const socket = this.#socket;
    if (socket === undefined) return;
    if (socket.getBufferedAmount() > limits.apiBackpressureBytes) {
      this.end(CLOSE.slowConsumer, "the client reads too slowly");
      return;
    }
    socket.send(bytes, true, false);
  }

  end(code: number, reason: string): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.end(code, reason);
  }

  /** The socket is not to be touched any more. */
  gone(): void {
    this.#socket = undefined;
  }
}
