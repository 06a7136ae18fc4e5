/**
 * Three engines of which none is well-behaved, at a whole node: well-framed messages with anything in them, in any order. An input is frames of
 * (client, bytes u16, message). Every request is answered once with a result or a code other than internal, or its connection is closed; no
 * block is in two hands; and when all are gone the pool is whole.
 */
import assert from "node:assert/strict";
import { CLOSE, type Connection } from "../../../transport/api/backend.ts";
import { Clients } from "../../../transport/api/clients.ts";
import { decodeMessage, encodeMessage, type Message } from "../../../transport/api/codec.ts";
import { type Admission, type Doorman, Engine } from "../../../transport/api/engine.ts";
import type { Hello } from "../../../transport/api/messages.ts";
import { eventOf } from "../../../transport/api/replies.ts";
import { ERRORS } from "../../../transport/errors.ts";
import type { FerrySession } from "../../../transport/ferry/host.ts";
import { plainRegion } from "../../memory/regions.ts";
import { mutate } from "../mutate.ts";
import { HeldNode, POOL_BYTES } from "../node.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { mutateValue } from "../values.ts";
import { BLOCK_BYTES, BLOCK_COUNT, handleOf, HELLO, REQUESTS, requestsOf } from "./api-examples.ts";

const CLIENTS = 3;
/** Flags of a frame's first byte. */
const CUT = 0x80;
const LATER = 0x40;
const AS_TEXT = 0x20;

class House implements Doorman {
  readonly held: HeldNode;
  readonly clients: Clients<Engine>;
  readonly processIds = new Set<number>();
  readonly bugs: Error[] = [];

  constructor(held: HeldNode) {
    this.held = held;
    this.clients = new Clients<Engine>(held.processes, (engine) => engine.connection.end(CLOSE.processEnded, "dead"));
  }

  admit(engine: Engine, hello: Hello): Admission {
    const { client, resume, unanswered = [] } = hello;
    const processId = this.clients.checkProcess(hello.processId);
    this.processIds.add(processId);
    const former = resume === undefined ? undefined : this.clients.lastOf(resume, processId);
    former?.connection.end(CLOSE.replaced, "back");
    const session = this.held.node.openSession({ client, processId, ...(resume === undefined ? {} : { resume }) });
    this.clients.add(session, processId, engine);
    former?.takeBack(unanswered);
    return { session, attaches: processId !== 0, answer: { version: 1, resume: session.resume, resumed: session.resumed } };
  }
  left(engine: Engine, session: FerrySession | undefined): void {
    if (session !== undefined) this.clients.left(session, engine);
  }
  finished(session: FerrySession): void {
    this.clients.closed(session);
  }
  broken(op: string, error: unknown): void {
    this.bugs.push(new Error(`${op} fails by a bug`, { cause: error }));
  }
  answered(): void {}
}

/** One connection: what was asked and not answered, and which blocks its answers gave it. */
class Caller implements Connection {
  readonly engine: Engine;
  readonly mine: Map<string, Caller>;
  closed = false;
  readonly #asked = new Map<number, Message[]>();
  readonly #bugs: Error[];
  readonly #given: Set<string>;

  constructor(house: House, mine: Map<string, Caller>, given: Set<string>) {
    this.mine = mine;
    this.#given = given;
    this.#bugs = house.bugs;
    this.engine = new Engine(this, house);
  }

  say(bytes: Uint8Array, binary: boolean): void {
    const message = decoded(bytes);
    const id = message?.["id"];
    if (binary && typeof id === "number") this.#asked.set(id, [...(this.#asked.get(id) ?? []), message as Message]);
    this.engine.message(bytes, binary);
  }

  send(bytes: Uint8Array): void {
    try {
      this.#take(decodeMessage(bytes));
    } catch (error) {
      this.#bugs.push(error as Error);
    }
  }

  end(code: number): void {
    if (this.closed) return;
    this.closed = true;
    assert.ok(Object.values(CLOSE).includes(code as 4000), `closed with ${code}`);
    this.engine.closed();
    for (const [block, owner] of this.mine) if (owner === this) this.mine.delete(block);
  }

  get unanswered(): number {
    return [...this.#asked.values()].reduce((sum, waiting) => sum + waiting.length, 0);
  }

  #take(message: Message): void {
    const { id, ok, error } = message;
    if (id === undefined) {
      assert.ok(eventOf(message) !== undefined, `an event that clients know: ${String(message["event"])}`);
      return;
    }
    const waiting = this.#asked.get(id as number) ?? [];
    assert.ok(waiting.length > 0, "an answer that nobody asked for");
    // Which of two requests with one number is answered nobody can tell.
    const request = waiting.length === 1 ? waiting[0] : undefined;
    waiting.pop();
    assert.notEqual(ok === undefined, error === undefined, "a result or an error");
    if (error !== undefined) checkError(error as Message);
    else if (request !== undefined) this.#account(request, ok as Message);
  }

  #account({ op, blocks }: Message, result: Message): void {
    if (op === "alloc") {
      for (const block of pairsOf(result)) {
        assert.ok(!this.mine.has(block) && !this.#given.has(block), `block ${block} is given away once`);
        this.mine.set(block, this);
        this.#given.add(block);
      }
    } else if (op === "free" || op === "publish") {
      for (const block of pairsOf(blocks as Message)) {
        assert.ok(this.mine.get(block) === this, `block ${block} was not this client's to ${op}`);
        this.mine.delete(block);
      }
    } else if (op === "close") for (const [block, owner] of this.mine) if (owner === this) this.mine.delete(block);
  }
}

function decoded(bytes: Uint8Array): Message | undefined {
  try {
    return decodeMessage(bytes);
  } catch {
    return undefined;
  }
}

function pairsOf(blocks: Message): string[] {
  const words = (name: string): Uint32Array => new Uint32Array((blocks[name] as Uint8Array).slice().buffer);
  const generations = words("generations");
  return [...words("ids")].map((id, at) => `${id}:${generations[at]}`);
}

function checkError({ code, detail }: Message): void {
  assert.ok(typeof code === "string" && Object.hasOwn(ERRORS, code), `${String(code)} is in the list`);
  assert.ok(typeof detail === "string" && detail.length < 6_000, "a detail is short");
}

class ApiSession implements Session {
  readonly #region = plainRegion(POOL_BYTES);

  async run(input: Uint8Array): Promise<void> {
    const held = new HeldNode(this.#region, BLOCK_BYTES);
    assert.equal(held.pool.blockCount, BLOCK_COUNT);
    const house = new House(held);
    const [mine, given] = [new Map<string, Caller>(), new Set<string>()];
    const callers: Caller[] = [];
    const all: Caller[] = [];
    for (const { flags, bytes } of framesOf(input)) {
      const number = (flags & 0x1f) % CLIENTS;
      let caller = callers[number];
      if (caller !== undefined && (flags & CUT) > 0) caller.end(CLOSE.goingAway);
      if (caller === undefined || caller.closed) {
        const isBack = caller !== undefined;
        caller = new Caller(house, mine, given);
        callers[number] = caller;
        all.push(caller);
        if (isBack) caller.say(encodeMessage(HELLO), true);
      }
      caller.say(bytes, (flags & AS_TEXT) === 0);
      await ((flags & LATER) > 0 ? held.advance(1_500) : held.settle());
    }
    // A look-up waits for its peer, for so long.
    await held.advance(10_000);
    for (const caller of all) assert.ok(caller.closed || caller.unanswered === 0, "every request is answered");
    for (const caller of all) caller.end(CLOSE.goingAway);
    for (const processId of house.processIds) held.processes.kill(processId);
    house.clients.close();
    await held.advance(7_200_000);
    if (house.bugs[0] !== undefined) throw house.bugs[0];
    held.checkEmpty();
    held.close();
  }

  close(): void {}
}

interface Frame {
  readonly flags: number;
  readonly bytes: Uint8Array;
}

function framesOf(input: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  for (let at = 0; at + 3 <= input.length; ) {
    const length = (input[at + 1] as number) + 256 * (input[at + 2] as number);
    frames.push({ flags: input[at] as number, bytes: input.subarray(at + 3, at + 3 + length) });
    at += 3 + length;
  }
  return frames;
}

function frame(flags: number, message: Message | Uint8Array): Uint8Array {
  const bytes = message instanceof Uint8Array ? message : encodeMessage(message);
  return Buffer.concat([Uint8Array.of(flags, bytes.length & 0xff, bytes.length >> 8), bytes]).subarray(0, 3 + 0xffff);
}

const everything = (): Uint8Array => Buffer.concat(REQUESTS.map((request) => frame(0, request)));
/** Two that hold blocks and want each other's. */
const rivals = (): Uint8Array =>
  Buffer.concat(
    [0, 1].flatMap((client) =>
      REQUESTS.slice(0, 12).map((request) => frame(client, { ...request, id: 100 * client + (request["id"] as number) })),
    ),
  );

function generate(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  if (random.chance(1, 12)) return mutate(random.pick(pool), random);
  const frames: Uint8Array[] = [];
  const clients = random.between(1, CLIENTS);
  for (let client = 0; client < clients; client++) if (random.chance(9, 10)) frames.push(frame(client, hello(random)));
  // Most calls need a model and blocks; some an offer, a buffer, or published blocks.
  if (random.chance(4, 5)) frames.push(frame(0, REQUESTS[2] as Message), frame(0, REQUESTS[3] as Message));
  for (const begun of [10, 16, 6]) if (random.chance(1, 3)) frames.push(frame(0, REQUESTS[begun] as Message));
  for (let left = random.between(1, 14), id = 50; left > 0; left--, id++) {
    const flags = random.below(clients) | (random.chance(1, 30) ? random.pick([CUT, AS_TEXT]) : 0) | (random.chance(1, 20) ? LATER : 0);
    // The first offer or buffer, or one soon after.
    const handle = (): string => handleOf(clients + random.between(2, 4));
    const request = { ...random.pick(requestsOf(handle(), handle())), ...(random.chance(19, 20) ? { id } : {}) };
    const said = random.chance(2, 5) ? (Object(mutateValue(request, random, 2)) as Message) : request;
    const bytes = encodeMessage(said);
    frames.push(frame(flags, random.chance(1, 40) ? mutate(bytes, random, 2) : bytes));
  }
  return Buffer.concat(frames);
}

function hello(random: Random): Message {
  const processId = random.chance(1, 20) ? random.pick([1, 2 ** 31 - 1]) : random.pick([0, process.pid]);
  return random.chance(1, 20) ? (Object(mutateValue(HELLO, random, 1)) as Message) : { ...HELLO, processId };
}

export const apiSessionTargets: readonly Target[] = [
  {
    name: "api-session",
    corpus: "api-session",
    about: "three clients at a whole node: typed answers, no block in two hands, a whole pool when they are gone",
    skip: "",
    native: false,
    seeds: () => [everything(), rivals()],
    generate,
    open: async () => new ApiSession(),
  },
];
