/** The figures that are measured as an engine would see them: through its API, a sidecar, the link, another sidecar, and back. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CANONICAL, type KvSlice } from "./models.ts";
import { closeEngine, type EngineSide, openEngine, Prompt } from "./pair.ts";
import { monotonicUs, readProfile, shareOf } from "./profile.ts";
import { SidecarProcess } from "./sidecars.ts";
import { blockBytesOf } from "./layouts.ts";
import { distribution, median } from "./statistics.ts";
import type { Figure, SuiteContext } from "./suite-report.ts";
import type { LayoutOrder } from "./workload.ts";

const POOL_BYTES = 2 ** 30;
const NHD16: LayoutOrder = { order: "nhd", blockTokens: 16 };
const HND32: LayoutOrder = { order: "hnd", blockTokens: 32 };

interface Pair {
  readonly from: EngineSide;
  readonly to: EngineSide;
}

export async function engineFigures(context: SuiteContext): Promise<Figure[]> {
  context.say("through the engine API");
  const equal = await withPair(NHD16, NHD16, undefined, async (pair) => ({
    canonical: await canonical(pair, context.seconds),
    block: await blockLatency(pair),
    allocation: await allocation(pair.from.sidecar),
    memory: await memory(pair, context),
  }));
  context.say("unequal layouts through the engine API");
  const unequal = await withPair(NHD16, HND32, undefined, (pair) => canonical(pair, context.seconds));
  return [
    throughput("the same through the engine API, offer and fetch", equal.canonical),
    {
      name: "unequal layouts (NHD 16 -> HND 32), engine API",
      measured: `${gbps(unequal.rate)} Gbit/s, ${(unequal.rate / equal.canonical.rate).toFixed(2)}x of equal; ${unequal.wrong} bytes wrong`,
      wanted: "at least half of equal layouts",
      met: unequal.rate >= 0.5 * equal.canonical.rate && unequal.wrong === 0,
    },
    { name: "4 KiB written to a registered buffer, engine API, p50 / p99", measured: equal.block, wanted: "printed", met: true },
    ...equal.allocation,
    equal.memory,
    ...(await profileFigures(context)),
    await fairness(context),
  ];
}

interface Canonical {
  readonly rate: number;
  readonly wrong: number;
  readonly cpuSecondsPerGib: number;
}

async function canonical({ from, to }: Pair, seconds: number): Promise<Canonical> {
  const prompt = await Prompt.make(CANONICAL, from, to);
  let wrong = await prompt.verify(1);
  const durations: number[] = [];
  const cpu = (): number => from.sidecar.cpuSeconds() + to.sidecar.cpuSeconds();
  const before = cpu();
  for (const endMs = performance.now() + seconds * 1000; performance.now() < endMs || durations.length < 3; )
    durations.push(await prompt.move());
  const used = cpu() - before;
  wrong += await prompt.verify(2);
  await prompt.free();
  const total = prompt.bytes * durations.length;
  return { rate: (prompt.bytes * 8) / median(durations), wrong, cpuSecondsPerGib: used / (total / 2 ** 30) };
}

/** Bytes of a block written into a registered buffer of the other node: what users of Mooncake and NIXL would time. */
async function blockLatency({ from, to }: Pair): Promise<string> {
  const [ours, theirs] = [await to.ferry.createBuffer(65_536), await from.ferry.createBuffer(65_536)];
  const request = {
    peer: from.sidecar.name,
    local: ours.handle,
    remote: theirs.handle,
    ranges: [{ local: 0, remote: 4_096, bytes: 4_096 }],
  };
  const samples: number[] = [];
  for (let turn = 0; turn < 1_200; turn++) {
    const startMs = performance.now();
    await (await to.ferry.write(request)).done;
    if (turn >= 200) samples.push((performance.now() - startMs) * 1000);
  }
  await ours.close();
  await theirs.close();
  return bothPercentiles(samples);
}

async function allocation(sidecar: SidecarProcess): Promise<Figure[]> {
  const one = await allocationSamples(sidecar, 1);
  const four = await allocationSamples(sidecar, 4);
  const d = distribution(one)!;
  return [
    {
      name: "64 blocks allocated in one call, p50 / p99, 1 client",
      measured: bothPercentiles(one),
      wanted: "under 100 / 200 us on an idle machine",
      met: d.p50 < 100 && d.p99 < 200,
    },
    { name: "the same, 4 clients at once", measured: bothPercentiles(four), wanted: "printed", met: true },
  ];
}

async function allocationSamples(sidecar: SidecarProcess, clients: number): Promise<number[]> {
  const samples: number[] = [];
  const loop = async (): Promise<void> => {
    const ferry = await sidecar.connect();
    // Until V8 has compiled both ends, what is measured is V8.
    for (let turn = 0; turn < 8_000; turn++) {
      const startMs = performance.now();
      const blocks = await ferry.alloc(64);
      if (turn >= 2_000) samples.push((performance.now() - startMs) * 1000);
      await ferry.free(blocks);
    }
    await ferry.close();
  };
  await Promise.all(Array.from({ length: clients }, loop));
  return samples;
}

/** Ten thousand short transfers: what a leak of a few hundred bytes each would show. */
async function memory({ from, to }: Pair, context: SuiteContext): Promise<Figure> {
  context.say(`${context.transfers} transfers, watching memory`);
  const slice: KvSlice = { ...CANONICAL, tokens: 16 };
  const prompt = await Prompt.make(slice, from, to);
  const seen: number[] = [];
  const steps = 10;
  for (let step = 0; step < steps; step++) {
    for (let turn = 0; turn < context.transfers / steps; turn++) await prompt.move();
    seen.push(Math.max(from.sidecar.residentBytesBesidePool(), to.sidecar.residentBytesBesidePool()) / 2 ** 20);
  }
  await prompt.free();
  // The first half is warm-up: V8 grows its heap until it knows how much it needs.
  const [early, late] = [median(seen.slice(2, 6)), median(seen.slice(6))];
  return {
    name: `resident memory of a sidecar beside its pool, ${context.transfers.toLocaleString("en")} transfers`,
    measured: `${Math.max(...seen).toFixed(0)} MiB at most; first half ${early.toFixed(0)} MiB, second ${late.toFixed(0)} MiB`,
    wanted: "under 120 MiB, flat",
    met: Math.max(...seen) < 120 && late - early < 5,
  };
}

async function profileFigures(context: SuiteContext): Promise<Figure[]> {
  context.say("profile of the canonical run");
  const folder = mkdtempSync(join(tmpdir(), "kvferry-profile-"));
  try {
    let window: { fromUs: number; toUs: number; chunks: number } | undefined;
    await withPair(NHD16, NHD16, folder, async ({ from, to }) => {
      const prompt = await Prompt.make(CANONICAL, from, to);
      await prompt.move();
      const fromUs = monotonicUs();
      let moved = 0;
      for (const endMs = performance.now() + context.seconds * 1000; performance.now() < endMs || moved === 0; moved++) await prompt.move();
      window = { fromUs, toUs: monotonicUs(), chunks: (moved * prompt.bytes) / 2 ** 20 };
      await prompt.free();
    });
    const { fromUs, toUs, chunks } = window!;
    return ["prefill", "decode"].map((side) => {
      const share = shareOf(readProfile(join(folder, side)), fromUs, toUs);
      const perChunk = share.javascriptUs / chunks;
      const [addon, loop] = [share.addonUs, share.programUs].map((us) => (us / chunks).toFixed(1));
      const who = side === "prefill" ? "sender" : "receiver";
      return {
        name: `JavaScript per chunk of 1 MiB, ${who}`,
        measured:
          `${perChunk.toFixed(1)} us of all JavaScript, with garbage collection and its calls into Node and uWebSockets ` +
          `(not counted: inside the addon ${addon} us, event loop and system calls ${loop} us)`,
        wanted: "under 15 us",
        met: perChunk < 15,
      };
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * 64 transfers begin together, 16 to each of 4 peers; all have the same size, so fair shares end together. They are long enough (128 MiB) for the
 * time in which the first is still alone, while the others are being set up, not to be what is measured. All send the same blocks.
 */
export async function fairness(context: SuiteContext): Promise<Figure> {
  context.say("64 transfers to 4 peers");
  const slice: KvSlice = { ...CANONICAL, tokens: 1_024 };
  const blockBytes = blockBytesOf(slice, 16);
  const holder = await SidecarProcess.start({ name: "prefill", poolBytes: 72 * blockBytes, blockBytes });
  const targets: SidecarProcess[] = [];
  try {
    for (let peer = 0; peer < 4; peer++) {
      targets.push(
        await SidecarProcess.start({
          name: `decode${peer}`,
          poolBytes: (16 * 64 + 8) * blockBytes,
          blockBytes,
          peers: `prefill=${holder.address}`,
        }),
      );
    }
    const from = await openEngine(holder, slice, NHD16);
    const to = await Promise.all(targets.map((target) => openEngine(target, slice, NHD16)));
    const source = await from.ferry.alloc(slice.tokens / NHD16.blockTokens);
    const prompts = await Promise.all(Array.from({ length: 64 }, (_, index) => Prompt.make(slice, from, to[index % 4]!, source)));
    // Connections and lanes first: they are made once, not for each transfer.
    for (const prompt of prompts.slice(0, 4)) await prompt.move();
    // All offers first, so that the fetches begin together.
    const handles = await Promise.all(prompts.map((prompt) => prompt.offer()));
    const startMs = performance.now();
    const seconds = await Promise.all(
      prompts.map(async (prompt, index) => {
        await prompt.fetch(handles[index]!);
        return (performance.now() - startMs) / 1000;
      }),
    );
    let wrong = 0;
    for (const prompt of prompts.slice(0, 4)) wrong += await prompt.verify(3);
    for (const side of [from, ...to]) await closeEngine(side);
    const [fastest, slowest] = [Math.min(...seconds), Math.max(...seconds)];
    return {
      name: "64 transfers at once to 4 peers: slowest against fastest",
      measured: `${(fastest / slowest).toFixed(2)} (${gbps((64 * 8 * prompts[0]!.bytes) / slowest)} Gbit/s together)`,
      wanted: "at least 0.8",
      met: fastest / slowest >= 0.8 && wrong === 0,
    };
  } finally {
    for (const target of [holder, ...targets]) await target.stop();
  }
}

async function withPair<T>(
  local: LayoutOrder,
  remote: LayoutOrder,
  profiles: string | undefined,
  use: (pair: Pair) => Promise<T>,
): Promise<T> {
  const blockBytes = Math.max(blockBytesOf(CANONICAL, local.blockTokens), blockBytesOf(CANONICAL, remote.blockTokens));
  const profile = (side: string) => (profiles === undefined ? {} : { profileFolder: join(profiles, side) });
  const common = { poolBytes: POOL_BYTES, blockBytes };
  const prefill = await SidecarProcess.start({
    ...common,
    name: "prefill",
    blockBytes: blockBytesOf(CANONICAL, local.blockTokens),
    ...profile("prefill"),
  });
  let decode: SidecarProcess | undefined;
  try {
    const peers = `prefill=${prefill.address}`;
    decode = await SidecarProcess.start({
      ...common,
      name: "decode",
      blockBytes: blockBytesOf(CANONICAL, remote.blockTokens),
      peers,
      ...profile("decode"),
    });
    const from = await openEngine(prefill, CANONICAL, local);
    const to = await openEngine(decode, CANONICAL, remote);
    try {
      return await use({ from, to });
    } finally {
      await closeEngine(from);
      await closeEngine(to);
    }
  } finally {
    await decode?.stop();
    await prefill.stop();
  }
}

function throughput(name: string, { rate, wrong, cpuSecondsPerGib }: Canonical): Figure {
  return {
    name,
    measured: `${gbps(rate)} Gbit/s, ${cpuSecondsPerGib.toFixed(2)} CPU s/GiB; ${wrong} bytes wrong`,
    wanted: "printed",
    met: wrong === 0,
  };
}

function gbps(bitsPerSecond: number): string {
  return (bitsPerSecond / 1e9).toFixed(1);
}

function bothPercentiles(samples: readonly number[]): string {
  const { p50, p99 } = distribution(samples)!;
  return `${p50.toFixed(0)} / ${p99.toFixed(0)} us`;
}
