/** The bench's way: what its server says of it, and what the flags make of it. Method: a server in this process, real links; words by hand. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { BenchClient } from "../../bench/client.ts";
import { parseOptions, type RawOptions } from "../../bench/options.ts";
import type { BenchServer } from "../../bench/server.ts";
import { parseWord, wishOf, wordBytes } from "../../bench/way.ts";
import { native } from "../../transport/native.ts";
import { endBench, serveBench } from "./serving.ts";

const LINKS = native === undefined ? ["js"] : ["tcp", "js"];

let server: BenchServer;
before(async () => {
  server = await serveBench();
});
after(() => endBench(server));

test("words of the server: what it wishes; anything else is refused", () => {
  assert.deepEqual(parseWord(wordBytes({ lanes: 8, lost: [3] })), { lanes: 8, lost: [3] });
  for (const text of ["", "{", "null", '{"lanes":65,"lost":[]}', '{"lanes":1}', '{"state":{}}', '{"lanes":1,"lost":[],"more":1}'])
    assert.throws(() => parseWord(Buffer.from(text)), { code: "protocol_error" }, text);
});

test("flags: lanes and chunks by the path unless they are given; loopback is known", () => {
  const wish = (raw: RawOptions) => wishOf(parseOptions(raw));
  assert.deepEqual(
    [{}, { parallel: "3" }, { client: "example.org" }].map((raw) => [wish(raw).lanes, wish(raw).isLocal]),
    [
      [0, true],
      [3, true],
      [0, false],
    ],
  );
  assert.equal(wish({ bitrate: "100M" }).rateBytesPerSecond, 12.5e6);
});

for (const link of LINKS) {
  test(`${link}: who sends says what it decided: this end of what it pushes, the server of what it is asked for`, async () => {
    const raw = { link, client: "127.0.0.1", port: String(server.port), pool: "4MiB", blockSize: "16KiB", batchSize: "8", bidir: true };
    const options = parseOptions({ ...raw, bitrate: "400M" });
    const client = await BenchClient.open(options, options.host, options.port);
    try {
      await client.prepare(options.cases[0]!);
      // Each reading of the server's is a word of it.
      for (const deadlineMs = performance.now() + 20_000; client.told === undefined; ) {
        assert.ok(performance.now() < deadlineMs, "the server says nothing");
        await client.window({ requests: 4 });
      }
      for (const sender of [true, false]) {
        const { lanesActive, paceBytesPerSecond, windowBytes, reasons } = client.way(sender);
        assert.deepEqual([client.lanesUp, lanesActive, paceBytesPerSecond, windowBytes > 0], [4, 4, 50e6, true]);
        assert.equal(reasons.pace, "the cap of the peer");
        for (const reason of Object.values(reasons)) assert.notEqual(reason, "");
      }
      assert.equal(client.told.retransmits === null, link !== "tcp");
    } finally {
      await client.close();
    }
  });
}
