/**
 * Remotes without manners at a whole node: control messages in any order with anything in them, connections that come, go and come again under
 * one name, chunks that land, are refused, or never come. An input is steps of (kind, argument, bytes u16, message). Whatever happens: memory
 * that a remote may write is the node's own and free for it, what it may read was offered or published, bytes that do not parse end their
 * connection, no refusal says internal, and when all are gone nothing is held.
 */
import assert from "node:assert/strict";
import { ERRORS, KvferryError } from "../../../transport/errors.ts";
import type { FerrySession } from "../../../transport/ferry/host.ts";
import type { Profiles } from "../../../transport/ferry/profiles.ts";
import type { ConnectionId, PlacementSpec } from "../../../transport/link/link.ts";
import { STATE } from "../../../transport/memory/pool-table.ts";
import { decodeMessage, encodeMessage, type Message } from "../../../transport/peer/messages.ts";
import { native, nativeProblem } from "../../../transport/native.ts";
import { plainRegion } from "../../memory/regions.ts";
import { mutate } from "../mutate.ts";
import { BUFFER_PATH, HeldNode, POOL_BYTES } from "../node.ts";
import { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { mutateValue } from "../values.ts";
import { lossyCodecs, profileIds, profilesFor } from "./peer-profiles.ts";
import { BLOCK_BYTES } from "./api-examples.ts";
import { ableHello, acceptance, answer, BUFFER, helloOf, IDENTITY, keysOf, LAYOUT, NODE, OFFER, refusal, saying } from "./peer-examples.ts";

const REMOTES = 3;
/** Steps. */
const MESSAGES = 5;
const [ACCEPT, END, LAND, ANSWER, TIME, LOCAL] = [5, 6, 7, 8, 9, 10];
const KINDS = 11;
const PAUSES = [1, 100, 1_500, 3_000, 6_000, 40_000];

/** What the local engine has: two published blocks, two offered ones, a buffer. */
interface Engine {
  readonly session: FerrySession;
  readonly holder: number;
  readonly model: number;
  readonly offered: ReadonlySet<number>;
  /** That it pushes, or fetches into. */
  readonly moved: Set<number>;
}

async function engineAt(held: HeldNode): Promise<Engine> {
  const session = held.node.openSession({ client: "engine", processId: 0 });
  const { model } = await session.registerModel(IDENTITY, LAYOUT);
  const published = await session.alloc(2);
  const sealing = session.publish(model, 0, published, keysOf(1, 2));
  await held.settle();
  await sealing;
  const blocks = await session.alloc(2);
  await session.offer({ model, groups: [{ group: 0, blocks, tokens: 32 }] });
  await session.registerBuffer({ path: BUFFER_PATH, bytes: 8_192 });
  await held.settle();
  return { session, holder: held.entry(blocks.ids[0] as number).holder, model, offered: new Set(blocks.ids), moved: new Set() };
}

class PeerSession implements Session {
  readonly #region = plainRegion(POOL_BYTES);
  readonly #profilesFor: ((input: Uint8Array) => Profiles) | undefined;

  /** @param profilesFor what the node has; then the local engine pushes and fetches, too */
  constructor(profilesFor?: (input: Uint8Array) => Profiles) {
    this.#profilesFor = profilesFor;
  }

  async run(input: Uint8Array): Promise<void> {
    const held = new HeldNode(this.#region, BLOCK_BYTES, this.#profilesFor === undefined ? {} : { profiles: this.#profilesFor(input) });
    // Who is dialled is the last of the remotes, can do all that this version can, and has all profiles.
    if (this.#profilesFor !== undefined) held.link.hello = encodeMessage(ableHello("b", profileIds()));
    const engine = await engineAt(held);
    held.link.onPlace = (spec) => checkPlace(held, engine, spec);
    const remotes: (ConnectionId | undefined)[] = [];
    for (const step of stepsOf(input)) {
      await this.#step(held, engine, remotes, step);
      checkSent(held);
    }
    held.link.hello = undefined;
    for (const connection of [...held.link.live]) held.link.end(connection, 22);
    await held.settle();
    await engine.session.close();
    await held.advance(7_200_000);
    checkSent(held);
    held.checkEmpty();
    held.close();
  }

  async #step(held: HeldNode, engine: Engine, remotes: (ConnectionId | undefined)[], { kind, argument, bytes }: Step): Promise<void> {
    const { link } = held;
    const number = argument % REMOTES;
    if (number === REMOTES - 1) remotes[number] = link.dialled ?? remotes[number];
    const present = remotes[number];
    const connection = present !== undefined && link.live.has(present) ? present : undefined;
    if (kind === TIME) return held.advance(PAUSES[argument % PAUSES.length] as number);
    if (kind === LOCAL) return this.#local(held, engine, argument);
    if (kind === LAND) land(held, argument);
    else if (kind === ANSWER) link.answer(argument % 3 === 0 ? ([40, 43, 23, 42][argument % 4] as number) : 0);
    else if (kind === END) {
      if (connection !== undefined) link.end(connection, 22);
    } else if (kind === ACCEPT) remotes[number] = link.accept();
    else if (bytes.length > 0) {
      link.tell({ kind: "message", connection: connection ?? back(held, remotes, number), bytes });
      await held.settle();
      if (!parses(bytes)) assert.ok(!link.live.has(remotes[number] as number), "bytes that do not parse end the connection");
      return;
    }
    return held.settle();
  }

  /** The local engine goes on meanwhile. */
  async #local(held: HeldNode, engine: Engine, argument: number): Promise<void> {
    const { session, model } = engine;
    try {
      if (this.#profilesFor !== undefined && argument >= 96) await moveOwn(engine, argument);
      else if (argument % 4 === 0) await session.alloc(1 + (argument % 7));
      else if (argument % 4 === 1) await session.withdraw(OFFER);
      else if (argument % 4 === 2) await session.lease(model, 0, keysOf(1, 2), true);
      else await session.unregisterBuffer(BUFFER);
    } catch (error) {
      assert.ok(error instanceof KvferryError && error.code !== "internal", (error as Error).stack);
    }
    await held.settle();
  }

  close(): void {}
}

/** A push to who is configured, or a fetch from there, of blocks of the engine's own. */
async function moveOwn({ session, model, moved }: Engine, argument: number): Promise<void> {
  const peer = "b";
  const blocks = await session.alloc(2);
  for (const id of blocks.ids) moved.add(id);
  const position = [undefined, 0, 16][argument % 3];
  const at = position === undefined ? {} : { position };
  if (argument % 2 === 0) await session.push({ ...{ peer, model, group: 0, blocks, tokens: 32, keys: keysOf(20, 2) }, ...at });
  else {
    const source = argument % 5 === 0 ? { handle: OFFER } : { keys: keysOf(30, 2), group: 0, tokens: 32, position };
    await session.fetch({ peer, model, source, into: [{ group: 0, blocks, tokens: 32 }], exact: argument % 7 === 0 });
  }
}

/** Whoever's connection was ended comes back, and says who it was. */
function back({ link }: HeldNode, remotes: (ConnectionId | undefined)[], number: number): ConnectionId {
  const connection = link.accept();
  remotes[number] = connection;
  link.tell({ kind: "message", connection, bytes: encodeMessage(helloOf("a", NODE)) });
  return connection;
}

/** Some chunks of some grant land, as the link would let them: each once. */
function land({ link }: HeldNode, argument: number): void {
  const granted = [...link.placements].filter(([, { spec }]) => spec.direction === "in");
  const found = granted[argument % Math.max(granted.length, 1)];
  if (found === undefined) return;
  const [placement, { spec, committed }] = found;
  const wrong = argument % 5 === 0;
  for (let left = argument % 4 === 0 ? 1 : spec.chunks.length, chunk = 0; chunk < spec.chunks.length && left > 0; chunk++) {
    if (committed.has(chunk)) continue;
    left -= 1;
    if (wrong)
      link.tell({
        kind: "rejected",
        placement,
        chunk,
        lane: 0,
        bytes: spec.chunks[chunk]?.bytes ?? 0,
        code: ERRORS.checksum_mismatch.number,
      });
    else {
      committed.add(chunk);
      link.tell({ kind: "committed", placement, chunk, sequence: 1, lane: 0, bytes: spec.chunks[chunk]?.bytes ?? 0 });
    }
  }
}

function checkPlace(held: HeldNode, engine: Engine, spec: PlacementSpec): void {
  // A registered buffer is there to be read and written; that ranges stay inside it the link has seen.
  if (spec.region !== held.pool.region) return;
  for (const block of spec.blockLists.flatMap((list) => [...list])) {
    const { state, holder } = held.entry(block);
    const isMoved = engine.moved.has(block) && holder === engine.holder;
    if (spec.direction === "in") {
      const isPush = holder === held.node.holder;
      assert.ok(state === STATE.held && (isPush || isMoved), `block ${block} is no place for a push`);
      if (isPush) assert.ok(!losesIn(spec), "what is published under its model's identity lost nothing");
    } else {
      const isOffered = engine.offered.has(block) && holder === engine.holder;
      assert.ok(state === STATE.published || isOffered || isMoved, `block ${block} is nobody's to read`);
    }
  }
}

function losesIn({ coding }: PlacementSpec): boolean {
  return coding?.codecs.some((codec) => codec !== undefined && lossyCodecs.has(codec)) === true;
}

/** What the node says is well-formed, and never that it has a bug. */
function checkSent({ link }: HeldNode): void {
  for (const { bytes } of link.sent.splice(0)) {
    const message = decodeMessage(bytes);
    if (message.kind !== "refuse" && message.kind !== "cancel") continue;
    assert.ok(Object.values(ERRORS).some(({ number }) => number === message.code) || message.code === 0, `code ${message.code}`);
    // A code that this version does not know counts as internal, and is said again when the remote asks how its transfer ended.
    const isEcho = message.kind === "cancel" && message.detail.includes("the transfer has ended here");
    if (!isEcho) assert.notEqual(message.code, ERRORS.internal.number, message.detail);
  }
}

function parses(bytes: Uint8Array): boolean {
  try {
    decodeMessage(bytes);
    return true;
  } catch {
    return false;
  }
}

interface Step {
  readonly kind: number;
  readonly argument: number;
  readonly bytes: Uint8Array;
}

function stepsOf(input: Uint8Array): Step[] {
  const steps: Step[] = [];
  for (let at = 0; at + 4 <= input.length; ) {
    const length = (input[at + 2] as number) + 256 * (input[at + 3] as number);
    steps.push({ kind: (input[at] as number) % KINDS, argument: input[at + 1] as number, bytes: input.subarray(at + 4, at + 4 + length) });
    at += 4 + length;
  }
  return steps;
}

function step(kind: number, argument: number, message?: Message | Uint8Array): Uint8Array {
  const bytes = message === undefined ? new Uint8Array(0) : message instanceof Uint8Array ? message : encodeMessage(message);
  return Buffer.concat([Uint8Array.of(kind, argument, bytes.length & 0xff, bytes.length >> 8), bytes]);
}

/** @param ids of the node's profiles */
function generate(random: Random, pool: readonly Uint8Array[], ids: readonly string[] = []): Uint8Array {
  if (random.chance(1, 15)) return mutate(random.pick(pool), random);
  const steps: Uint8Array[] = [];
  const remotes = random.between(1, REMOTES);
  const hello = (): Message => helloOf(random.pick(["a", "a", "b"]), random.pick(["", NODE]));
  for (let remote = 0; remote < remotes; remote++) steps.push(step(ACCEPT, remote), step(0, remote, hello()));
  for (let left = random.between(1, 16); left > 0; left--) {
    if (ids.length > 0 && random.chance(1, 4)) steps.push(step(LOCAL, random.between(96, 255)), ...answersOf(random, ids));
    else if (random.chance(1, 3)) steps.push(step(random.between(ACCEPT, KINDS - 1), random.below(256)));
    else {
      const said = random.chance(1, 30) ? hello() : saying(random, ids);
      const bytes = framed(random.chance(1, 5) ? mutateValue(said, random, 1) : said) ?? encodeMessage(said);
      const remote = random.below(remotes);
      steps.push(step(random.below(MESSAGES), remote, random.chance(1, 60) ? mutate(bytes, random, 1) : bytes));
      // Most who ask take what they are offered.
      if (said.kind === "fetch" && random.chance(2, 3))
        steps.push(step(0, remote, acceptance(random, ids.length > 0)), step(ANSWER, random.below(256)));
    }
  }
  return Buffer.concat(steps);
}

/** What who was dialled says of a push or a fetch, and what comes of it. */
function answersOf(random: Random, ids: readonly string[]): Uint8Array[] {
  const remote = REMOTES - 1;
  const one = (): Uint8Array => {
    const choice = random.below(5);
    if (choice === 0) return step(LAND, random.below(256));
    if (choice === 1) return step(ANSWER, random.below(256));
    return step(0, remote, choice === 2 ? acceptance(random, true) : choice === 3 ? refusal(random) : answer(random, ids));
  };
  return Array.from({ length: random.between(1, 4) }, one);
}

/** Undefined for what has no form on the wire. */
function framed(message: unknown): Uint8Array | undefined {
  try {
    const bytes = encodeMessage(message as Message);
    return bytes.length <= 0xffff ? bytes : undefined;
  } catch {
    return undefined;
  }
}

/** A push that lands, a fetch of each kind, and the end of it. */
function whole(ids: readonly string[] = []): Uint8Array {
  const random = new Random(1);
  const said = Array.from({ length: 40 }, () => step(0, 0, saying(random, ids)));
  return Buffer.concat([
    step(ACCEPT, 0),
    step(0, 0, helloOf("a")),
    ...said.flatMap((one, at) => (at % 4 === 0 ? [one, step(LAND, at), step(ANSWER, at)] : [one])),
    step(END, 0),
  ]);
}

export const peerSessionTargets: readonly Target[] = [
  {
    name: "peer-session",
    corpus: "peer-session",
    about: "three remotes at a whole node: no block read or written that is not theirs to, typed refusals, nothing held when they are gone",
    skip: "",
    native: false,
    seeds: () => [whole()],
    generate,
    open: async () => new PeerSession(),
  },
  {
    name: "peer-session-profiles",
    corpus: "peer-session",
    about: "the same at a node with profiles, whose engine pushes and fetches, too; what lost something is never placed to be published",
    skip: native === undefined ? `no addon: ${nativeProblem}` : "",
    native: true,
    seeds: () => [whole(profileIds())],
    generate: (random, pool) => generate(random, pool, profileIds()),
    open: async () => new PeerSession(profilesFor),
  },
];
