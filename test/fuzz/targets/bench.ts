/**
 * The bench's control connection: lines of JSON from whoever reaches the port. `bench-calls` and `bench-replies` are the parsers of either edge;
 * `bench-server` is a live server, and a client that says anything. An input is lines; its first byte says how they are said.
 */
import assert from "node:assert/strict";
import { Duplex } from "node:stream";
import type { Socket } from "node:net";
import { CONTROL_VERSION, parseCall, replies } from "../../../bench/calls.ts";
import { Control } from "../../../bench/control.ts";
import { type BenchServer, startServer } from "../../../bench/server.ts";
import { ERRORS, KvferryError } from "../../../transport/errors.ts";
import { encodePreamble } from "../../../transport/link/frame.ts";
import { native } from "../../../transport/native.ts";
import { cross, mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import { pureTarget, type Session, type Target } from "../target.ts";
import { mutateValue } from "../values.ts";
import { Client } from "./live.ts";

const POOL_BYTES = 262_144;
const TOKEN = "00112233445566778899aabbccddeeff";
const WORKLOAD = { blockBytes: 1_024, batch: 16, chunkBytes: 4_096, poolBytes: POOL_BYTES, seed: 5 };
const SLICE = { model: "smollm2-135m", tokens: 8, tensorParallel: 3, blockTokens: 4 };
const LAYOUTS = { slice: SLICE, local: { order: "nhd", blockTokens: 4 }, remote: { order: "hnd", blockTokens: 8 } };

const OPEN = { call: "open", version: CONTROL_VERSION, link: "js", ioThreads: 1, poolBytes: POOL_BYTES, token: TOKEN, dataPort: 0 };
const PREPARE = { call: "prepare", workload: WORKLOAD, write: true, read: true, checksum: true };
const PREPARE_KV = { ...PREPARE, workload: { ...WORKLOAD, poolBytes: POOL_BYTES, layouts: LAYOUTS } };
const ADMIT = { call: "admit" };
const USE = { call: "use" };
const END_CASE = { call: "endCase" };
const FILL = { call: "fill", seed: 7, slots: [0, 1, 2] };
const POISON = { call: "poison", slots: [1] };
const CHECK = { call: "check", seed: 7, slots: [0], digests: [] };
const CHECK_DIGESTS = { call: "check", seed: 7, slots: [0], digests: [["a".repeat(44), "b".repeat(44)]] };
const CALLS: readonly object[] = [OPEN, ADMIT, PREPARE, PREPARE_KV, FILL, POISON, CHECK, CHECK_DIGESTS, USE, END_CASE, { call: "end" }];
const SCRIPTS: readonly (readonly object[])[] = [
  [OPEN, ADMIT, PREPARE, FILL, POISON, CHECK, USE, END_CASE, PREPARE, { call: "end" }],
  [OPEN, PREPARE_KV, FILL, CHECK_DIGESTS, END_CASE, PREPARE],
  [{ ...OPEN, link: "tcp" }, ADMIT, PREPARE, CHECK, USE],
];
const REPLIES: readonly object[] = [
  { result: { link: "js", dataPort: 5_201, version: "0.1.0", systemInfo: "Linux" } },
  { result: { verifiedBytes: 4_096, wrong: 0 } },
  { result: { cpuUserSeconds: 0.5, cpuSystemSeconds: 0.25, mainThreadSeconds: null, residentBytes: 1e8, retries: 0 } },
  { result: null },
  { error: { number: 7, detail: "8 clients wait already" } },
];

const encoder = new TextEncoder();
const linesOf = (first: number, values: readonly object[]): Uint8Array =>
  Uint8Array.of(first, ...encoder.encode(values.map((value) => `${JSON.stringify(value)}\n`).join("")));

/** One of these, changed as a value or as text. */
function changed(random: Random, values: readonly object[]): Uint8Array {
  const value = random.pick(values);
  const text = encoder.encode(JSON.stringify(random.chance(4, 5) ? mutateValue(value, random) : value));
  return random.chance(1, 5) ? mutate(text, random, 2) : text;
}

const calls: Target = {
  ...pureTarget(
    "bench-calls",
    "parseCall: a call whose numbers are bounded and that parses to itself again, or protocol_error or version_unsupported",
    () => CALLS.map((call) => encoder.encode(JSON.stringify(call))),
    (input) => {
      const value = jsonOf(input);
      if (typeof value !== "object" || value === null) return;
      try {
        const call = parseCall(value);
        assert.deepEqual(parseCall(JSON.parse(JSON.stringify(call))), call);
        if (call.call === "open")
          assert.ok(call.poolBytes <= 64 * 2 ** 30 && call.dataPort < 65_536 && call.token.length === 32, "an open is bounded");
        if ("slots" in call) assert.ok(call.slots.length <= 65 && call.slots.every((slot) => slot >= 0 && slot <= 64), "slots are bounded");
      } catch (error) {
        assert.ok(error instanceof KvferryError && ["protocol_error", "version_unsupported"].includes(error.code), String(error));
        assert.ok(error.message.length < 1_000, "what is said of a stranger's call is short");
      }
    },
  ),
  generate: (random) => changed(random, CALLS),
};

function jsonOf(input: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(input).toString("utf8"));
  } catch {
    return undefined;
  }
}

/** A socket whose other end is the input. */
class SaidSocket extends Duplex {
  setNoDelay(): this {
    return this;
  }
  override _read(): void {}
  override _write(_chunk: unknown, _encoding: string, done: () => void): void {
    done();
  }
}

class RepliesSession implements Session {
  async run(input: Uint8Array): Promise<void> {
    const socket = new SaidSocket();
    const control = new Control(socket as unknown as Socket);
    let farewell: KvferryError | undefined;
    control.onFarewell = (error) => {
      farewell = error;
    };
    const take = [replies.open, replies.check, replies.use, replies.nothing][(input[0] ?? 0) % 4] as (result: unknown) => unknown;
    const answer = control.call({ call: "use" }, take).catch((error: unknown) => error);
    socket.push(input.subarray(1));
    // A second answer comes when nobody asks: the server's farewell, or the end.
    socket.push(null);
    const result = await answer;
    if (result instanceof Error) assert.ok(result instanceof KvferryError, result.stack);
    assert.ok(farewell === undefined || farewell instanceof KvferryError, "a farewell is an error of the list");
    socket.destroy();
    await control.closed;
  }

  close(): void {}
}

const answers: Target = {
  name: "bench-replies",
  corpus: "bench-replies",
  about: "the bench client's end of the control connection: a typed result or KvferryError for whatever a server says",
  skip: "",
  native: false,
  seeds: () => REPLIES.map((reply, at) => linesOf(at, [reply])),
  generate: (random) => Buffer.concat([Uint8Array.of(random.below(256)), ...severalLines(random, REPLIES)]),
  open: async () => new RepliesSession(),
};

function* severalLines(random: Random, values: readonly object[]): Generator<Uint8Array> {
  for (let left = random.between(1, 3); left > 0; left--) {
    yield changed(random, values);
    yield Uint8Array.of(10);
  }
}

class ServerSession implements Session {
  #server: BenchServer | undefined;
  #onGone: () => void = () => {};

  async open(): Promise<this> {
    const say = (line: string): void => {
      if (line === "client gone") this.#onGone();
    };
    this.#server = await startServer({ bind: "127.0.0.1", port: 0, oneOff: false, version: "fuzz", say });
    return this;
  }

  async run(input: Uint8Array): Promise<void> {
    const port = (this.#server as BenchServer).port;
    const client = await Client.dial({ host: "127.0.0.1", port });
    const gone = new Promise<void>((resolve) => {
      this.#onGone = resolve;
    });
    const lines = Buffer.from(input.subarray(1)).toString("latin1").split("\n").map(affordable);
    const links: Client[] = [];
    // Rude clients do not wait for answers.
    if ((input[0] ?? 0) < 64) client.say(encoder.encode(lines.join("\n")), input.length < 5_000 ? 1 + (input[0] ?? 0) * 16 : 0);
    else for (const line of lines) if (!(await this.#ask(client, line, links))) break;
    client.reset();
    await gone;
    for (const link of links) link.reset();
  }

  /** False: closed. */
  async #ask(client: Client, line: string, links: Client[]): Promise<boolean> {
    if (line === "") return true;
    client.say(Buffer.from(`${line}\n`, "latin1"));
    const text = Buffer.from(await client.line()).toString("utf8");
    if (text === "") return false;
    const answer = JSON.parse(text) as { result?: { dataPort?: number } | null; error?: { number: number; detail: string } };
    if (answer.error !== undefined) {
      const { number, detail } = answer.error;
      assert.ok(
        Object.values(ERRORS).some((error) => error.number === number),
        `error ${number} is in the list`,
      );
      assert.notEqual(number, ERRORS.internal.number, `a bug: ${detail}`);
      assert.ok(detail.length < 1_000, "a refusal is short");
      return true;
    }
    assert.ok("result" in answer, "an answer is a result or an error");
    const dataPort = answer.result?.dataPort;
    if (dataPort === undefined) return true;
    // As the real client does: its link connects, so that prepare need not wait for it.
    const link = await Client.dial({ host: "127.0.0.1", port: dataPort });
    link.say(encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) }));
    links.push(link);
    return true;
  }

  async close(): Promise<void> {
    this.#server?.close();
    await this.#server?.done;
  }
}

/** The server may well give gigabytes away if there are any: thousands of inputs a second must not ask for them. */
function affordable(line: string): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return line;
  }
  const { call, poolBytes } = Object(value) as { call?: unknown; poolBytes?: unknown };
  if (call !== "open" || typeof poolBytes !== "number" || poolBytes <= POOL_BYTES || poolBytes > 2 ** 36) return line;
  return JSON.stringify({ ...(value as object), poolBytes: POOL_BYTES });
}

const server: Target = {
  name: "bench-server",
  corpus: "bench-server",
  about: "a live bench server: every line is answered with a result or a code other than internal, or the connection is closed",
  skip: "",
  native: native !== undefined,
  seeds: () =>
    SCRIPTS.filter((script) => native !== undefined || !JSON.stringify(script).includes("tcp")).map((script) => linesOf(255, script)),
  generate(random, pool) {
    if (random.chance(1, 8)) return mutate(random.pick(pool), random);
    if (random.chance(1, 10)) return cross(random.pick(pool), random.pick(pool), random);
    const script = random.pick(SCRIPTS).flatMap((call) => {
      if (random.chance(1, 12)) return [];
      const said = random.chance(1, 6) ? (mutateValue(call, random, 2) as object) : call;
      return random.chance(1, 12) ? [random.pick(CALLS), said] : [said];
    });
    return linesOf(random.chance(1, 10) ? random.below(64) : 255, script);
  },
  open: () => new ServerSession().open(),
};

export const benchTargets: readonly Target[] = [calls, answers, server];
