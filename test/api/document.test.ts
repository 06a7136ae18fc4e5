/**
 * schemas/api.md against the code: every operation, field, event and close code stands in it, its hex is what the
 * codec writes, and a client
 * written from it in another language, without any library, gets its answers.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { z } from "zod";
import { CLOSE } from "../../transport/api/backend.ts";
import { decodeMessage, encodeMessage, type Message } from "../../transport/api/codec.ts";
import { cancelSchema, helloSchema, operations } from "../../transport/api/messages.ts";
import { limits } from "../../transport/limits.ts";
import { kinds, serve } from "./world.ts";

const page = readFileSync(new URL("../../schemas/api.md", import.meta.url), "utf8");

/** What the page says of an operation: from its name in bold to the next one. */
function sectionOf(op: string): string {
  const from = op === "hello" ? page.indexOf("## hello") : page.indexOf(`**${op}**`);
  assert.ok(from >= 0, `${op} is on the page`);
  const rest = page.slice(from + 5);
  const to = op === "hello" ? rest.indexOf("## Requests") : rest.search(/\n(- \*\*|#)/);
  return rest.slice(0, to);
}

function fieldsOf(schema: z.ZodType): readonly string[] {
  const json = z.toJSONSchema(schema, { unrepresentable: "any", io: "input" });
  return Object.keys((json.properties ?? {}) as object);
}

test("every operation and each of its fields is on the page", () => {
  const schemas = {
    ...Object.fromEntries(Object.entries(operations).map(([op, { schema }]) => [op, schema])),
    hello: helloSchema,
    cancel: cancelSchema,
  };
  for (const [op, schema] of Object.entries(schemas)) {
    const section = sectionOf(op);
    for (const field of fieldsOf(schema)) assert.match(section, new RegExp(`\\b${field}\\b`), `${op}.${field}`);
  }
  const named = [...page.matchAll(/^- (?:\*\*(\w+)\*\*, )?\*\*(\w+)\*\*/gm)]
    .flatMap(([, first, second]) => [first, second])
    .filter((op) => op !== undefined);
  assert.deepEqual(named.sort(), [...Object.keys(operations), "cancel"].sort());
});

test("every limit and close code that the page names is the code's", () => {
  for (const number of [
    limits.apiBatchMax,
    limits.apiPendingMax,
    limits.apiConnectionsMax,
    limits.rangesPerTransferMax,
    limits.apiTextCharacters,
  ]) {
    assert.ok(page.includes(number.toLocaleString("en-US")), String(number));
  }
  assert.ok(page.includes(`at most ${limits.apiDepthMax} deep`));
  assert.ok(page.includes(`silent for ${limits.apiIdleSeconds} s`));
  assert.ok(page.includes(`within ${limits.apiHelloTimeoutMs / 1000} s`));
  assert.ok(
    page.includes(`at most ${limits.apiMessageBytes / 2 ** 20} MiB`) && page.includes(`${limits.apiBackpressureBytes / 2 ** 20} MiB wait`),
  );
  for (const code of Object.values(CLOSE)) assert.match(page, new RegExp(`close ${code}\\b`));
});

test("the hex on the page is what the codec writes and reads", () => {
  const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
  const messages: Record<string, Message> = {
    hello: { id: 1, op: "hello", version: 1, client: "py", processId: 4711 },
    alloc: { id: 2, op: "alloc", count: 2 },
    answer: { id: 2, ok: { ids: words(7, 8), generations: words(1, 3) } },
    event: { event: "layer", transfer: 5, layer: 31 },
  };
  for (const [name, message] of Object.entries(messages)) {
    const hex = new RegExp(`^ +${name}: +((?:[0-9a-f]{2} ?)+)$`, "m").exec(page)?.[1];
    assert.ok(hex !== undefined, name);
    const bytes = Buffer.from(hex.replaceAll(" ", ""), "hex");
    assert.equal(Buffer.from(encodeMessage(message)).toString("hex"), bytes.toString("hex"));
    assert.deepEqual(decodeMessage(bytes), message);
  }
});

for (const kind of kinds) {
  test(`${kind}: a client written from the page alone is served`, async (t) => {
    const { host, socket } = await serve(t, kind);
    const client = spawn("python3", [new URL("plain_client.py", import.meta.url).pathname, socket], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => client.kill("SIGKILL"));
    let output = "";
    client.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    const [exitCode] = await once(client, "exit");
    assert.equal(exitCode, 0);
    assert.deepEqual(JSON.parse(output), {
      version: 1,
      pool_bytes: 4 * 2 ** 20 + 2 ** 40,
      ids: [0, 1, 2],
      leased: [0, 1, 2],
      published: {},
      transfer: 1,
      events: ["failed"],
      refused: "message_malformed",
      closed: {},
    });
    assert.equal(host.pool.stats().leased, 0);
  });
}
