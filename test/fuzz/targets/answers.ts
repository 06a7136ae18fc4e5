/**
 * A hostile listener opposite a link that dialled it and sends chunks: answers that are wrong, twice, late or garbage. An input is one byte for the
 * pieces of the writes, one for how many chunks are sent, then what the listener says on the lane. Each chunk has exactly one event, the right one.
 */
import assert from "node:assert/strict";
import { createServer, type Server, type Socket } from "node:net";
import { ERRORS } from "../../../transport/errors.ts";
import type { ConnectionId, LinkEvent, PlacementId } from "../../../transport/link/link.ts";
import { readGolden } from "../../golden/golden.ts";
import { Memory } from "../../link/conformance/memory.ts";
import { cut, plainShape } from "../../link/conformance/shapes.ts";
import { chunkFrame, headerOf } from "../../link/raw.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { checkAnswers, Client, type Kind, KINDS, pieceBytes, Polled } from "./live.ts";
import { judge } from "./oracle.ts";

const TOKEN = new Uint8Array(16).fill(0x5c);
const LANES = 64;
const LANE = { paceBytesPerSecond: 0, notSentLowBytes: 0, congestionControl: "" };
const CHUNKS = 8;
const CHUNK_BYTES = 600;
const GRANT = 3;

class AnswerSession implements Session {
  readonly #polled: Polled;
  readonly #server: Server;
  readonly #waiting: ((socket: Socket) => void)[] = [];
  readonly #memory = new Memory(plainShape(CHUNKS, CHUNK_BYTES).bytes, 5);
  readonly #outcomes = new Map<number, number[]>();
  #connection: ConnectionId = 0;
  #placement: PlacementId = 0;
  #isConnected = false;
  #lanesUp = 0;
  #lanesDown = 0;
  #control: Client | undefined;

  constructor(kind: Kind) {
    this.#polled = new Polled(kind, (event) => this.#handle(event));
    this.#server = createServer({ noDelay: true, allowHalfOpen: true }, (socket) => this.#waiting.shift()?.(socket));
  }

  async open(): Promise<this> {
    await new Promise<void>((resolve) => {
      this.#server.listen({ host: "127.0.0.1", port: 0 }, resolve);
    });
    const { port } = this.#server.address() as { port: number };
    const accepted = this.#accept();
    this.#connection = this.#polled.link.dial({ host: "127.0.0.1", port }, 5_000);
    this.#control = await accepted;
    await this.#polled.until(() => this.#isConnected);
    const { sender } = plainShape(CHUNKS, CHUNK_BYTES);
    const common = {
      connection: this.#connection,
      grant: GRANT,
      generation: 1,
      checksum: true,
      chunks: cut(0, CHUNKS * CHUNK_BYTES, CHUNK_BYTES),
    };
    const placement = this.#polled.link.place({ direction: "out", region: this.#memory.region, ...common, ...sender });
    assert.ok(placement !== "full");
    this.#placement = placement;
    return this;
  }

  async run(input: Uint8Array): Promise<void> {
    const sent = Math.min((input[1] ?? 0) % 16, CHUNKS);
    const stream = input.subarray(2);
    const accepted = this.#accept();
    this.#polled.link.openLane(this.#connection, this.#lanesUp % LANES, TOKEN, LANE);
    const lane = await accepted;
    lane.say(headerOf({ type: "pong" }));
    const up = this.#lanesUp;
    await this.#polled.until(() => this.#lanesUp > up);
    this.#outcomes.clear();
    const batch = Array.from({ length: sent }, (_, chunk) => ({ placement: this.#placement, chunk, sequence: 1 }));
    assert.equal(this.#polled.link.submit(batch), sent);
    await lane.take(sent * (48 + CHUNK_BYTES + 8));
    const open = new Set(batch.map(({ chunk }) => chunk));
    const expected = new Map<number, number>();
    const verdict = judge(stream, new Map(), {
      handleCommit: () => assert.fail("no grant, no commit"),
      handleDirty: () => assert.fail("no grant, no write"),
      handleAnswer: ({ type, grant, generation, chunk, sequence, status }) => {
        if (grant !== GRANT || generation !== 1 || sequence !== 1 || !open.delete(chunk)) return false;
        expected.set(chunk, type === "ack" ? 0 : status);
        return true;
      },
    });
    const answers = [...verdict.answers];
    lane.say(stream, pieceBytes(input));
    if (verdict.end === "whole") {
      lane.say(headerOf({ type: "ping", sequence: 0xfeed }));
      answers.push(headerOf({ type: "pong", sequence: 0xfeed }));
    }
    if (verdict.end === "closed") checkAnswers(await lane.rest(), answers, false);
    else checkAnswers(await lane.take(48 * answers.length), answers, true);
    // A reset makes the kernel forget what was not read yet.
    await this.#polled.until(() => [...expected.keys()].every((chunk) => this.#outcomes.has(chunk)));
    lane.reset();
    await this.#polled.until(() => this.#lanesDown === this.#lanesUp);
    for (const chunk of open) expected.set(chunk, ERRORS.lane_lost.number);
    const byChunk = (a: readonly [number, unknown], b: readonly [number, unknown]): number => a[0] - b[0];
    const wanted = [...expected].map(([chunk, code]) => [chunk, [code]] as const).sort(byChunk);
    assert.deepEqual([...this.#outcomes].sort(byChunk), wanted);
    this.#memory.check("the sender's memory");
  }

  async close(): Promise<void> {
    assert.equal(this.#control?.isClosed, false, "the control connection outlives what happens on lanes");
    this.#control.reset();
    await this.#polled.link.close();
    this.#server.close();
  }

  /** The next connection, its preamble taken. */
  async #accept(): Promise<Client> {
    const client = new Client(await new Promise<Socket>((resolve) => this.#waiting.push(resolve)));
    await client.take(48);
    return client;
  }

  #handle(event: LinkEvent): void {
    if (event.kind === "connected") this.#isConnected = true;
    else if (event.kind === "laneUp") this.#lanesUp += 1;
    else if (event.kind === "laneDown") this.#lanesDown += 1;
    else if (event.kind === "acked") this.#note(event.chunk, 0);
    else if (event.kind === "failed") this.#note(event.chunk, event.code);
  }

  #note(chunk: number, code: number): void {
    this.#outcomes.set(chunk, [...(this.#outcomes.get(chunk) ?? []), code]);
  }
}

function answer(random: Random): Uint8Array {
  const odd = (likely: number, range: number): number => (random.chance(1, 12) ? random.below(range) : likely);
  const type = random.pick(["ack", "ack", "ack", "nack", "nack", "ping", "pong"] as const);
  const status = type === "nack" ? odd(random.pick([8, 40, 42, 43]), 2 ** 32) : type === "ack" ? odd(0, 100) : 0;
  const fields = { grant: odd(GRANT, 10), generation: odd(1, 3), chunk: random.below(CHUNKS), sequence: odd(1, 3) };
  if (random.chance(1, 12)) return chunkFrame(fields, random.bytes(random.between(1, 300)));
  return headerOf({ type, ...fields, status });
}

function generate(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  if (random.chance(1, 8)) return mutate(random.pick(pool), random);
  const said: Uint8Array[] = [];
  for (let left = random.between(0, 10); left > 0; left--) said.push(answer(random));
  const stream = Buffer.concat([Uint8Array.of(random.below(256), random.below(16)), ...said]);
  return random.chance(1, 5) ? mutate(stream, random, 1) : stream;
}

const inOrder = Array.from({ length: CHUNKS }, (_, chunk) => headerOf({ type: "ack", grant: GRANT, generation: 1, chunk, sequence: 1 }));

export const answerTargets: readonly Target[] = KINDS.map((kind) => ({
  name: `${kind.name}-answers`,
  corpus: "answers",
  about: "a hostile listener's answers to a live link's chunks: each chunk has one event, the right one",
  skip: kind.skip,
  native: kind.native,
  seeds: () => [
    Uint8Array.of(255, CHUNKS, ...Buffer.concat(inOrder)),
    ...readGolden("header").map(({ bytes }) => Uint8Array.of(255, 4, ...bytes)),
  ],
  generate,
  open: () => new AnswerSession(kind).open(),
}));
