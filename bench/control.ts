/**
 * The bench's own control connection: one JSON object a line, a call at a time in each direction. It carries parameters and results, never
 * the bytes that are measured.
 */
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { codeOfNumber, type ErrorCode, ERRORS, KvferryError } from "../transport/errors.ts";
import type { LaneTuning } from "./lanes.ts";
import type { WorkloadParameters } from "./workload.ts";

export const CONTROL_VERSION = 1;
const LINE_BYTES_MAX = 4 * 2 ** 20;
const CALL_TIMEOUT_MS = 60_000;

/** What the client asks for, in this order: open, admit, then for each case prepare, fill or poison, check, end; use at any time. */
export type Call =
  | {
      readonly call: "open";
      readonly version: number;
      readonly link: string;
      readonly ioThreads: number;
      readonly poolBytes: number;
      readonly token: string;
      readonly dataPort: number;
      readonly lane: LaneTuning;
    }
  | {
      readonly call: "prepare";
      readonly workload: WorkloadParameters;
      readonly write: boolean;
      readonly read: boolean;
      readonly checksum: boolean;
    }
  | { readonly call: "admit" }
  | { readonly call: "fill"; readonly seed: number; readonly slots: readonly number[] }
  | { readonly call: "poison"; readonly slots: readonly number[] }
  | { readonly call: "check"; readonly seed: number; readonly slots: readonly number[]; readonly digests: readonly (readonly string[])[] }
  | { readonly call: "use" }
  | { readonly call: "endCase" }
  | { readonly call: "end" };

export interface OpenReply {
  readonly link: string;
  readonly dataPort: number;
  readonly version: string;
  readonly systemInfo: string;
}

export interface CheckReply {
  readonly verifiedBytes: number;
  readonly wrong: number;
}

export interface UseReply {
  readonly cpuUserSeconds: number;
  readonly cpuSystemSeconds: number;
  /** CPU of the thread that runs JavaScript, kernel time included; NaN where the host does not say. */
  readonly mainThreadSeconds: number;
  readonly residentBytes: number;
  /** Of chunks this end has sent and had to send again. */
  readonly retries: number;
  /** Segments that TCP sent again, of all lanes; null where it does not say. */
  readonly retransmits: number | null;
}

/** One end of a control connection. */
export class Control {
  readonly #socket: Socket;
  #buffer = "";
  #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void } | undefined;
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
      socket.on("close", () => {
        this.#end("the other end is gone");
        resolve();
      });
    });
  }

  get remoteHost(): string {
    return this.#socket.remoteAddress ?? "";
  }

  /** Rejects with the error that the other end answers, or when it does not answer. */
  async call<Reply>(call: Call, timeoutMs = CALL_TIMEOUT_MS): Promise<Reply> {
    if (this.#ended !== undefined) throw this.#ended;
    let timer: NodeJS.Timeout | undefined;
    const reply = new Promise<unknown>((resolve, reject) => {
      this.#waiting = { resolve, reject };
      timer = setTimeout(() => reject(new KvferryError("peer_silent", `the bench server does not answer "${call.call}"`)), timeoutMs);
    });
    this.#socket.write(`${JSON.stringify(call)}\n`);
    try {
      return (await reply) as Reply;
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
    this.#buffer += text;
    for (let end = this.#buffer.indexOf("\n"); end !== -1; end = this.#buffer.indexOf("\n")) {
      const line = this.#buffer.slice(0, end);
      this.#buffer = this.#buffer.slice(end + 1);
      this.#handleLine(line);
    }
    if (this.#buffer.length > LINE_BYTES_MAX) this.#fail("a line is too long");
  }

  #handleLine(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      return this.#fail("a line is not JSON");
    }
    if (typeof message !== "object" || message === null) return this.#fail("a line is not an object");
    if (this.#onCall !== undefined) void this.#answer(this.#onCall, message as Call);
    else this.#handleReply(message as { result?: unknown; error?: { number?: unknown; detail?: unknown } });
  }

  async #answer(onCall: (call: Call) => Promise<unknown>, call: Call): Promise<void> {
    let reply: object;
    try {
      reply = { result: (await onCall(call)) ?? null };
    } catch (error) {
      reply = { error: errorReply(error) };
    }
    this.#say(reply);
  }

  #say(message: object): void {
    if (!this.#socket.destroyed) this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  #handleReply(message: { result?: unknown; error?: { number?: unknown; detail?: unknown } }): void {
    const waiting = this.#waiting;
    if (message.error === undefined)
      return waiting === undefined ? this.#fail("an answer that nobody asked for") : waiting.resolve(message.result);
    const error = new KvferryError(codeOfNumber(Number(message.error.number)), `bench server: ${String(message.error.detail)}`);
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
  throw new KvferryError(code, `no bench server at ${host}:${port}; start one there with: kvferry bench -s`);
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
