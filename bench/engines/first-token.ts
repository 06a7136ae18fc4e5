/** How long until the first token, with KV from another engine and without; and what it costs. */
import { setTimeout as pause } from "node:timers/promises";
import { mean, median } from "../statistics.ts";
import type { Figure } from "../suite-report.ts";
import { loads, loadsSince, loopbackBytes } from "./loads.ts";
import type { Carrier, Pair } from "./pair.ts";
import type { Prompts } from "./prompts.ts";

const PROMPT_TOKENS = 2_048;
const ROUNDS = 5;
const IDLE_SECONDS = 5;
const KV_BYTES = 47_185_920;

/** Of the KV's bytes: kvferry's as its sidecar receives them, NIXL's as loopback shows which way UCX went. */
const WIRE: Readonly<Record<Carrier, { readonly wanted: string; readonly met: (share: number) => boolean }>> = {
  kvferry: { wanted: "at most 1.01x on the wire", met: (share) => share <= 1.01 },
  "nixl-shm": { wanted: "next to nothing over loopback", met: (share) => share < 0.1 },
  "nixl-tcp": { wanted: "all over loopback", met: (share) => share >= 1 },
};

/** One request, with its KV loaded. */
interface Round {
  readonly firstMs: number;
  readonly transferMs: number;
  readonly loaded: boolean;
  readonly movedBytes: number;
  readonly loopbackBytes: number;
  /** Of everything that runs, in seconds, while the one engine prefills and while the other answers. */
  readonly prefillCpu: number;
  readonly decodeCpu: number;
}

export interface FirstTokens {
  readonly plainMs: readonly number[];
  readonly rounds: readonly Round[];
  readonly failures: readonly string[];
  /** What the decode side's sidecar has received for a request. */
  readonly wireBytes: number;
  /** CPU seconds a second, while nobody asks for anything. */
  readonly idleCpu: number;
}

/** The clock is the client's. The first transfer between the two is one of them, and the prefix caches are reset before each. */
export async function measureFirstTokens(pair: Pair, prompts: Prompts): Promise<FirstTokens> {
  const asked = Array.from({ length: ROUNDS }, () => prompts.take(PROMPT_TOKENS));
  const plainMs: number[] = [];
  const rounds: Round[] = [];
  const failures: string[] = [];
  const received = async (): Promise<number> => pair.sidecar("decode")?.bytesReceived() ?? Number.NaN;
  const before = await received();
  // An engine's first request takes seconds, whatever it is; that is no matter of KV.
  await Promise.all([pair.prefill, pair.decode].map((engine) => engine.complete({ prompt: prompts.take(16), maxTokens: 2 })));
  for (const prompt of asked) {
    await pair.forgetPrefixes();
    await measureRound(pair, prompt).then(
      (round) => rounds.push(round),
      (error: Error) => failures.push(error.message.slice(0, 200)),
    );
  }
  const wireBytes = ((await received()) - before) / rounds.length;
  for (const prompt of asked) {
    await pair.forgetPrefixes();
    plainMs.push((await pair.decode.complete({ prompt, maxTokens: 1, asTokens: false })).firstMs);
  }
  const cpu = pair.cpuSeconds();
  await pause(1_000 * IDLE_SECONDS);
  return { plainMs, rounds, failures, wireBytes, idleCpu: (pair.cpuSeconds() - cpu) / IDLE_SECONDS };
}

async function measureRound(pair: Pair, prompt: readonly number[]): Promise<Round> {
  const before = await loads(pair);
  const cpu = [pair.cpuSeconds()];
  const { params } = await pair.prefill.prefill({ prompt });
  cpu.push(pair.cpuSeconds());
  const loopback = loopbackBytes();
  const { firstMs } = await pair.decode.complete({ prompt, maxTokens: 1, asTokens: false, ...(params === undefined ? {} : { params }) });
  cpu.push(pair.cpuSeconds());
  const crossed = loopbackBytes() - loopback;
  const { done, seconds, bytes } = await loadsSince(pair, before, 1);
  return {
    firstMs,
    transferMs: 1e3 * seconds,
    loaded: done === 1,
    movedBytes: bytes,
    loopbackBytes: crossed,
    prefillCpu: cpu[1]! - cpu[0]!,
    decodeCpu: cpu[2]! - cpu[1]!,
  };
}

export function firstTokenFigures(carrier: Carrier, { plainMs, rounds, failures, wireBytes, idleCpu }: FirstTokens): Figure[] {
  const ours = carrier === "kvferry";
  const loadedMs = rounds.map(({ firstMs }) => firstMs);
  const [plain, loaded, slowest] = [median(plainMs), median(loadedMs), Math.max(...loadedMs)];
  const failed = failures.length + rounds.filter((round) => !round.loaded).length;
  const list = (values: readonly number[]): string => values.map((ms) => ms.toFixed(0)).join(", ");
  const share = (bytes: number): string => `${(bytes / KV_BYTES).toFixed(4)}x`;
  const loopback = median(rounds.map((round) => round.loopbackBytes));
  const moved = share(mean(rounds.map(({ movedBytes }) => movedBytes)));
  const figure = (name: string, measured: string, wanted = "printed", met = true): Figure => ({
    name: `${carrier}: ${name}`,
    measured,
    wanted,
    met,
  });
  return [
    figure(
      `first token of ${PROMPT_TOKENS} tokens with KV loaded`,
      `${list(loadedMs)} ms (first transfer first), plain ${plain.toFixed(0)} ms: ${(loaded / plain).toFixed(3)}x, ` +
        `the slowest ${(slowest / plain).toFixed(3)}x; ${failed} failed${failures.map((words) => `: ${words.replaceAll("|", "/")}`).join("")}`,
      ours ? "at most 0.08x, none failed" : "printed",
      ours ? slowest / plain <= 0.08 && failed === 0 : true,
    ),
    figure("transfer by the connector's own clock", `${list(rounds.map(({ transferMs }) => transferMs))} ms`),
    figure(
      `CPU of both engines${ours ? " and sidecars" : ""} for such a request`,
      `${mean(rounds.map(({ decodeCpu }) => decodeCpu)).toFixed(3)} s while the decode side has it, ` +
        `${mean(rounds.map(({ prefillCpu }) => prefillCpu)).toFixed(3)} s while the prefill side has it, ${idleCpu.toFixed(3)} s a second idle`,
    ),
    figure(
      `bytes for it, of ${KV_BYTES} of KV`,
      `${moved} moved; ${ours ? `${share(wireBytes)} received by the sidecar, ` : ""}${share(loopback)} over loopback`,
      WIRE[carrier].wanted,
      WIRE[carrier].met((ours ? wireBytes : loopback) / KV_BYTES),
    ),
  ];
}
