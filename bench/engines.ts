/** vLLM with KV carried by kvferry, and by vLLM's own NixlConnector: npm run bench:engines. */
import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import { inspect } from "node:util";
import { packageVersion } from "../transport/cli/package.ts";
import { chaosFigures } from "./engines/chaos.ts";
import { FAULT_FLAGS, faultFigures, OFFER_SECONDS } from "./engines/faults.ts";
import { firstTokenFigures, measureFirstTokens } from "./engines/first-token.ts";
import { hookFigures } from "./engines/hooks.ts";
import { type Carrier, Pair, type PairOptions } from "./engines/pair.ts";
import { aloneLengths, LENGTHS, parityFigures, STEP_TOKENS } from "./engines/parity.ts";
import { Prompts } from "./engines/prompts.ts";
import { findVllm, VLLM_VERSION } from "./engines/vllm.ts";
import { mix } from "./random.ts";
import { type Figure, markdown, writeResults } from "./suite-report.ts";
import { endBadly, readFlags } from "./usage.ts";

const FIRST_TOKENS: Readonly<Partial<Record<string, Carrier>>> = {
  "first-token": "kvferry",
  "nixl-shm": "nixl-shm",
  "nixl-tcp": "nixl-tcp",
};
const FAULTS: Readonly<Partial<Record<string, Carrier>>> = {
  faults: "kvferry",
  "nixl-shm-faults": "nixl-shm",
  "nixl-tcp-faults": "nixl-tcp",
};
const USUAL = [...Object.keys(FIRST_TOKENS), "tokens", "hooks", "preemption"];
const PARTS = [...USUAL, "chaos", ...Object.keys(FAULTS)];
const USAGE = `npm run bench:engines -- [--quick] [--only PART,...] [--requests N] [--seed N] [--json FILE] [--write]

PART: ${USUAL.join(", ")}; and only where asked for ${PARTS.slice(USUAL.length).join(", ")}.
--quick: few prompts. --requests, --seed: of chaos. --write: the table goes into bench/RESULTS.md between its marks.`;

/** So few blocks that requests that run together do not fit. */
const TINY_BLOCKS = 24;
const CHUNKED = ["--enable-chunked-prefill", "--max-num-batched-tokens", "1024", "--enable-prefix-caching"];
const ALONE = ["--enable-chunked-prefill", "--max-num-batched-tokens", String(STEP_TOKENS), "--enable-prefix-caching"];
const CONCURRENCIES = [1, 4, 16];

async function main(): Promise<void> {
  const values = readFlags(USAGE, {
    quick: { type: "boolean" },
    only: { type: "string" },
    requests: { type: "string", default: "500" },
    seed: { type: "string", default: "1" },
    json: { type: "string" },
    write: { type: "boolean" },
  });
  const wanted = values.only?.split(",") ?? USUAL;
  const unknown = wanted.find((part) => !PARTS.includes(part));
  if (unknown !== undefined) endBadly(`Expected some of ${PARTS.join(", ")} for --only but received ${unknown}`, USAGE);
  const [requests, seed] = [Number(values.requests), Number(values.seed)];
  if (!(requests > 0 && seed >= 0)) endBadly("Expected numbers for --requests and --seed", USAGE);
  const run = new Run(values.quick === true ? LENGTHS.filter((_, at) => at % 6 === 0) : LENGTHS);
  const load = loadavg()[0]!;
  for (const part of PARTS) if (wanted.includes(part)) await run.part(part, requests, seed);
  const day = new Date().toISOString().slice(0, 10);
  const title = `kvferry ${packageVersion()}, vLLM ${VLLM_VERSION} (CPU), SmolLM2-135M bf16, ${day}; load ${load.toFixed(1)} before.`;
  const table = `${title}\n\n${markdown(run.figures)}\n`;
  process.stdout.write(table);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ title, figures: run.figures }, null, 2)}\n`);
  if (values.write === true) writeResults("engines", table);
}

class Run {
  readonly figures: Figure[] = [];
  readonly #lengths: readonly number[];
  readonly #place = findVllm();

  constructor(lengths: readonly number[]) {
    this.#lengths = lengths;
  }

  async part(part: string, requests: number, seed: number): Promise<void> {
    say(part);
    try {
      if (FIRST_TOKENS[part] !== undefined) await this.#firstToken(FIRST_TOKENS[part]);
      if (FAULTS[part] !== undefined) await this.#faults(FAULTS[part]);
      if (part === "hooks") await this.#with({ carrier: "kvferry" }, hookFigures);
      if (part === "tokens") await this.#tokens();
      if (part === "preemption") await this.#preemption();
      if (part === "chaos") {
        const options: Omit<PairOptions, "place"> = {
          carrier: "kvferry",
          flags: ["--max-num-seqs", "1"],
          extra: { offer_timeout_s: 15, load_timeout_s: 5 },
        };
        await this.#with(options, (pair, prompts) => chaosFigures(pair, prompts, requests, sequence(seed), say));
      }
    } catch (error) {
      process.exitCode = 1;
      process.stderr.write(`${inspect(error)}\n`);
      this.figures.push({
        name: part,
        measured: `failed: ${(error as Error).message.replaceAll("|", "/").slice(0, 300)}`,
        wanted: "",
        met: false,
      });
    }
  }

  async #firstToken(carrier: Carrier): Promise<void> {
    await this.#with({ carrier }, async (pair, prompts) => firstTokenFigures(carrier, await measureFirstTokens(pair, prompts)));
  }

  async #faults(carrier: Carrier): Promise<void> {
    const extra = carrier === "kvferry" ? { offer_timeout_s: OFFER_SECONDS } : { kv_lease_duration: OFFER_SECONDS };
    await this.#with({ carrier, flags: FAULT_FLAGS, extra }, (pair, prompts) => faultFigures(pair, prompts, say));
  }

  async #tokens(): Promise<void> {
    await this.#with({ carrier: "kvferry", flags: ALONE }, async (pair, prompts) => {
      const figures = await parityFigures(pair, prompts, aloneLengths(this.#lengths), [1], say);
      return figures.map((figure) => ({ ...figure, name: `steps of ${STEP_TOKENS}, last token alone in both: ${figure.name}` }));
    });
    await this.#with({ carrier: "kvferry", flags: CHUNKED }, (pair, prompts) =>
      parityFigures(pair, prompts, this.#lengths, CONCURRENCIES, say),
    );
  }

  async #preemption(): Promise<void> {
    const flags = [...CHUNKED, "--num-gpu-blocks-override", String(TINY_BLOCKS), "--max-model-len", "2304"];
    await this.#with({ carrier: "kvferry", flags }, async (pair, prompts) => {
      const figures = await parityFigures(
        pair,
        prompts,
        this.#lengths.filter((tokens) => tokens <= 2_048),
        CONCURRENCIES,
        say,
      );
      const preempted =
        (await pair.prefill.metric("vllm:num_preemptions_total")) + (await pair.decode.metric("vllm:num_preemptions_total"));
      return [
        ...figures.map((figure) => ({ ...figure, name: `${TINY_BLOCKS} blocks of KV cache: ${figure.name}` })),
        { name: "preemptions in these runs", measured: String(preempted), wanted: "some", met: preempted > 0 },
      ];
    });
  }

  async #with(options: Omit<PairOptions, "place">, measure: (pair: Pair, prompts: Prompts) => Promise<Figure[]>): Promise<void> {
    const pair = await Pair.start({ place: this.#place, ...options });
    try {
      this.figures.push(...(await measure(pair, await Prompts.from(pair.decode))));
    } finally {
      await pair.end();
    }
  }
}

/** Numbers from 0 to 1, the same for the same seed. */
function sequence(seed: number): () => number {
  let index = 0;
  return () => mix(seed, index++) / 2 ** 32;
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

// Engines end as this does.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => process.exit(130));
await main();
