/**
 * A peer that has made its handshake and says any records after it, at a live native link: content in pieces, padded, empty, under keys that change, of
 * types and lengths that have no place there, forged, left out, cut off. What is authentic and in order arrives, all of it, up to the first record that is
 * not; that one ends the connection, and nothing behind it counts. An input is a list of steps of three bytes: what, how much, padding.
 */
import assert from "node:assert/strict";
import { encodeControl, encodePreamble } from "../../../transport/link/frame.ts";
import type { Endpoint } from "../../../transport/link/link.ts";
import { createTcpLink } from "../../../transport/link/tcp.ts";
import { native, nativeProblem } from "../../../transport/native.ts";
import { tlsMaterial } from "../../link/certificates.ts";
import { ALERT, DATA, dialRecords, HANDSHAKE, headOf, type RecordPeer } from "../../link/records.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { type Kind, Polled } from "./live.ts";

const STEPS_MAX = 120;
const STEP_BYTES = 3;
/** As native/tcp/tls_stream.cpp has it: records without content that those with some have not made up for. */
const IDLE_MAX = 32;
const MESSAGE_BYTES = 997;

const tls = tlsMaterial();
const kind: Kind = {
  name: "tcp",
  native: true,
  skip: native === undefined ? `no addon: ${nativeProblem}` : "",
  make: (onWake) => createTcpLink({ onWake, ioThreads: 1, tls }),
};

const PREAMBLE = encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) });
/** What is said in pieces of any length: messages that are told apart by their first two bytes. */
const STREAM = Buffer.concat(Array.from({ length: 2_000 }, (_, index) => encodeControl(messageOf(index))));
const FRAMED_BYTES = MESSAGE_BYTES + 8;

function messageOf(index: number): Uint8Array {
  const message = new Uint8Array(MESSAGE_BYTES).fill(index);
  message[0] = index & 255;
  message[1] = index >> 8;
  return message;
}

/** What the other end makes of it so far. */
interface Course {
  saidBytes: number;
  idle: number;
  /** Something came that ends it. */
  isOver: boolean;
  /** It knows by itself: else it waits for more. */
  isTold: boolean;
}

class RecordSession implements Session {
  readonly #listener: Polled;
  readonly #cleanups: (() => void)[] = [];
  #endpoint: Endpoint = { host: "", port: 0 };
  #accepted = 0;
  #ended = 0;
  #heard: number[] = [];

  constructor() {
    this.#listener = new Polled(kind, (event) => {
      if (event.kind === "accepted") this.#accepted += 1;
      else if (event.kind === "disconnected") this.#ended += 1;
      else if (event.kind === "message") {
        const index = (event.bytes[0] as number) + (event.bytes[1] as number) * 256;
        assert.equal(Buffer.compare(event.bytes, messageOf(index)), 0, "a message is what was said");
        this.#heard.push(index);
      }
    });
  }

  async open(): Promise<this> {
    this.#endpoint = await this.#listener.link.listen({ host: "127.0.0.1", port: 0 });
    return this;
  }

  async run(input: Uint8Array): Promise<void> {
    [this.#accepted, this.#ended, this.#heard] = [0, 0, []];
    const peer = await dialRecords({ after: (cleanup) => this.#cleanups.push(cleanup as () => void) }, this.#endpoint, tls);
    try {
      peer.say(PREAMBLE);
      await this.#listener.until(() => this.#accepted === 1);
      const course: Course = { saidBytes: 0, idle: 0, isOver: false, isTold: false };
      const steps = Math.min(Math.floor(input.length / STEP_BYTES), STEPS_MAX);
      for (let step = 0; step < steps && !course.isOver; step++) {
        const [what, amount, padding] = input.subarray(step * STEP_BYTES) as unknown as [number, number, number];
        take(peer, course, what, amount, padding);
      }
      // Whatever it is, nothing of what follows is heard once it is over.
      if (course.isOver && course.isTold) peer.say(STREAM.subarray(course.saidBytes, course.saidBytes + 5_000));
      else peer.finish();
      await this.#listener.until(() => this.#ended === 1);
      const whole = Math.floor(course.saidBytes / FRAMED_BYTES);
      assert.deepEqual(this.#heard, [...Array(whole).keys()], "every message that was whole, and no other");
    } finally {
      for (const cleanup of this.#cleanups.splice(0)) cleanup();
    }
  }

  async close(): Promise<void> {
    await this.#listener.link.close();
  }
}

/** One step: says it, and what it must come to. */
function take(peer: RecordPeer, course: Course, what: number, amount: number, padding: number): void {
  const end = (isTold = true): void => {
    course.isOver = true;
    course.isTold = isTold;
  };
  const idle = (): void => {
    if (++course.idle > IDLE_MAX) end();
  };
  const bytes = Math.min(1 + amount * (what & 0x40 ? 64 : 3), STREAM.length - course.saidBytes);
  const content = STREAM.subarray(course.saidBytes, course.saidBytes + bytes);
  switch (what % 16) {
    case 0:
      peer.say(new Uint8Array(0), { padding });
      return idle();
    case 1:
      peer.changeKey(amount % 2 === 1);
      return idle();
    case 2:
      peer.say(content, { type: Math.max(amount, 1) });
      // 0 would be padding. 21 and 22 are no alert and no message with such content.
      if (amount === DATA) return said(course, bytes);
      return end();
    case 3:
      peer.say(Uint8Array.of(2, amount), { type: ALERT });
      return end();
    case 4:
      peer.say(Uint8Array.of(amount, 0, 0, 1, 2), { type: HANDSHAKE });
      return end();
    case 5: {
      const record = peer.seal(content);
      const at = (amount * 256 + padding) % record.length;
      record[at] = (record[at] as number) ^ (1 << (padding % 8));
      peer.sayRaw(record);
      // A longer record than there is is waited for.
      return end(at !== 3 && at !== 4);
    }
    case 6:
      peer.sayRaw(peer.seal(content).subarray(0, amount));
      return end(false);
    case 7:
      peer.seal(content);
      peer.say(content);
      return end();
    case 8:
      peer.sayRaw(Buffer.concat([headOf(amount * 256 + padding), Buffer.alloc(amount * 256 + padding)]));
      return end();
    default:
      peer.say(content, { padding: content.length + padding > 16_384 ? 0 : padding });
      return said(course, bytes);
  }
}

function said(course: Course, bytes: number): void {
  course.saidBytes += bytes;
  course.idle = Math.max(0, course.idle - 1);
}

/** Mostly what goes on. */
function generate(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  if (random.chance(1, 8)) return random.pick(pool);
  const steps = Array.from({ length: random.between(1, STEPS_MAX) }, () => {
    const what = random.chance(1, 30) ? random.below(9) : random.pick([0, 1, 9, 10, 11]);
    return [what + 16 * random.below(16), random.below(256), random.chance(1, 2) ? 0 : random.below(256)];
  });
  return Uint8Array.from(steps.flat());
}

/** Each kind of step, between two that are well. */
const seeds = (): Uint8Array[] => Array.from({ length: 10 }, (_, what) => Uint8Array.of(9, 20, 0, what, 23, 5, 9, 200, 0));

export const tlsRecordTargets: readonly Target[] = [
  {
    name: "tcp-tls-records",
    corpus: "tls-records",
    about: "any records behind a handshake, at a live listener: what is authentic and in order arrives, the first that is not is the end",
    skip: kind.skip,
    native: true,
    seeds,
    generate,
    open: () => new RecordSession().open(),
  },
];
