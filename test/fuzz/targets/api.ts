/**
 * The engine API's parsers, without a server. `api-bytes`: msgpack in, a message out. `api-requests`: what each operation takes for its fields.
 * `api-replies`: what the client takes from a server.
 */
import assert from "node:assert/strict";
import { decodeMessage, encodeMessage, type Message } from "../../../transport/api/codec.ts";
import { cancelSchema, helloSchema, operations, parseFields } from "../../../transport/api/messages.ts";
import { errorOf, eventOf, replies } from "../../../transport/api/replies.ts";
import { scanMessage } from "../../../transport/api/scan.ts";
import { ERRORS, KvferryError } from "../../../transport/errors.ts";
import { limits } from "../../../transport/limits.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import { pureTarget, type Target } from "../target.ts";
import { mutateValue } from "../values.ts";
import { REPLIES, REQUESTS } from "./api-examples.ts";

const SCHEMAS = {
  hello: helloSchema,
  cancel: cancelSchema,
  ...Object.fromEntries(Object.entries(operations).map(([op, { schema }]) => [op, schema])),
};

const bytes: Target = {
  ...pureTarget(
    "api-bytes",
    "decodeMessage of the engine API: a map that encodes to one like it, or message_malformed; and the scanner lets nothing else through",
    () => [...REQUESTS, ...REPLIES].map(encodeMessage),
    (input) => {
      let message: Message;
      try {
        message = decodeMessage(input);
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "message_malformed", (error as Error).stack);
        return;
      }
      assert.equal(scanMessage(input), "");
      assert.ok(countValues(message, 0) <= 2 * limits.apiValuesMax, "no more values than allowed");
      assert.deepEqual(decodeMessage(encodeMessage(message)), message);
    },
  ),
  generate(random, pool) {
    if (random.chance(1, 2)) return mutate(random.pick(pool), random);
    if (random.chance(1, 3)) return packed(random, 0);
    return encoded(random, [...REQUESTS, ...REPLIES]);
  },
};

function countValues(value: unknown, depth: number): number {
  assert.ok(depth <= limits.apiDepthMax, "no deeper than allowed");
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return 1;
  return Object.values(value).reduce<number>((sum, inner) => sum + countValues(inner, depth + 1), 1);
}

/** msgpack of any type byte: lengths that lie, extensions, keys that are no text. */
function packed(random: Random, depth: number): Uint8Array {
  const type = random.chance(1, 3) ? 0x80 + random.below(6) : random.below(256);
  const inner: Uint8Array[] = [];
  const most = depth > 10 ? 0 : depth > 2 ? 1 : 5;
  for (let left = random.between(0, most); left > 0; left--) inner.push(packed(random, depth + 1));
  const length = random.pick([0, 1, 2, 4, 8]);
  return Buffer.concat([Uint8Array.of(type), random.chance(1, 2) ? new Uint8Array(length) : random.bytes(length), ...inner]);
}

function encoded(random: Random, values: readonly Message[]): Uint8Array {
  const changed = mutateValue(random.pick(values), random, 2);
  return encodeMessage(Object(changed) as Message);
}

const requests: Target = {
  ...pureTarget(
    "api-requests",
    "the schema of every operation: frozen fields with every number bounded, or message_malformed in a few words",
    () => REQUESTS.map(encodeMessage),
    (input) => {
      const { op, id: _, ...fields } = decodeMessage(input);
      const schema = typeof op === "string" && Object.hasOwn(SCHEMAS, op) ? SCHEMAS[op as keyof typeof SCHEMAS] : undefined;
      if (schema === undefined) return;
      try {
        const parsed = parseFields(schema, fields);
        assert.ok(Object.isFrozen(parsed), "fields are frozen");
        // A model's layout is a map here, and parsed where it is registered: target `layout`.
        checkFields({ ...(parsed as object), layout: undefined });
      } catch (error) {
        assert.ok(error instanceof KvferryError && error.code === "message_malformed", (error as Error).stack);
        assert.ok(error.message.length < 1_000, "a refusal is short");
      }
    },
  ),
  generate: (random) => encoded(random, REQUESTS),
};

function checkFields(value: unknown): void {
  if (typeof value === "number") assert.ok(Number.isSafeInteger(value) && value >= 0, `the number ${value}`);
  else if (typeof value === "string") assert.ok(value.length <= limits.apiTextCharacters, "a text is bounded");
  else if (value instanceof Uint32Array) assert.ok(value.length <= limits.keyTokensMax, "words are bounded");
  else if (value instanceof Uint8Array) assert.ok(value.length <= 32 * limits.apiBatchMax, "keys are bounded");
  else if (typeof value === "object" && value !== null) for (const inner of Object.values(value)) checkFields(inner);
}

const PARSERS = Object.values(replies) as readonly ((result: Message) => unknown)[];

const answers: Target = {
  ...pureTarget(
    "api-replies",
    "what the client makes of answers, errors and events: typed values whose numbers are numbers, or protocol_error",
    () => REPLIES.map(encodeMessage),
    (input) => {
      const message = decodeMessage(input);
      const event = eventOf(message);
      if (event !== undefined) checkReply(event);
      assert.ok(Object.hasOwn(ERRORS, errorOf(message["error"]).code), "a code of the list");
      const { ok } = message;
      if (typeof ok !== "object" || ok === null) return;
      for (const parse of PARSERS) {
        try {
          checkReply(parse(ok as Message));
        } catch (error) {
          assert.ok(error instanceof KvferryError && error.code === "protocol_error", (error as Error).stack);
        }
      }
    },
  ),
  generate: (random, pool) => (random.chance(1, 6) ? mutate(random.pick(pool), random) : encoded(random, REPLIES)),
};

function checkReply(value: unknown): void {
  if (typeof value === "number") assert.ok(Number.isFinite(value) && value >= 0, `the number ${value}`);
  else if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value))
    for (const inner of Object.values(value)) checkReply(inner);
}

export const apiTargets: readonly Target[] = [bytes, requests, answers];
