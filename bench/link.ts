/**
 * The link by itself, without sessions and sidecars: two processes, the canonical workload (8,192 blocks of 32 KiB at scattered places of two
 * pools of 1 GiB, 256 MiB a request) and the latency of one 4 KiB block on a standing grant. Runs alternate with the C yardstick, because two
 * minutes of a shared machine are not alike. One JSON line a run, and one with the ratios of the medians.
 *
 *   node --import tsx bench/link.ts [--lanes 4] [--rounds 5] [--seconds 2] [--io 2] [--window 64] [--crc both|on|off] [--link tcp|js] [--samples 4000]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, unlinkSync } from "node:fs";
import { parseArgs } from "node:util";
import type { ChunkSpan, ConnectionId, Link, LinkEvent, PlacementId, Plane } from "../transport/link/link.ts";
import { limits } from "../transport/limits.ts";
import { createPoolRegion, type Region } from "../transport/memory/region.ts";
import { shuffled } from "./random.ts";
import { buildYardstick, runYardstick } from "./yardstick.ts";

const POOL_BYTES = 2 ** 30;
const BLOCK_BYTES = 32 * 1024;
const REQUEST_BLOCKS = 8_192;
const CHUNK_BYTES = limits.chunkBytesDefault;
const SMALL_BYTES = 4_096;
const TOKEN = new Uint8Array(16).fill(0x6b);

interface Command {
  readonly say: "place" | "placed" | "revoke" | "cpu" | "end";
  readonly seed?: number;
  readonly grant?: number;
  readonly small?: boolean;
  readonly checksum?: boolean;
  readonly cpuSeconds?: number;
}

const { values: options } = parseArgs({
  options: {
    lanes: { type: "string", default: "4" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "2" },
    io: { type: "string", default: "2" },
    window: { type: "string", default: "64" },
    crc: { type: "string", default: "both" },
    link: { type: "string", default: "tcp" },
    samples: { type: "string", default: "4000" },
    pace: { type: "string", default: "0" },
    congestion: { type: "string", default: "" },
    low: { type: "string", default: String(limits.notSentLowBytes) },
    yardstick: { type: "string", default: "on" },
    server: { type: "boolean", default: false },
  },
});
const lanes = Number(options.lanes);

/** One end: a link, a pool, and the events that somebody waits for. */
class End {
  readonly link: Link;
  readonly region: Region;
  connection: ConnectionId = 0;
  onEvent: (event: LinkEvent) => void = () => undefined;
  readonly #messages: Command[] = [];
  #waiting: (() => void) | undefined;

  constructor(link: (onWake: () => void) => Link, region: Region) {
    this.region = region;
    this.link = link(() => {
      while (this.link.poll(this.#handle, 256) === 256);
    });
  }

  readonly #handle = (event: LinkEvent): void => {
    if (event.kind === "message") {
      this.#messages.push(JSON.parse(Buffer.from(event.bytes).toString("utf8")) as Command);
      this.#waiting?.();
    } else {
      this.onEvent(event);
    }
  };

  async next(): Promise<Command> {
    while (this.#messages.length === 0) await new Promise<void>((resolve) => (this.#waiting = resolve));
    return this.#messages.shift() as Command;
  }

  say(command: Command): void {
    if (!this.link.send(this.connection, Buffer.from(JSON.stringify(command)))) throw new Error("the control queue is full");
  }

  place(direction: "in" | "out", command: Command): PlacementId {
    const { seed = 0, grant = 1, small = false, checksum = true } = command;
    const count = small ? 1 : REQUEST_BLOCKS;
    const chunks: ChunkSpan[] = [];
    for (let start = 0; start < count * BLOCK_BYTES; start += CHUNK_BYTES)
      chunks.push({ plane: 0, start, bytes: small ? SMALL_BYTES : CHUNK_BYTES });
    const blockLists = [shuffled(POOL_BYTES / BLOCK_BYTES, count, seed)];
    const common = {
      direction,
      connection: this.connection,
      grant,
      generation: 1,
      region: this.region,
      planes: [PLANE],
      blockLists,
      chunks,
      checksum,
    };
    const placement = this.link.place({ ...common, standing: small });
    if (placement === "full") throw new Error("the table of placements is full");
    return placement;
  }

  wait(kind: LinkEvent["kind"], count = 1): Promise<LinkEvent> {
    return new Promise((resolve) => {
      this.onEvent = (event) => {
        if (event.kind === "failed" || event.kind === "laneDown" || event.kind === "disconnected") throw new Error(JSON.stringify(event));
        if (event.kind === kind && --count === 0) resolve(event);
      };
    });
  }
}

const PLANE: Plane = {
  ...{ blockList: 0, offset: 0, blockStride: BLOCK_BYTES, tokens: 1, tokenStride: 0, heads: 1, headStride: 0 },
  ...{ channels: 1, channelStride: 0, elementBytes: BLOCK_BYTES, firstToken: 0 },
};

async function openEnd(): Promise<End> {
  const name = `bench-link-${process.pid}`;
  const region = await createPoolRegion({ name, bytes: POOL_BYTES, directory: "", hugePages: "off", numaNode: -1, temporary: true });
  // Nobody else maps it: a bench that is killed leaves nothing behind.
  unlinkSync(region.path);
  const ioThreads = Number(options.io);
  if (options.link === "js") {
    const { createJsLink } = await import("../transport/link/js.ts");
    return new End((onWake) => createJsLink({ onWake }), region);
  }
  const { createTcpLink } = await import("../transport/link/tcp.ts");
  return new End((onWake) => createTcpLink({ onWake, ioThreads }), region);
}

const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Linux counts the CPU time of each thread in nanoseconds; the main thread's id is the process's. */
const mainThreadUs = (): number => Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "latin1").split(" ")[0]) / 1e3;

async function serve(): Promise<void> {
  const end = await openEnd();
  const { port } = await end.link.listen({ host: "127.0.0.1", port: 0 });
  console.log(port);
  end.connection = ((await end.wait("accepted")) as { connection: ConnectionId }).connection;
  end.onEvent = () => undefined;
  end.link.admitLanes(end.connection, TOKEN);
  end.say({ say: "placed" });
  let placement: PlacementId = 0;
  for (;;) {
    const command = await end.next();
    if (command.say === "place") {
      placement = end.place("in", command);
      end.say({ say: "placed" });
    } else if (command.say === "revoke") {
      end.link.revoke(placement);
    } else if (command.say === "cpu") {
      end.say({ say: "cpu", cpuSeconds: cpuSeconds() });
    } else {
      break;
    }
  }
  await end.link.close();
  end.region.close();
}

class Client {
  readonly end: End;
  #grant = 0;
  constructor(end: End) {
    this.end = end;
  }

  async serverCpu(): Promise<number> {
    this.end.say({ say: "cpu" });
    return (await this.end.next()).cpuSeconds ?? 0;
  }

  /** One request: both ends name their blocks, chunks go while the window allows, until the last is placed. */
  async request(checksum: boolean): Promise<void> {
    const { end } = this;
    const command = { grant: ++this.#grant, seed: this.#grant * 2, checksum };
    end.say({ say: "place", ...command });
    const placement = end.place("out", { say: "place", ...command, seed: command.seed + 1 });
    await end.next();
    const count = (REQUEST_BLOCKS * BLOCK_BYTES) / CHUNK_BYTES;
    let sent = 0;
    const submit = (more: number): void => {
      const batch = [];
      for (; batch.length < more && sent + batch.length < count; ) batch.push({ placement, chunk: sent + batch.length, sequence: 1 });
      sent += end.link.submit(batch);
    };
    await new Promise<void>((resolve) => {
      let acked = 0;
      let free = 0;
      end.onEvent = (event) => {
        if (event.kind === "revoked") return;
        if (event.kind !== "acked") throw new Error(JSON.stringify(event));
        free += 1;
        if (free >= 8) {
          submit(free);
          free = 0;
        }
        if (++acked === count) resolve();
      };
      submit(Number(options.window));
    });
    end.link.revoke(placement);
    end.say({ say: "revoke" });
  }

  async throughput(checksum: boolean): Promise<Record<string, unknown>> {
    await this.request(checksum);
    const before = { own: cpuSeconds(), server: await this.serverCpu(), ms: performance.now(), mainUs: mainThreadUs() };
    const times: number[] = [];
    while (performance.now() - before.ms < Number(options.seconds) * 1000) {
      const start = performance.now();
      await this.request(checksum);
      times.push(performance.now() - start);
    }
    const gib = (times.length * REQUEST_BLOCKS * BLOCK_BYTES) / 2 ** 30;
    const mainUs = ((mainThreadUs() - before.mainUs) / (gib * 2 ** 30)) * CHUNK_BYTES;
    const cpu = cpuSeconds() - before.own + (await this.serverCpu()) - before.server;
    const medianMs = times.sort((a, b) => a - b)[times.length >> 1] as number;
    return {
      bits_per_second: (REQUEST_BLOCKS * BLOCK_BYTES * 8e3) / medianMs,
      cpu_seconds_per_gib: cpu / gib,
      main_thread_us_per_chunk: mainUs,
      requests: times.length,
    };
  }

  async latency(samples: number): Promise<Record<string, unknown>> {
    const { end } = this;
    const command = { grant: ++this.#grant, seed: 1, small: true };
    end.say({ say: "place", ...command });
    const placement = end.place("out", { say: "place", ...command });
    await end.next();
    const times = new Float64Array(samples);
    for (let sample = -50; sample < samples; sample++) {
      const start = performance.now();
      const acked = end.wait("acked");
      end.link.submit([{ placement, chunk: 0, sequence: sample + 51 }]);
      await acked;
      if (sample >= 0) times[sample] = (performance.now() - start) * 1000;
    }
    end.onEvent = () => undefined;
    end.link.revoke(placement);
    end.say({ say: "revoke" });
    times.sort();
    return { p50_us: times[samples >> 1], p99_us: times[Math.floor(samples * 0.99)], samples };
  }
}

const print = (line: Record<string, unknown>): void => console.log(JSON.stringify(line));
const median = (numbers: number[]): number => numbers.sort((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

async function main(): Promise<void> {
  const built = options.yardstick === "on" ? await buildYardstick() : { missing: "not asked for" };
  const child = spawn(process.execPath, [...process.execArgv, import.meta.filename, ...process.argv.slice(2), "--server"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const end = await openEnd();
  const client = new Client(end);
  end.connection = end.link.dial({ host: "127.0.0.1", port: Number(line.toString()) }, 2_000);
  await end.wait("connected");
  await end.next();
  const up = end.wait("laneUp", lanes);
  const lane = { paceBytesPerSecond: Number(options.pace), notSentLowBytes: Number(options.low), congestionControl: options.congestion };
  for (let index = 0; index < lanes; index++) end.link.openLane(end.connection, index, TOKEN, lane);
  await up;
  const rates: Record<string, number[]> = {};
  const costs: Record<string, number[]> = {};
  const record = (name: string, result: { bits_per_second: number; cpu_seconds_per_gib: number }): void => {
    (rates[name] ??= []).push(result.bits_per_second);
    (costs[name] ??= []).push(result.cpu_seconds_per_gib);
    print({ name, lanes, ...result });
  };
  for (let round = 0; round < Number(options.rounds); round++) {
    if ("program" in built) {
      const raw = await runYardstick(
        built.program,
        lanes,
        { poolBytes: POOL_BYTES, blockBytes: BLOCK_BYTES, batch: REQUEST_BLOCKS },
        Number(options.seconds),
      );
      record("raw", { bits_per_second: raw.bitsPerSecond, cpu_seconds_per_gib: raw.cpuSecondsPerGib ?? Number.NaN });
    }
    if (options.crc !== "off") record("crc on", (await client.throughput(true)) as never);
    if (options.crc !== "on") record("crc off", (await client.throughput(false)) as never);
    if (Number(options.samples) > 0) print({ name: "4 KiB", ...(await client.latency(Number(options.samples))) });
  }
  const raw = median(rates["raw"] ?? []);
  const rawCost = median(costs["raw"] ?? []);
  for (const name of Object.keys(rates)) {
    const rate = median(rates[name] as number[]);
    const cost = median(costs[name] as number[]);
    print({ median: name, gigabits_per_second: rate / 1e9, of_raw: rate / raw, cpu_seconds_per_gib: cost, cpu_of_raw: cost / rawCost });
  }
  end.onEvent = () => undefined;
  end.say({ say: "end" });
  await once(child, "close");
  await end.link.close();
  end.region.close();
}

await (options.server ? serve() : main());
