/**
 * Hostile clients at the port of a live link. `greeting`: whatever stands where a preamble should. `control`: a control connection's bytes after it.
 * Messages, refusals and ends are what wire.md makes of the bytes. An input's first byte says in what pieces to write the rest.
 */
import assert from "node:assert/strict";
import { KvferryError } from "../../../transport/errors.ts";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import { limits } from "../../../transport/limits.ts";
import { decodePreamble, encodeControl, encodePreamble, type Preamble } from "../../../transport/link/frame.ts";
import type { ConnectionId, Endpoint, LinkEvent } from "../../../transport/link/link.ts";
import { encodeMessage } from "../../../transport/peer/messages.ts";
import { readGolden } from "../../golden/golden.ts";
import { headerOf } from "../../link/raw.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { controlStream } from "./frames.ts";
import { checkAnswers, Client, type Kind, KINDS, pieceBytes, Polled } from "./live.ts";

const TOKEN = new Uint8Array(16).fill(0x5c);
/** A TLS client at a plain listener is told so. */
const HELLO = 22;
const NO_TLS = encodeControl(
  encodeMessage({ kind: "refuse", code: 37, detail: "this node speaks no TLS", version: 1, minVersion: 1, re: 0 }),
  crc32c,
);
const PREAMBLE = encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) });

abstract class ListenerSession implements Session {
  readonly polled: Polled;
  endpoint: Endpoint = { host: "", port: 0 };
  readonly accepted: ConnectionId[] = [];
  readonly ended: (LinkEvent & { kind: "disconnected" })[] = [];
  readonly messages: string[] = [];
  lanesUp = 0;
  lanesDown = 0;

  constructor(kind: Kind) {
    this.polled = new Polled(kind, (event) => this.#handle(event));
  }

  async open(): Promise<this> {
    this.endpoint = await this.polled.link.listen({ host: "127.0.0.1", port: 0 });
    return this;
  }

  abstract run(input: Uint8Array): Promise<void>;

  close(): Promise<void> {
    return this.polled.link.close();
  }

  #handle(event: LinkEvent): void {
    if (event.kind === "accepted") this.accepted.push(event.connection);
    else if (event.kind === "disconnected") this.ended.push(event);
    else if (event.kind === "message") this.messages.push(Buffer.from(event.bytes).toString("hex"));
    else if (event.kind === "laneUp") this.lanesUp += 1;
    else if (event.kind === "laneDown") this.lanesDown += 1;
  }
}

class GreetingSession extends ListenerSession {
  #control: Client | undefined;

  override async open(): Promise<this> {
    await super.open();
    this.#control = await Client.dial(this.endpoint);
    this.#control.say(PREAMBLE);
    await this.polled.until(() => this.accepted.length === 1);
    this.polled.link.admitLanes(this.accepted[0] as number, TOKEN);
    return this;
  }

  async run(input: Uint8Array): Promise<void> {
    const stream = input.subarray(1);
    const preamble = judge(stream);
    const before = { accepted: this.accepted.length, lanesUp: this.lanesUp };
    const client = await Client.dial(this.endpoint);
    client.say(stream, pieceBytes(input));
    if (stream[0] === HELLO) checkAnswers(await client.rest(), [NO_TLS], true);
    else if (preamble === undefined) client.reset();
    else if (preamble === "wrong") assert.equal((await client.rest()).length, 0, "closed without a word");
    else if (preamble.version !== 1) {
      const refusal = readGolden("control").find(({ name }) => name === "control-refuse-version")?.bytes ?? new Uint8Array(0);
      checkAnswers(await client.rest(), preamble.kind === "control" ? [refusal] : [], preamble.kind !== "control");
    } else if (preamble.kind === "control") {
      await this.polled.until(() => this.accepted.length > before.accepted);
      client.reset();
      await this.polled.until(() => this.ended.length === this.accepted.length - 1);
    } else if (Buffer.compare(preamble.token, TOKEN) !== 0) {
      // It waits for somebody to admit it, without a word; who greets behind it is heard.
      const behind = await Client.dial(this.endpoint);
      behind.say(PREAMBLE);
      await this.polled.until(() => this.accepted.length > before.accepted);
      behind.reset();
      await this.polled.until(() => this.ended.length === this.accepted.length - 1);
      assert.equal(client.isClosed, false, "it is let wait");
    } else if (preamble.lane < limits.lanesMax) {
      checkAnswers(await client.take(48), [headerOf({ type: "pong" })], true);
      client.reset();
      await this.polled.until(() => this.lanesUp === before.lanesUp + 1 && this.lanesDown === this.lanesUp);
    } else assert.equal((await client.rest()).length, 0, "closed without a word");
    client.reset();
    const isGreeted = typeof preamble === "object" && preamble.version === 1;
    const accepts = isGreeted && (preamble.kind === "control" || Buffer.compare(preamble.token, TOKEN) !== 0);
    assert.equal(this.accepted.length, before.accepted + (accepts ? 1 : 0), "connections accepted");
  }

  override close(): Promise<void> {
    assert.equal(this.#control?.isClosed, false, "the first connection outlives all others");
    this.#control.reset();
    return super.close();
  }
}

function judge(stream: Uint8Array): Preamble | "wrong" | undefined {
  try {
    return decodePreamble(stream);
  } catch (error) {
    if (error instanceof KvferryError) return "wrong";
    throw error;
  }
}

class ControlSession extends ListenerSession {
  async run(input: Uint8Array): Promise<void> {
    const stream = input.subarray(1);
    const { messages, isBroken } = messagesOf(stream);
    this.messages.length = 0;
    const client = await Client.dial(this.endpoint);
    client.say(PREAMBLE);
    client.say(stream, pieceBytes(input));
    const number = this.ended.length;
    await this.polled.until(() => this.messages.length >= messages.length);
    // After a message of ours the connection is known to have read as far as it could: nothing more is coming but its end.
    if (isBroken) await client.rest();
    client.reset();
    await this.polled.until(() => this.ended.length > number);
    assert.deepEqual(this.messages, messages);
    assert.equal(this.ended.at(-1)?.code, isBroken ? 32 : 22);
    this.accepted.length = 0;
    this.ended.length = 0;
  }
}

/** wire.md's control framing of somebody whom nobody admits, the whole stream at once. */
function messagesOf(stream: Uint8Array): { readonly messages: string[]; readonly isBroken: boolean } {
  const messages: string[] = [];
  const view = new DataView(stream.buffer, stream.byteOffset, stream.length);
  for (let at = 0; stream.length - at >= 8; ) {
    const bytes = view.getUint32(at, true);
    if (bytes === 0 || bytes > limits.greetingMessageBytes) return { messages, isBroken: true };
    if (stream.length - at - 8 < bytes) break;
    const message = stream.subarray(at + 8, at + 8 + bytes);
    if (crc32c(message) !== view.getUint32(at + 4, true)) return { messages, isBroken: true };
    messages.push(Buffer.from(message).toString("hex"));
    at += 8 + bytes;
  }
  return { messages, isBroken: false };
}

function generateGreeting(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  const choice = random.chance(1, 3) ? random.pick([0, 0, 1, 63, 64, 65_535]) : random.below(70);
  const right = encodePreamble({ version: random.chance(1, 6) ? random.below(256) : 1, kind: "lane", lane: choice, token: TOKEN });
  const base = random.chance(1, 2) ? random.pick(pool).slice(1) : right;
  const changed = random.chance(2, 3) ? mutate(base, random, 2) : base;
  if (changed.length >= 48 && random.chance(3, 4)) {
    new DataView(changed.buffer, changed.byteOffset).setUint32(44, crc32c(changed.subarray(0, 44)), true);
  }
  return Uint8Array.of(random.below(256), ...changed);
}

export const controlTargets: readonly Target[] = KINDS.flatMap((kind): Target[] => [
  {
    name: `${kind.name}-greeting`,
    corpus: "greeting",
    about: "whatever stands where a preamble should, at a live listener: closed, refused or taken as wire.md says",
    skip: kind.skip,
    native: kind.native,
    seeds: () => readGolden("preamble").map(({ bytes }) => Uint8Array.of(255, ...bytes)),
    generate: generateGreeting,
    open: () => new GreetingSession(kind).open(),
  },
  {
    name: `${kind.name}-control`,
    corpus: "control",
    about: "a control connection's bytes at a live listener: the messages and the end that wire.md says",
    skip: kind.skip,
    native: kind.native,
    seeds: () => readGolden("control").map(({ bytes }) => Uint8Array.of(255, ...bytes)),
    generate: (random, pool) => Buffer.concat([Uint8Array.of(random.below(256)), ...controlStream(random, pool)]),
    open: () => new ControlSession(kind).open(),
  },
]);
