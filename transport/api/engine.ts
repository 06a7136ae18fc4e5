/**
 * One connected engine on the server's side: says hello, then its requests run on a session of its own and its events go back. What a
 * request does is in messages.ts; who it is that asks, in doorman.ts.
 */
import { expected } from "../check.ts";
import { KvferryError } from "../errors.ts";
import type { FerryEvent, Transfer } from "../ferry/ferry.ts";
import type { FerrySession } from "../ferry/host.ts";
import { limits } from "../limits.ts";
import { CLOSE, type Connection, type ConnectionHandlers } from "./backend.ts";
import { decodeMessage, encodeMessage, type Message } from "./codec.ts";
import { cancelSchema, type Hello, helloSchema, type Operation, operations, parseFields } from "./messages.ts";

export interface Admission {
  readonly session: FerrySession;
  /** Its process can be watched, so it may map the pool: what cannot be proven dead must not be able to write. */
  readonly attaches: boolean;
  /** The answer to hello. */
  readonly answer: Message;
}

/** What an engine needs of the server. */
export interface Doorman {
  /** Checks the process and opens its session. Throws KvferryError. */
  admit(engine: Engine, hello: Hello): Admission;
  /** The connection has ended; `session` if it had come so far. */
  left(engine: Engine, session: FerrySession | undefined): void;
  /** The client has closed its session; the connection may stay a while. */
  finished(session: FerrySession): void;
  /** A request failed by a bug. */
  broken(op: string, error: unknown): void;
  /** A request was answered: for metrics. */
  answered(op: string, result: string, startedMs: number): void;
}

const U32_MAX = 0xffff_ffff;

export class Engine implements ConnectionHandlers {
  readonly connection: Connection;
  readonly #doorman: Doorman;
  readonly #helloTimer: NodeJS.Timeout;
  #session: FerrySession | undefined;
  #attaches = false;
  #stopListening = (): void => {};
  /** Transfers whose numbers the client knows. */
  readonly #transfers = new Map<number, Transfer>();
  /** Events of transfers whose numbers are still on their way to the client. */
  #early: FerryEvent[] = [];
  /** What the last answers gave away, by the number of the request: some of them may never have arrived. */
  readonly #given = new Map<number, () => Promise<void>>();
  #pending = 0;
  #ended = false;

  constructor(connection: Connection, doorman: Doorman) {
    this.connection = connection;
    this.#doorman = doorman;
    this.#helloTimer = setTimeout(() => connection.end(CLOSE.helloTimeout, "hello did not come"), limits.apiHelloTimeoutMs);
  }

  message(bytes: Uint8Array, binary: boolean): void {
    if (this.#ended) return;
    const startedMs = performance.now();
    let message: Message;
    try {
      if (!binary) throw new KvferryError("message_malformed", "a text message");
      message = decodeMessage(bytes);
    } catch (error) {
      this.connection.end(CLOSE.malformed, detailOf(error).slice(0, 100));
      return;
    }
    const { id, op, ...fields } = message;
    if (typeof id !== "number" || !Number.isInteger(id) || id < 1 || id > U32_MAX || typeof op !== "string") {
      // Without its number a request cannot be answered.
      this.connection.end(CLOSE.malformed, "a request without id and op");
      return;
    }
    this.#run(id, op, fields, startedMs);
  }

  closed(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#helloTimer);
    this.#stopListening();
    this.#doorman.left(this, this.#session);
  }

  /** The client is back over another connection, where it names the requests that this one did not answer. */
  takeBack(requests: readonly number[]): void {
    for (const id of requests) {
      // What the process had given back by itself is refused here, and that is all.
      this.#given
        .get(id)?.()
        .catch(() => {});
    }
    this.#given.clear();
  }

  #run(id: number, op: string, fields: Message, startedMs: number): void {
    const session = this.#session;
    try {
      if (op === "hello") return this.#reply(id, op, startedMs, this.#hello(fields));
      if (session === undefined) throw new KvferryError("hello_required", `${op.slice(0, 32)} came first`);
      if (op === "cancel") {
        this.#transfers.get(parseFields(cancelSchema, fields).transfer)?.cancel();
        return this.#reply(id, op, startedMs, undefined);
      }
      if (!Object.hasOwn(operations, op)) throw expected("an operation of schemas/api.md", "op", op, "message_malformed");
      if (this.#pending >= limits.apiPendingMax) throw new KvferryError("full", `${this.#pending} requests are unanswered`);
      const operation: Operation = operations[op as keyof typeof operations];
      const parsed = parseFields(operation.schema, fields);
      this.#pending++;
      started(operation, session, parsed).then(
        (result) => {
          const { undo } = operation;
          if (undo !== undefined) this.#remember(id, () => undo(session, result as never));
          this.#finish(id, op, startedMs, result);
        },
        (error: unknown) => {
          this.#fail(id, op, startedMs, error);
          this.#settled();
        },
      );
    } catch (error) {
      this.#fail(id, op, startedMs, error);
    }
  }

  /** Of the last ones: older answers have long been read. */
  #remember(id: number, undo: () => Promise<void>): void {
    this.#given.delete(id);
    this.#given.set(id, undo);
    if (this.#given.size <= limits.apiGivenMax) return;
    for (const oldest of this.#given.keys()) return void this.#given.delete(oldest);
  }

  #hello(fields: Message): Message {
    if (this.#session !== undefined) throw expected("hello once", "op", "hello", "message_malformed");
    const { session, attaches, answer } = this.#doorman.admit(this, parseFields(helloSchema, fields));
    clearTimeout(this.#helloTimer);
    this.#session = session;
    this.#attaches = attaches;
    this.#stopListening = session.on((event) => this.#handleEvent(event));
    return answer;
  }

  #finish(id: number, op: string, startedMs: number, result: Message | Transfer | undefined): void {
    if (result === undefined || !isTransfer(result)) {
      if (op === "close" && this.#session !== undefined) this.#doorman.finished(this.#session);
      this.#reply(id, op, startedMs, op === "pool" && !this.#attaches ? { ...result, path: "" } : result);
    } else {
      this.#transfers.set(result.transfer, result);
      // Whatever it ends with is told by an event.
      result.done.catch(() => {});
      this.#reply(id, op, startedMs, { transfer: result.transfer });
      const early = this.#early;
      this.#early = [];
      for (const event of early) this.#handleEvent(event);
    }
    this.#settled();
  }

  /** With nothing pending no number is on its way any more, so no event can still be early. */
  #settled(): void {
    if (--this.#pending === 0) this.#early.length = 0;
  }

  #handleEvent(event: FerryEvent): void {
    if ("transfer" in event) {
      // The client learns a transfer's number from the answer; an event that overtook it would mean nothing to it.
      if (!this.#transfers.has(event.transfer)) {
        if (this.#pending > 0) this.#early.push(event);
        return;
      }
      if (event.kind === "done" || event.kind === "failed") this.#transfers.delete(event.transfer);
    }
    const { kind, ...fields } = event;
    this.#send({ event: kind, ...fields });
  }

  #reply(id: number, op: string, startedMs: number, result: Message | undefined): void {
    this.#send({ id, ok: result ?? {} });
    this.#doorman.answered(op, "ok", startedMs);
  }

  #fail(id: number, op: string, startedMs: number, error: unknown): void {
    const code = error instanceof KvferryError ? error.code : "internal";
    if (code === "internal") this.#doorman.broken(op, error);
    this.#send({ id, error: { code, detail: detailOf(error) } });
    // A metric's labels are bounded: what is no operation is not a label.
    this.#doorman.answered(Object.hasOwn(operations, op) || op === "hello" || op === "cancel" ? op : "unknown", code, startedMs);
    if (op === "hello" && code === "version_unsupported") this.connection.end(CLOSE.versionUnsupported, code);
  }

  #send(message: Message): void {
    if (!this.#ended) this.connection.send(encodeMessage(message));
  }
}

/** A call that throws at once is one that rejects. */
async function started(operation: Operation, session: FerrySession, fields: unknown): Promise<Message | Transfer | undefined> {
  return operation.run(session, fields as never);
}

function isTransfer(result: Message | Transfer): result is Transfer {
  return "done" in result && "cancel" in result;
}

function detailOf(error: unknown): string {
  if (error instanceof KvferryError) return error.detail;
  return error instanceof Error ? error.message : String(error);
}
