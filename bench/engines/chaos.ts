/**
 * Requests while sidecars and engines are killed and stopped at random. Every answer must be the plain run's, token for token, or a typed error;
 * afterwards nothing is held anywhere and the next request works.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Figure } from "../suite-report.ts";
import { loads, loadsSince } from "./loads.ts";
import type { Pair } from "./pair.ts";
import type { Prompts } from "./prompts.ts";

const ANSWER_TOKENS = 8;
const TOGETHER = 4;
const PROMPTS = 24;
const REQUEST_DEADLINE_MS = 120_000;

interface Tally {
  right: number;
  wrong: number;
  aborted: number;
  refused: number;
  late: number;
  faults: Map<string, number>;
  words: Map<string, number>;
}

export async function chaosFigures(
  pair: Pair,
  prompts: Prompts,
  requests: number,
  random: () => number,
  say: (line: string) => void,
): Promise<Figure[]> {
  const asked = Array.from({ length: PROMPTS }, (_, at) => prompts.take(60 + Math.round((at * 640) / PROMPTS)));
  const expected: Set<string>[] = [];
  for (const prompt of asked) expected.push(await rightAnswers(pair, prompt));
  const tally: Tally = { right: 0, wrong: 0, aborted: 0, refused: 0, late: 0, faults: new Map(), words: new Map() };
  let started = 0;
  let over = false;
  const worker = async (): Promise<void> => {
    while (started < requests) {
      started++;
      if (started % 50 === 0)
        say(`${started} of ${requests} requests; ${[...tally.faults].map(([name, count]) => `${name} ${count}`).join(", ")}`);
      const at = Math.floor(random() * PROMPTS);
      await request(pair, asked[at]!, expected[at]!, tally, random);
    }
  };
  const breaking = breakThings(pair, tally, random, () => over);
  try {
    await Promise.all(Array.from({ length: TOGETHER }, worker));
  } finally {
    over = true;
    await breaking;
  }
  return report(pair, asked[0]!, expected[0]!, tally, requests);
}

/** bf16 rounds differently where a prompt is computed in other pieces: alone, behind a cached prefix, behind KV that was carried. */
async function rightAnswers(pair: Pair, prompt: readonly number[]): Promise<Set<string>> {
  const answers = new Set<string>();
  await pair.forgetPrefixes();
  for (let time = 0; time < 2; time++) answers.add((await pair.decode.complete({ prompt, maxTokens: ANSWER_TOKENS })).tokens.join("\0"));
  await pair.decode.forgetPrefixes();
  for (let time = 0; time < 2; time++) answers.add((await pair.handOver(prompt, ANSWER_TOKENS)).decode.tokens.join("\0"));
  return answers;
}

async function request(
  pair: Pair,
  prompt: readonly number[],
  expected: ReadonlySet<string>,
  tally: Tally,
  random: () => number,
): Promise<void> {
  // One in ten is given up by its client at some moment.
  const patience = random() < 0.1 ? Math.round(20 + random() * 1_500) : REQUEST_DEADLINE_MS;
  const signal = AbortSignal.timeout(patience);
  const started = Date.now();
  try {
    if (random() < 0.5) await pair.decode.forgetPrefixes();
    let params = await pair.prefill.prefill({ prompt, signal }).then(
      (answer) => answer.params,
      () => undefined,
    );
    if (signal.aborted) throw signal.reason;
    if (params !== undefined && random() < 0.1) params = forge(params, random);
    const tokens = (await pair.decode.complete({ prompt, maxTokens: ANSWER_TOKENS, ...(params === undefined ? {} : { params }), signal }))
      .tokens;
    if (expected.has(tokens.join("\0"))) tally.right++;
    else {
      tally.wrong++;
      count(
        tally.words,
        `wrong: ${JSON.stringify(tokens)} for ${[...expected].map((answer) => JSON.stringify(answer.split("\0"))).join(" or ")}`,
      );
    }
  } catch (error) {
    if (patience !== REQUEST_DEADLINE_MS && signal.aborted) tally.aborted++;
    else if (Date.now() - started >= REQUEST_DEADLINE_MS) tally.late++;
    else {
      // The decode engine itself was killed: its client sees that.
      tally.refused++;
      count(tally.words, (error as Error).message.slice(0, 100));
      while (!pair.decode.alive) await pause(250);
      await pause(500);
    }
  }
}

/** What comes back from a client need not be what the prefill engine said. */
function forge(params: Readonly<Record<string, unknown>>, random: () => number): Record<string, unknown> {
  const [source] = params["sources"] as [string, string, number, number][];
  const [peer, handle, first, heads] = source ?? ["", "", 0, 1];
  const forgeries: Record<string, unknown>[] = [
    { sources: [[peer, handle.replace(/-./, "-0"), first, heads]] },
    { sources: [["192.0.2.1:7411", handle, first, heads]] },
    { sources: [[peer, `00000000${handle.slice(8)}`, first, heads]] },
    { sources: [[peer, `${handle.slice(0, -22)}${"0".repeat(22)}`, first, heads]] },
    { sources: [[peer, handle, first, 2 ** 40]] },
    { sources: "x".repeat(100_000) },
    { tokens: 10 ** 12 },
    { tokens: 17 },
    { kvferry: 99 },
    { fingerprint: "0".repeat(64) },
  ];
  return { ...params, ...forgeries[Math.floor(random() * forgeries.length)] };
}

async function breakThings(pair: Pair, tally: Tally, random: () => number, over: () => boolean): Promise<void> {
  let rounds = 0;
  while (!over()) {
    await pause(500 + random() * 2_500);
    if (over()) return;
    const at = random() < 0.5 ? 0 : 1;
    const sidecar = pair.sidecars[at]!;
    const which = at === 0 ? "prefill" : "decode";
    rounds++;
    // Engines take most of a minute to come back: seldom.
    if (rounds % 40 === 20) {
      count(tally.faults, `${which} engine killed`);
      await pair.restart(which);
    } else if (random() < 0.6) {
      count(tally.faults, `${which} sidecar killed`);
      await sidecar.end("SIGKILL");
      await pause(random() * 1_000);
      await sidecar.begin();
    } else {
      count(tally.faults, `${which} sidecar stopped`);
      sidecar.signal("SIGSTOP");
      await pause(200 + random() * 3_000);
      sidecar.signal("SIGCONT");
    }
  }
}

async function report(
  pair: Pair,
  prompt: readonly number[],
  expected: ReadonlySet<string>,
  tally: Tally,
  requests: number,
): Promise<Figure[]> {
  await pair.decode.forgetPrefixes();
  const before = await loads(pair);
  const last = expected.has((await pair.handOver(prompt, ANSWER_TOKENS)).decode.tokens.join("\0"));
  const carried = (await loadsSince(pair, before, 1)).done > 0;
  const faults = [...tally.faults].map(([name, times]) => `${times} x ${name}`).join(", ");
  const words = [...tally.words].map(([text, times]) => `${times} x "${text.replaceAll("|", "/")}"`).join(", ");
  const { right, wrong, aborted, refused, late } = tally;
  const held = await pair.heldAfterwards();
  return [
    {
      name: `chaos: ${requests} requests, ${TOGETHER} at once; ${faults}`,
      measured: [
        `${right} right, ${wrong} wrong, ${aborted} given up by their clients`,
        `${refused} refused${words === "" ? "" : ` (${words})`}, ${late} late`,
      ].join(", "),
      wanted: "none wrong, none late; refused only by an engine that was killed",
      met: wrong === 0 && late === 0,
    },
    {
      name: "afterwards",
      measured: `next request ${last ? "right" : "wrong"}, its KV ${carried ? "carried" : "not carried"}; ${held.words}`,
      wanted: "right, carried, nothing in use",
      met: last && carried && held.nothing,
    },
  ];
}

function count(into: Map<string, number>, name: string): void {
  into.set(name, (into.get(name) ?? 0) + 1);
}
