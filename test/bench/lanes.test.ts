/**
 * Lanes of a bench. Method: server and client in this process; a relay on the control connection rewrites the port of the link, so that lanes
 * pass the proxy that can cut them in mid-run. Flags that reach sockets are read back from the kernel.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { BenchClient } from "../../bench/client.ts";
import { type BenchDocument, benchDocument } from "../../bench/document.ts";
import { parseOptions, type RawOptions } from "../../bench/options.ts";
import { Output } from "../../bench/output.ts";
import { judge, runBench } from "../../bench/run.ts";
import type { BenchServer } from "../../bench/server.ts";
import { native } from "../../transport/native.ts";
import { type Proxy, startProxy } from "../link/proxy.ts";
import { endBench, serveBench } from "./serving.ts";

const LINK = native === undefined ? "js" : "tcp";
const LANES = 3;

const folder = mkdtempSync(join(tmpdir(), "kvferry-lanes-"));
let server: BenchServer;
before(async () => {
  server = await serveBench();
});
after(async () => {
  await endBench(server);
  rmSync(folder, { recursive: true });
});

/** Between client and server: passes control lines on, and puts a proxy in front of the link as soon as its port is told. */
class Relay {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Socket[] = [];
  proxy: Proxy | undefined;

  static async start(): Promise<Relay> {
    const listener = createServer();
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    return new Relay(listener);
  }

  private constructor(listener: Server) {
    this.#server = listener;
    this.port = (listener.address() as { port: number }).port;
    listener.on("connection", (client) => this.#accept(client));
  }

  #accept(client: Socket): void {
    const upstream = connect(server.port, "127.0.0.1");
    this.#sockets.push(client, upstream);
    client.on("error", () => {}).pipe(upstream.on("error", () => {}));
    upstream.on("close", () => client.destroy());
    createInterface({ input: upstream }).on("line", (line) => void this.#answer(client, line));
  }

  async #answer(client: Socket, line: string): Promise<void> {
    const message = JSON.parse(line) as { result?: { dataPort?: number } | null };
    if (typeof message.result?.dataPort === "number") {
      this.proxy = await startProxy({ host: "127.0.0.1", port: message.result.dataPort });
      message.result.dataPort = this.proxy.endpoint.port;
    }
    client.write(`${JSON.stringify(message)}\n`);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await this.proxy?.close();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

interface Cut {
  readonly document: BenchDocument;
  readonly warnings: readonly string[];
}

/** A run of small chunks over three lanes; `harm` gets at the proxy once each lane has carried some of them while the clock runs. */
async function cutRun(raw: RawOptions, harm: (proxy: Proxy) => void): Promise<Cut> {
  const relay = await Relay.start();
  const options = parseOptions({
    ...{ client: "127.0.0.1", port: String(relay.port), link: LINK, parallel: String(LANES), pool: "4MiB", logfile: join(folder, "log") },
    ...{ blockSize: "16KiB", batchSize: "32", chunk: "16KiB", depth: "4", interval: "0.05", time: "1.5" },
    ...raw,
  });
  const output = new Output(options);
  const warnings: string[] = [];
  output.warn = (text) => void warnings.push(text);
  let isHarmed = false;
  output.interval = ({ streams }) => {
    if (isHarmed || streams.some(({ bytes }) => bytes === 0)) return;
    isHarmed = true;
    harm(relay.proxy!);
  };
  try {
    const context = { version: "test", args: [], environment: {}, command: [], output };
    return { document: await runBench(options, context), warnings };
  } finally {
    output.close();
    await relay.close();
  }
}

for (const [name, raw] of [
  ["write", {}],
  ["read", { reverse: true }],
] as const) {
  test(`${name}: a lane that dies is told, counted, and the rest goes on; every byte is right`, async () => {
    const { document, warnings } = await cutRun(raw, (proxy) => proxy.lane(1).cut());
    benchDocument.parse(document);
    assert.equal(document.error, null, document.error?.message);
    const [result] = document.results;
    assert.deepEqual(result!.fallbacks, [{ from: "3 lanes", to: "2 lanes", reason: "lane 1: lane_lost" }]);
    assert.ok(result!.n_wrong === 0 && result!.verified_bytes > 0 && result!.okay && document.end.okay);
    assert.deepEqual(warnings, ["LANE LOST: lane 1 (lane_lost); 2 of 3 lanes are left"]);
    assert.equal(document.intervals.at(-1)!.streams_open, LANES, "it is back");
    assert.equal(document.end.streams.length, LANES, "what the lost lane has moved is counted");
    assert.equal(document.end.sum_sent.bytes, result!.bytes);
    assert.equal(result!.wire_bytes, null, "its own counter is gone with it");
    assert.equal(judge(parseOptions({}), document), "", "no threshold, no failure");
  });
}

test("all lanes gone: they come back, and every byte is right", async () => {
  const { document, warnings } = await cutRun({ time: "2" }, (proxy) => {
    for (let lane = 0; lane < LANES; lane++) proxy.lane(lane).cut();
  });
  benchDocument.parse(document);
  assert.equal(document.error, null, document.error?.message);
  assert.equal(warnings.length, LANES);
  const [result] = document.results;
  assert.deepEqual([result!.n_wrong, result!.verified_bytes > 0, document.end.okay], [0, true, true]);
  assert.deepEqual(
    result!.fallbacks.map(({ to }) => to),
    ["2 lanes", "1 lanes", "0 lanes"],
  );
  assert.equal(document.intervals.at(-1)!.streams_open, LANES);
});

test("a connection that dies says so itself: its lanes are not blamed", async () => {
  const { document, warnings } = await cutRun({ time: "30" }, (proxy) => proxy.control.cut());
  assert.equal(document.error?.code, "connection_lost");
  // Losses are told a little later, if at all.
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual(warnings, []);
});

test("-w and --dscp reach the sockets of both ends; what the kernel refuses is an error", { skip: native === undefined }, async () => {
  const raw = { client: "127.0.0.1", port: String(server.port), link: "tcp", pool: "256KiB", parallel: "2", blockSize: "4KiB", iters: "2" };
  const options = parseOptions({ ...raw, window: "64KiB", dscp: "af11" });
  const client = await BenchClient.open(options, options.host, options.port);
  try {
    assert.equal(client.laneInfo().length, 2);
    for (const { socket } of client.laneInfo()) {
      assert.equal(socket!.dscp, 10);
      // Linux doubles what it is asked for.
      assert.deepEqual([socket!.sendBufferBytes, socket!.receiveBufferBytes], [131_072, 131_072]);
    }
    // The server has looked at its own sockets before it prepares anything.
    await client.prepare(options.cases[0]!);
  } finally {
    await client.close();
  }
  const refused = (more: RawOptions) => {
    const wrong = parseOptions({ ...raw, ...more });
    return BenchClient.open(wrong, wrong.host, wrong.port);
  };
  await assert.rejects(refused({ congestion: "nosuchthing" }), /unsupported.*-C nosuchthing: the kernel stays with/);
  await assert.rejects(refused({ window: "1GiB" }), /unsupported.*-w 1073741824: the kernel gives/);
  for (const more of [{ congestion: "cubic" }, { window: "64KiB" }, { dscp: "1" }])
    await assert.rejects(refused({ ...more, link: "js" }), /unsupported.*needs --link tcp/);
});
