/**
 * The same faults under each carrier, one at a time. Method: each has a prompt of its own, whose right answer the decode engine has given before
 * without any KV from elsewhere. Both ways its last token is computed alone, so that bf16 rounds alike and right means equal. After each fault
 * the prompt is asked again, because KV that is wrong may stay behind as a prefix, and another request is handed over.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Figure } from "../suite-report.ts";
import { loads, loadsSince } from "./loads.ts";
import type { Carrier, Pair, Side } from "./pair.ts";
import type { Prompts } from "./prompts.ts";

const ANSWER_TOKENS = 8;
const STEP_TOKENS = 2_048;
/** Of the engine's blocks of 128 tokens: two prompts fit, a third takes blocks that another has had. */
const BLOCKS = 40;
const DEADLINE_MS = 60_000;
/** A prefill takes a second and more, a load less than this while its producer runs. */
const SOON_MS = 500;
/** So long after its consumer's death UCX gives a connection up, and then perhaps more than that. */
const NOTICED_MS = 45_000;

export const OFFER_SECONDS = 10;
export const FAULT_FLAGS = [
  ...["--enable-chunked-prefill", "--max-num-batched-tokens", String(STEP_TOKENS), "--enable-prefix-caching"],
  ...["--num-gpu-blocks-override", String(BLOCKS), "--max-model-len", "2304"],
];

const WANTED = "the right tokens or an error, nothing wrong or late, no engine dead; then all right";

type Params = Readonly<Record<string, unknown>>;

export interface Outcome {
  /** `gave_up`: its own client did; `late`: nothing came by the deadline. */
  readonly kind: "right" | "wrong" | "error" | "gave_up" | "late";
  /** Of an error. */
  readonly words?: string;
  readonly seconds: number;
}

export interface Result {
  readonly outcome: Outcome;
  /** Of loads that the connector counted; undefined: the engine that did is gone. */
  readonly counted: { readonly done: number; readonly failed: number } | undefined;
  /** Engines that nobody killed. */
  readonly died: readonly Side[];
  readonly again: Outcome;
  readonly next: Outcome;
  readonly nextCarried: boolean;
}

/** What a fault happens to. */
class Stage {
  readonly pair: Pair;
  readonly prompts: Prompts;
  readonly killed: Side[] = [];
  readonly #prompt: readonly number[];
  readonly #right: string;

  constructor(pair: Pair, prompts: Prompts, prompt: readonly number[], right: string) {
    this.pair = pair;
    this.prompts = prompts;
    this.#prompt = prompt;
    this.#right = right;
  }

  async offer(prompt = this.#prompt): Promise<Params> {
    const { params } = await this.pair.prefill.prefill({ prompt, signal: AbortSignal.timeout(DEADLINE_MS) });
    if (params === undefined) throw new Error("the prefill engine offers nothing");
    return params;
  }

  answer(params?: Params, patienceMs = DEADLINE_MS): Promise<Outcome> {
    const more = params === undefined ? {} : { params };
    const request = { prompt: this.#prompt, maxTokens: ANSWER_TOKENS, ...more };
    return bounded(patienceMs, this.#right, (signal) => this.pair.decode.complete({ ...request, signal }));
  }

  async kill(side: Side): Promise<void> {
    this.killed.push(side);
    this.pair.signal(side, "SIGKILL");
    await Promise.all([this.pair[side].end("SIGKILL"), this.pair.sidecar(side)?.end("SIGKILL")]);
  }

  /** The answer to a request, while whose KV is on its way something happens: who should send it does not. */
  async whileLoading(happens: () => Promise<void> | void, patienceMs?: number): Promise<Outcome> {
    const params = await this.offer();
    this.pair.signal("prefill", "SIGSTOP");
    try {
      const answer = this.answer(params, patienceMs);
      await pause(SOON_MS);
      await happens();
      return await answer;
    } finally {
      this.pair.signal("prefill", "SIGCONT");
    }
  }
}

const FAULTS: Readonly<Record<string, (stage: Stage) => Promise<Outcome>>> = {
  "no fault": async (stage) => stage.answer(await stage.offer()),
  "producer killed before it offers": async (stage) => {
    const offered = stage.offer().catch(() => undefined);
    await pause(SOON_MS);
    await stage.kill("prefill");
    return stage.answer(await offered);
  },
  "producer killed after its offer": async (stage) => {
    const params = await stage.offer();
    await stage.kill("prefill");
    return stage.answer(params);
  },
  "producer killed during the load": (stage) => stage.whileLoading(() => stage.kill("prefill")),
  "producer stopped during the load": (stage) => stage.whileLoading(() => {}),
  "consumer killed during the load": async (stage) => {
    const outcome = await stage.whileLoading(() => stage.kill("decode"));
    await pause(NOTICED_MS);
    return outcome;
  },
  "client gives up during the load": (stage) => stage.whileLoading(() => {}, 2 * SOON_MS),
  "parameters of another prompt": async (stage) => stage.answer(await stage.offer(take(stage.prompts))),
  "parameters that name another engine": async (stage) => stage.answer(forged(stage.pair.carrier, "engine", await stage.offer())),
  "parameters with a made-up handle or blocks": async (stage) => stage.answer(forged(stage.pair.carrier, "blocks", await stage.offer())),
  "offer expired, its memory used since": async (stage) => {
    const params = await stage.offer();
    await pause(1_000 * (OFFER_SECONDS + 2));
    for (let time = 0; time < 2; time++) await stage.pair.prefill.complete({ prompt: take(stage.prompts), maxTokens: 1 });
    return stage.answer(params);
  },
};

export async function faultFigures(pair: Pair, prompts: Prompts, say: (line: string) => void): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [name, happens] of Object.entries(FAULTS)) {
    const title = `${pair.carrier}: ${name}`;
    const figure = await suffer(pair, prompts, happens).then(
      (result) => faultFigure(title, result),
      async (error: Error): Promise<Figure> => {
        await revive(pair);
        return { name: title, measured: `broken off: ${error.message}`, wanted: WANTED, met: false };
      },
    );
    figures.push(figure);
    say(`${title}: ${figure.measured}`);
  }
  const { words, nothing } = await pair.heldAfterwards();
  return [...figures, { name: `${pair.carrier}: after these faults`, measured: words, wanted: "nothing in use", met: nothing }];
}

async function suffer(pair: Pair, prompts: Prompts, happens: (stage: Stage) => Promise<Outcome>): Promise<Result> {
  const [prompt, other] = [take(prompts), take(prompts)];
  const [right, otherRight] = [await plainAnswer(pair, prompt), await plainAnswer(pair, other)];
  await pair.decode.forgetPrefixes();
  const stage = new Stage(pair, prompts, prompt, right);
  const { decode } = pair;
  let before = await loads(pair);
  const outcome = await happens(stage).catch((error: Error): Outcome => ({ kind: "error", words: error.message, seconds: 0 }));
  const died = (await revive(pair)).filter((side) => !stage.killed.includes(side));
  // Its own step makes vLLM pass on what the connector has counted.
  const again = await stage.answer();
  const counted = pair.decode === decode ? await loadsSince(pair, before, 1) : undefined;
  before = await loads(pair);
  const next = await bounded(DEADLINE_MS, otherRight, async (signal) => {
    await pair.decode.forgetPrefixes();
    return (await pair.handOver(other, ANSWER_TOKENS, signal)).decode;
  });
  const nextCarried = (await loadsSince(pair, before, 1)).done === 1;
  // Each fault finds engines that work; and some die late, of a connection that is found to be dead.
  died.push(...(await revive(pair)));
  if (next.kind !== "right") await Promise.all([pair.restart("prefill"), pair.restart("decode")]);
  return { outcome, counted, died, again, next, nextCarried };
}

export function faultFigure(name: string, { outcome, counted, died, again, next, nextCarried }: Result): Figure {
  const loaded = counted === undefined ? [] : [`loads: ${counted.done} done, ${counted.failed} failed`];
  const parts = [
    words(outcome),
    ...loaded,
    ...died.map((side) => `the ${side} engine died of it`),
    `asked again: ${words(again)}`,
    `next: ${words(next)}, its KV ${nextCarried ? "carried" : "not carried"}`,
  ];
  return {
    name,
    measured: parts.join("; ").replaceAll("|", "/").replaceAll("\n", " "),
    wanted: WANTED,
    met: !["wrong", "late"].includes(outcome.kind) && died.length === 0 && again.kind === "right" && next.kind === "right" && nextCarried,
  };
}

function words({ kind, words: said = "", seconds }: Outcome): string {
  const time = `${seconds.toFixed(1)} s`;
  if (kind === "late") return `nothing in ${time}`;
  if (kind === "gave_up") return `given up by its client after ${time}`;
  return kind === "error" ? `error "${said.slice(0, 120)}" in ${time}` : `${kind} tokens in ${time}`;
}

async function bounded(
  patienceMs: number,
  right: string,
  work: (signal: AbortSignal) => Promise<{ readonly tokens: readonly string[] }>,
): Promise<Outcome> {
  const started = performance.now();
  const signal = AbortSignal.timeout(patienceMs);
  const seconds = (): number => (performance.now() - started) / 1_000;
  try {
    const { tokens } = await work(signal);
    return { kind: tokens.join("\0") === right ? "right" : "wrong", seconds: seconds() };
  } catch (error) {
    if (signal.aborted) return { kind: patienceMs < DEADLINE_MS ? "gave_up" : "late", seconds: seconds() };
    return { kind: "error", words: (error as Error).message, seconds: seconds() };
  }
}

async function plainAnswer({ decode }: Pair, prompt: readonly number[]): Promise<string> {
  return (await decode.complete({ prompt, maxTokens: ANSWER_TOKENS })).tokens.join("\0");
}

/** Starts again what does not answer, and says what that was. */
async function revive(pair: Pair): Promise<Side[]> {
  const dead: Side[] = [];
  for (const side of ["prefill", "decode"] as const) if (!(await pair[side].healthy())) dead.push(side);
  await Promise.all(dead.map((side) => pair.restart(side)));
  return dead;
}

/** What comes back from a client need not be what the prefill engine said. */
function forged(carrier: Carrier, what: "engine" | "blocks", params: Params): Params {
  if (carrier === "kvferry") {
    const [[peer, handle, ...heads]] = params["sources"] as [[string, string, number, number]];
    const source = what === "engine" ? ["192.0.2.1:7411", handle] : [peer, handle.replace(/-.{8}/, "-00000000")];
    return { ...params, sources: [[...source, ...heads]] };
  }
  if (what === "engine") return { ...params, remote_engine_id: "00000000-0000-4000-8000-000000000000" };
  const ids = params["remote_block_ids"] as number[][];
  return { ...params, remote_block_ids: ids.map((group) => group.map((id) => id + 1_000_000)) };
}

function take(prompts: Prompts): readonly number[] {
  return prompts.take(STEP_TOKENS + 1);
}
