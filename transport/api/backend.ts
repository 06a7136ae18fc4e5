/**
 * What the API server needs of a WebSocket server, and nothing of what the messages mean. Two implementations: uWebSockets.js where its
 * binary loads, node:http with ws elsewhere. One conformance test covers both.
 */

/** Why a connection is closed by the server; schemas/api.md lists them. */
export const CLOSE = Object.freeze({
  goingAway: 1001,
  malformed: 4000,
  replaced: 4001,
  helloTimeout: 4002,
  tooManyConnections: 4003,
  slowConsumer: 4004,
  processEnded: 4005,
  versionUnsupported: 4006,
});

export interface Connection {
  /** Queues a binary message; the bytes are not touched afterwards. A consumer that is too slow for it is closed with `slowConsumer`. */
  send(bytes: Uint8Array): void;
  /** Idempotent. `closed` is called before it returns, and no other handler afterwards. */
  end(code: number, reason: string): void;
}

export interface ConnectionHandlers {
  /** `bytes` are valid during the call only. `binary` is false for a text message. */
  message(bytes: Uint8Array, binary: boolean): void;
  /** Exactly once, whoever ended it. */
  closed(code: number): void;
}

export interface HttpReply {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface BackendHandlers {
  /** May end the connection at once; `closed` is not called then. */
  opened(connection: Connection): ConnectionHandlers;
  /** Never rejects. `authorization` is the header's value or "". */
  request(path: string, authorization: string): Promise<HttpReply>;
  /** Whether a WebSocket may be opened with this Authorization header. */
  admits(authorization: string): boolean;
}

/** A unix socket's path, or a loopback address. */
export type Place = { readonly path: string } | { readonly host: string; readonly port: number };

export interface Backend {
  readonly kind: "uws" | "ws";
  /** @returns the port, 0 for a unix socket. Rejects with address_unavailable. */
  listen(place: Place): Promise<number>;
  /** Takes no new connections and ends the present ones. */
  close(): Promise<void>;
}

export type MakeBackend = (handlers: BackendHandlers) => Backend;

export const WS_PATH = "/";
