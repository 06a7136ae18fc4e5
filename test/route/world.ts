/** A proxy in this process with fake engines around it, and a client that sees bytes. */
import assert from "node:assert/strict";
import { type IncomingHttpHeaders, request as httpRequest } from "node:http";
import type { TestContext } from "node:test";
import { setTimeout } from "node:timers/promises";
import { routeConfigOf } from "../../transport/config/route.ts";
import type { RouteInput } from "../../transport/config/route-schema.ts";
import { RouteServer } from "../../transport/route/server.ts";
import { type Behaviour, FakeEngine } from "./fake-engine.ts";

const METRIC_WAIT_MS = 2_000;

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Its end was missing. */
  readonly isCutOff: boolean;
}

export interface Ask {
  readonly method?: string;
  readonly headers?: Record<string, string | string[]>;
  readonly signal?: AbortSignal;
  readonly onData?: (piece: string) => void;
}

export interface Line {
  readonly level: string;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

export class World {
  readonly server: RouteServer;
  readonly prefill: readonly FakeEngine[];
  readonly decode: readonly FakeEngine[];
  readonly lines: Line[];
  readonly port: number;

  constructor(server: RouteServer, prefill: readonly FakeEngine[], decode: readonly FakeEngine[], lines: Line[], port: number) {
    this.server = server;
    this.prefill = prefill;
    this.decode = decode;
    this.lines = lines;
    this.port = port;
  }

  ask(path: string, body: string | Buffer = "", { method = "POST", headers = {}, signal, onData }: Ask = {}): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const sent = {
        ...(body.length > 0 ? { "content-type": "application/json", "content-length": String(Buffer.byteLength(body)) } : {}),
        ...headers,
      };
      const options = {
        host: "127.0.0.1",
        port: this.port,
        path,
        method,
        headers: sent,
        agent: false,
        ...(signal === undefined ? {} : { signal }),
      };
      const outgoing = httpRequest(options, (response) => {
        const pieces: Buffer[] = [];
        response.on("data", (piece: Buffer) => {
          pieces.push(piece);
          onData?.(piece.toString("utf8"));
        });
        response.on("error", () => {});
        response.once("close", () =>
          resolve({
            status: response.statusCode!,
            headers: response.headers,
            body: Buffer.concat(pieces).toString("utf8"),
            isCutOff: !response.complete,
          }),
        );
      });
      outgoing.once("error", reject);
      outgoing.end(body);
    });
  }

  /** Waits for a line of the metrics: what a client sees of its end comes before what is counted. */
  async metric(line: string): Promise<void> {
    let text = "";
    for (const endMs = Date.now() + METRIC_WAIT_MS; Date.now() < endMs; await setTimeout(10)) {
      text = (await this.server.metrics.scrape()).text;
      if (text.split("\n").includes(line)) return;
    }
    assert.fail(`${line}\n${text}`);
  }

  said(message: RegExp): Line[] {
    return this.lines.filter((line) => message.test(line.message));
  }
}

export async function makeWorld(
  t: TestContext,
  engines: { readonly prefill: readonly Behaviour[]; readonly decode: readonly Behaviour[] },
  input: RouteInput = {},
): Promise<World> {
  const start = (behaviours: readonly Behaviour[]) => Promise.all(behaviours.map((behaviour) => new FakeEngine(behaviour).start()));
  const [prefill, decode] = [await start(engines.prefill), await start(engines.decode)];
  const lines: Line[] = [];
  const add = (level: string) => (fields: object, message: string) => void lines.push({ level, message, fields: { ...fields } });
  const log = { debug: add("debug"), info: add("info"), warn: add("warn"), error: add("error") };
  const urls = { prefill: prefill.map(({ url }) => url), decode: decode.map(({ url }) => url) };
  const server = new RouteServer(routeConfigOf({ listen: "127.0.0.1:0", ...urls, ...input }), log);
  const port = await server.listen();
  t.after(async () => {
    await server.stop(0);
    await Promise.all([...prefill, ...decode].map((engine) => engine.stop()));
    assert.equal(server.running, 0);
    assert.match((await server.metrics.scrape()).text, /^kvferry_route_body_bytes_held 0$/m);
    const outstanding = (await server.metrics.scrape()).text.match(/^kvferry_route_engine_outstanding\{.*\} [^0]\d*$/gm) ?? [];
    assert.deepEqual(outstanding, [], "every request that began at an engine has ended there");
    assert.deepEqual(
      lines.filter(({ level }) => level === "error"),
      [],
    );
  });
  return new World(server, prefill, decode, lines, port);
}
