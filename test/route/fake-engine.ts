/** Engines with OpenAI's API on node:http: each answers as its test says, and remembers every request to the byte. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
  /** Resolves when its connection was closed before the answer was whole. */
  readonly gone: Promise<void>;
}

export type Behaviour = (seen: Seen, response: ServerResponse) => void | Promise<void>;

export const PARAMS =
  '{"do_remote_prefill":true,"do_remote_decode":false,"remote_engine_id":"p-1","block_id":18446744073709551615,"remote_host":"10.0.0.1"}';

export class FakeEngine {
  readonly seen: Seen[] = [];
  behaviour: Behaviour;
  #server: Server | undefined;
  #port = 0;
  readonly #sockets = new Set<Socket>();
  readonly #waiting: (() => void)[] = [];

  constructor(behaviour: Behaviour) {
    this.behaviour = behaviour;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get hostPort(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** On the same port again, if it was started before. */
  async start(): Promise<this> {
    const server = createServer((request, response) => void this.#answer(request, response));
    server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    server.listen(this.#port, "127.0.0.1");
    await new Promise((resolve, reject) => server.once("listening", resolve).once("error", reject));
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
    return this;
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => (this.#server === undefined ? resolve() : this.#server.close(() => resolve())));
    this.cut();
    await closed;
    this.#server = undefined;
  }

  /** Every connection ends with a reset. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** The request of this number, once its body is whole. */
  async request(index: number): Promise<Seen> {
    while (this.seen.length <= index) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return this.seen[index]!;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    const gone = new Promise<void>((resolve) => response.once("close", () => !response.writableFinished && resolve()));
    response.on("error", () => {});
    try {
      for await (const piece of request) pieces.push(piece as Buffer);
    } catch {
      return;
    }
    const body = Buffer.concat(pieces).toString("utf8");
    const seen: Seen = { method: request.method!, url: request.url!, headers: request.headers, body, gone };
    this.seen.push(seen);
    for (const wake of this.#waiting.splice(0)) wake();
    await this.behaviour(seen, response);
  }
}

/** A prefill engine that does what is asked. */
export const prefills: Behaviour = (_seen, response) => json(response, 200, `{"id":"cmpl-1","choices":[],"kv_transfer_params": ${PARAMS}}`);

/** A decode engine that says what it was given. */
export function says(text: string): Behaviour {
  return (_seen, response) => json(response, 200, JSON.stringify({ choices: [{ text }] }));
}

export function json(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) }).end(text);
}

/** The head and nothing behind it, for ever. */
export const silent: Behaviour = (_seen, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders();
};

export const never: Behaviour = () => {};

export const hangsUp: Behaviour = (_seen, response) => {
  response.destroy();
};
