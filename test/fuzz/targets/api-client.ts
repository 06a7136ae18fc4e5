/**
 * The sidecar's client against a server that says anything: a real WebSocket, a real client that makes every call. An input is frames of
 * (bytes u16, message); whole messages get the number of a request that waits. Every call settles with a value or a KvferryError; nothing throws
 * where nobody can catch it.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket, WebSocketServer } from "ws";
import { type ClientFerry, connect } from "../../../transport/api/client.ts";
import { decodeMessage, encodeMessage, type Message } from "../../../transport/api/codec.ts";
import { ERRORS, KvferryError } from "../../../transport/errors.ts";
import type { FerryEvent, Transfer } from "../../../transport/ferry/ferry.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { mutateValue } from "../values.ts";
import { REPLIES } from "./api-examples.ts";

const WELCOME = REPLIES[0] as Message;
const BLOCKS = { ids: Uint32Array.of(1), generations: Uint32Array.of(1) };
const KEYS = new Uint8Array(32);
const GROUPS = [{ group: 0, blocks: BLOCKS, tokens: 1 }];
const RANGES = { peer: "b", remote: "r", local: "l", ranges: [{ local: 0, remote: 0, bytes: 1 }] };

/** One of each that is answered in its own way. */
const CALLS: readonly ((ferry: ClientFerry) => Promise<unknown>)[] = [
  (ferry) => ferry.pool(),
  (ferry) => ferry.alloc(1),
  (ferry) => ferry.keys(1, 0, Uint32Array.of(1)),
  (ferry) => ferry.lookup(1, 0, KEYS),
  (ferry) => ferry.offer({ model: 1, groups: GROUPS }),
  (ferry) => ferry.fetch({ peer: "b", model: 1, source: { handle: "h" }, into: GROUPS }),
  (ferry) => ferry.read(RANGES),
  (ferry) => ferry.stats(),
  (ferry) => ferry.free(BLOCKS),
  (ferry) => ferry.attach().then((region) => region.close()),
];

class ClientSession implements Session {
  readonly #folder = mkdtempSync(join(tmpdir(), "kvferry-fuzz-"));
  readonly #path = join(this.#folder, "s");
  readonly #http: Server = createServer();
  readonly #sockets = new WebSocketServer({ server: this.#http, perMessageDeflate: false });
  readonly #stray: unknown[] = [];
  readonly #onStray = (error: unknown): void => void this.#stray.push(error);

  async open(): Promise<this> {
    process.on("unhandledRejection", this.#onStray);
    await new Promise<void>((resolve) => this.#http.listen(this.#path, resolve));
    return this;
  }

  async run(input: Uint8Array): Promise<void> {
    const frames = framesOf(input);
    this.#sockets.once("connection", (socket) => serve(socket, frames));
    let ferry: ClientFerry;
    try {
      ferry = await connect(this.#path, { client: "fuzz", attaches: false, requestTimeoutMs: 2_000 });
    } catch (error) {
      return checkFailure(error);
    }
    const events: FerryEvent[] = [];
    ferry.on((event) => events.push(event));
    await Promise.all(CALLS.map(async (call) => call(ferry).then(checkResult, checkFailure)));
    await ferry.close();
    for (const event of events) assert.equal(typeof event.kind, "string");
    if (this.#stray.length > 0) throw this.#stray[0];
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#sockets.close();
    await new Promise((resolve) => this.#http.close(resolve));
    process.off("unhandledRejection", this.#onStray);
    rmSync(this.#folder, { recursive: true });
  }
}

/** Hello is answered by the first frames, up to an answer, and what comes later by those behind; when there are none left, the server goes. */
function serve(socket: WebSocket, frames: readonly Uint8Array[]): void {
  const waiting: number[] = [];
  let at = 0;
  let greeted = false;
  socket.on("error", () => {});
  socket.on("message", (data: Buffer) => {
    const { id, op } = decodeMessage(data);
    waiting.push(id as number);
    if (op === "close") return socket.send(encodeMessage({ id, ok: {} }));
    // Hello waits alone; all calls are made before the first of them is answered.
    if (greeted && waiting.length < CALLS.length) return;
    const least = greeted ? -1 : 0;
    while (at < frames.length && socket.readyState === WebSocket.OPEN && waiting.length > least) {
      socket.send(numbered(frames[at++] as Uint8Array, waiting));
    }
    greeted = true;
    if (at >= frames.length) socket.terminate();
  });
}

/** An answer gets the number of a request that waits: which one its own number says. */
function numbered(frame: Uint8Array, waiting: number[]): Uint8Array {
  try {
    const message = decodeMessage(frame);
    if (typeof message["id"] !== "number" || waiting.length === 0) return frame;
    const [id] = waiting.splice(Math.abs(Math.floor(message["id"])) % waiting.length || 0, 1);
    return encodeMessage({ ...message, id });
  } catch {
    return frame;
  }
}

function checkResult(result: unknown): void {
  const { transfer, done } = Object(result) as Partial<Transfer>;
  if (done === undefined) return;
  assert.ok(Number.isSafeInteger(transfer), "a transfer has a number");
  done.catch(checkFailure);
}

function checkFailure(error: unknown): void {
  assert.ok(error instanceof KvferryError && Object.hasOwn(ERRORS, error.code), (error as Error).stack);
}

function framesOf(input: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at + 2 <= input.length; ) {
    const length = (input[at] as number) + 256 * (input[at + 1] as number);
    frames.push(input.slice(at + 2, at + 2 + length));
    at += 2 + length;
  }
  return frames;
}

function frame(message: Message | Uint8Array): Uint8Array {
  const bytes = message instanceof Uint8Array ? message : encodeMessage(message);
  return Buffer.concat([Uint8Array.of(bytes.length & 0xff, bytes.length >> 8), bytes]).subarray(0, 2 + 0xffff);
}

function generate(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  if (random.chance(1, 15)) return mutate(random.pick(pool), random);
  const frames = [frame(random.chance(9, 10) ? WELCOME : changed(random, WELCOME))];
  for (let left = random.between(0, 14); left > 0; left--) {
    const said = { ...random.pick(REPLIES) };
    if ("id" in said) Object.assign(said, { id: random.below(12) });
    const bytes = random.chance(1, 2) ? changed(random, said) : encodeMessage(said);
    frames.push(frame(random.chance(1, 25) ? mutate(bytes, random, 2) : bytes));
  }
  return Buffer.concat(frames);
}

function changed(random: Random, message: Message): Uint8Array {
  return encodeMessage(Object(mutateValue(message, random, 2)) as Message);
}

export const apiClientTargets: readonly Target[] = [
  {
    name: "api-client",
    corpus: "api-client",
    about: "the client at a server that says anything: every call settles with a value or a KvferryError",
    skip: "",
    native: false,
    seeds: () => [Buffer.concat(REPLIES.map(frame))],
    generate,
    open: () => new ClientSession().open(),
  },
];
