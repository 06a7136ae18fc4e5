/** The API's WebSocket server on node:http and ws: slower, and there wherever Node is. Same bounds as the other one. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type RawData, WebSocket, WebSocketServer } from "ws";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type Backend, type BackendHandlers, CLOSE, type Connection, type ConnectionHandlers, type Place, WS_PATH } from "./backend.ts";
import { bindPrivately } from "./socket-file.ts";

/** How long a close frame may take to be read before the connection is cut. */
const CLOSE_GRACE_MS = 1_000;

export function makeWsBackend(handlers: BackendHandlers): Backend {
  return new WsBackend(handlers);
}

class WsBackend implements Backend {
  readonly kind = "ws";
  readonly #handlers: BackendHandlers;
  readonly #http: Server;
  readonly #server: WebSocketServer;
  readonly #connections = new Set<WsConnection>();
  readonly #pinging: NodeJS.Timeout;

  constructor(handlers: BackendHandlers) {
    this.#handlers = handlers;
    this.#http = createServer((request, response) => this.#answer(request, response));
    this.#server = new WebSocketServer({
      noServer: true,
      maxPayload: limits.apiMessageBytes,
      perMessageDeflate: false,
      clientTracking: false,
    });
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    this.#pinging = setInterval(() => this.#ping(), (limits.apiIdleSeconds * 1000) / 2);
    this.#pinging.unref();
  }

  async listen(place: Place): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      const failed = (cause: Error): void => reject(new KvferryError("address_unavailable", cause.message, { cause }));
      this.#http.once("error", failed);
      const listening = (): void => {
        this.#http.off("error", failed);
        resolve();
      };
      // A pipe's listen binds before it returns, so the mask is in force when the file appears.
      if ("path" in place) bindPrivately(() => this.#http.listen(place.path, listening));
      else this.#http.listen({ host: place.host, port: place.port }, listening);
    });
    return "path" in place ? 0 : (this.#http.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    clearInterval(this.#pinging);
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()));
    for (const connection of this.#connections) connection.end(CLOSE.goingAway, "the server is closing");
    this.#http.closeIdleConnections();
    await closed;
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on("error", () => socket.destroy());
    if (request.url !== WS_PATH) return refuse(socket, "404 Not Found");
    if (!this.#handlers.admits(request.headers.authorization ?? "")) return refuse(socket, "401 Unauthorized");
    (socket as Socket).setNoDelay?.(true);
    this.#server.handleUpgrade(request, socket, head, (websocket) => {
      const connection = new WsConnection(websocket, () => this.#connections.delete(connection));
      this.#connections.add(connection);
      connection.handlers = this.#handlers.opened(connection);
    });
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    if (request.method !== "GET") {
      response.writeHead(405).end();
      return;
    }
    const path = (request.url ?? "").split("?", 1)[0] ?? "";
    void this.#handlers.request(path, request.headers.authorization ?? "").then(({ status, contentType, body }) => {
      response.writeHead(status, { "content-type": contentType }).end(body);
    });
  }

  #ping(): void {
    for (const connection of this.#connections) connection.ping();
  }
}

class WsConnection implements Connection {
  handlers: ConnectionHandlers | undefined;
  readonly #websocket: WebSocket;
  readonly #onGone: () => void;
  /** Something was heard since the last ping. */
  #alive = true;
  #ended = false;

  constructor(websocket: WebSocket, onGone: () => void) {
    this.#websocket = websocket;
    this.#onGone = onGone;
    const heard = (): void => {
      this.#alive = true;
    };
    websocket.on("message", (data: RawData, binary: boolean) => {
      heard();
      if (!this.#ended) this.handlers?.message(data as Buffer, binary);
    });
    websocket.on("pong", heard);
    websocket.on("ping", heard);
    // Every error is followed by close.
    websocket.on("error", () => {});
    websocket.on("close", (code: number) => {
      this.#closed(code);
      this.#onGone();
    });
  }

  send(bytes: Uint8Array): void {
    if (this.#ended || this.#websocket.readyState !== WebSocket.OPEN) return;
    if (this.#websocket.bufferedAmount > limits.apiBackpressureBytes) {
      this.end(CLOSE.slowConsumer, "the client reads too slowly");
      return;
    }
    this.#websocket.send(bytes);
  }

  end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#websocket.close(code, reason);
    const timer = setTimeout(() => this.#websocket.terminate(), CLOSE_GRACE_MS);
    this.#websocket.once("close", () => clearTimeout(timer));
    this.#closed(code);
  }

  ping(): void {
    if (!this.#alive) {
      this.#websocket.terminate();
      return;
    }
    this.#alive = false;
    this.#websocket.ping();
  }

  /** At once when this side ends it: the client's answer may never come. */
  #closed(code: number): void {
    if (this.#ended) return;
    this.#ended = true;
    this.handlers?.closed(code);
  }
}

function refuse(socket: Duplex, status: string): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
