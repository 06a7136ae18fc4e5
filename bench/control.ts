/**
 * The bench's own control connection: one JSON object a line, a call at a time in each direction. It carries parameters and results, never
 * the bytes that are measured.
 */
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { codeOfNumber, type ErrorCode, ERRORS, KvferryError } from "../transport/errors.ts";
import { type Call, parseCall } from "./calls.ts";
import { LAB_HOST } from "./impairment.ts";

const LINE_CHARACTERS_MAX = 4 * 2 ** 20;
const CALL_TIMEOUT_MS = 60_000;
const DETAIL_CHARACTERS_MAX = 4_096;

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
}

/** One end of a control connection. */
export class Control {
  readonly #socket: Socket;
  /** The beginning of a line whose end has not come. */
  #pieces: string[] = [];
  #characters = 0;
  #waiting: Waiting | undefined;
  #answering = false;
  #ended: KvferryError | undefined;
  readonly #onCall: ((call: Call) => Promise<unknown>) | undefined;
  readonly closed: Promise<void>;
  /** Called when the other end says, unasked, that nothing will work any more. */
  onFarewell: (error: KvferryError) => void = () => {};

  constructor(socket: Socket, onCall?: (call: Call) => Promise<unknown>) {
    this.#socket = socket;
    this.#onCall = onCall;
    socket.setNoDelay(true).setEncoding("utf8");
    socket.on("data", (text: string) => this.#handleText(text));
    socket.on("error", (error) => this.#end(error.message));
    this.closed = new Promise((resolve) => {
      const gone = (): void => {
        this.#end("the other end is gone");
        resolve();
      };
      // A socket that waited for its turn may have closed meanwhile, and does not say so again.
      if (socket.closed) gone();
      else socket.on("close", gone);
    });
  }

  get remoteHost(): string {
    return this.#socket.remoteAddress ?? "";
  }

  /** Rejects with the error that the other end answers, or when it does not answer. `take` parses its result. */
  async call<Reply>(call: Call, take: (result: unknown) => Reply, timeoutMs = CALL_TIMEOUT_MS): Promise<Reply> {
    if (this.#ended !== undefined) throw this.#ended;
    let timer: NodeJS.Timeout | undefined;
    const reply = new Promise<unknown>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      timer = setTimeout(() => reject(new KvferryError("peer_silent", `the bench server does not answer "${call.call}"`)), timeoutMs);
    });
    this.#socket.write(`${JSON.stringify(call)}\n`);
    try {
      return take(await reply);
    } finally {
      clearTimeout(timer);
      this.#waiting = undefined;
    }
  }

  /** The serving end's own word, out of turn: nothing will work any more, and why. */
  tell(error: Error): void {
    this.#say({ error: errorReply(error) });
  }

  close(): void {
    this.#socket.end();
    this.#socket.destroySoon();
  }

  #handleText(text: string): void {
    let from = 0;
    for (let end = text.indexOf("\n"); end !== -1 && !this.#socket.destroyed; end = text.indexOf("\n", from)) {
      const line = this.#pieces.join("") + text.slice(from, end);
      this.#pieces = [];
      this.#characters = 0;
      from = end + 1;
      this.#handleLine(line);
    }
    this.#pieces.push(text.slice(from));
    this.#characters += text.length - from;
    if (this.#characters > LINE_CHARACTERS_MAX) this.#fail("a line is too long");
  }

  #handleLine(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      return this.#fail("a line is not JSON");
    }
    if (typeof message !== "object" || message === null || Array.isArray(message)) return this.#fail("a line is not an object");
    if (this.#onCall === undefined) return this.#handleReply(message);
    // One at a time: whoever does not wait for the answer would fill this end's memory with questions.
    if (this.#answering) return this.#fail("a call before the last one was answered");
    void this.#answer(this.#onCall, message);
  }

  async #answer(onCall: (call: Call) => Promise<unknown>, message: object): Promise<void> {
    this.#answering = true;
    let reply: object;
    try {
      reply = { result: (await onCall(parseCall(message))) ?? null };
    } catch (error) {
      reply = { error: errorReply(error) };
    }
    this.#answering = false;
    this.#say(reply);
  }

  #say(message: object): void {
    if (!this.#socket.destroyed) this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  #handleReply(message: { readonly result?: unknown; readonly error?: unknown }): void {
    const waiting = this.#waiting;
    if (message.error === undefined)
      return waiting === undefined ? this.#fail("an answer that nobody asked for") : waiting.resolve(message.result);
    const { number, detail } = Object(message.error) as { readonly number?: unknown; readonly detail?: unknown };
    const words = typeof detail === "string" ? detail.slice(0, DETAIL_CHARACTERS_MAX) : "";
    const error = new KvferryError(codeOfNumber(typeof number === "number" ? number : 0), `bench server: ${words}`);
    // Without a call it is the server's farewell: what every later call is answered with.
    if (waiting !== undefined) return waiting.reject(error);
    this.#ended ??= error;
    this.onFarewell(error);
  }

  #fail(detail: string): void {
    this.#end(detail);
    this.#socket.destroy();
  }

  #end(detail: string): void {
    this.#ended ??= new KvferryError("connection_lost", `bench control connection: ${detail}`);
    this.#waiting?.reject(this.#ended);
  }
}

export async function dialControl(host: string, port: number, timeoutMs = 5_000): Promise<Control> {
  const socket = dial({ host, port });
  const code = await new Promise<ErrorCode | undefined>((resolve) => {
    const timer = setTimeout(() => resolve("connect_timeout"), timeoutMs);
    const settle = (result: ErrorCode | undefined): void => {
      clearTimeout(timer);
      resolve(result);
    };
    socket.once("connect", () => settle(undefined));
    socket.once("error", () => settle("connect_failed"));
  });
  if (code === undefined) return new Control(socket);
  socket.destroy();
  const remedy = host === LAB_HOST ? "the emulated link let nothing through: see --impair" : "start one there with: kvferry bench -s";
  throw new KvferryError(code, `no bench server at ${host}:${port}; ${remedy}`);
}

/** Listens for clients; resolves with the server, whose address has the port that was bound. */
export async function listenControl(host: string, port: number, onSocket: (socket: Socket) => void): Promise<Server> {
  const server = createServer(onSocket);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(new KvferryError("address_unavailable", error.message, { cause: error })));
    server.listen({ port, ...(host === "" ? {} : { host }) }, resolve);
  });
  return server;
}

export function errorReply(error: unknown): { readonly number: number; readonly detail: string } {
  const known =
    error instanceof KvferryError ? error : new KvferryError("internal", error instanceof Error ? error.message : String(error));
  return { number: known.number, detail: detailOf(known) };
}

/** The message without the sentence of the list, which the other end adds again. */
function detailOf(error: KvferryError): string {
  const head = `${error.code}: ${ERRORS[error.code].text}`;
  return error.message === head ? "" : error.message.slice(head.length).replace(/^ \((.*)\)$/s, "$1");
}
