/**
 * `npm run demo` with llama.cpp: one prompt, two engines, and a KV cache that travels between them.
 *
 * Method: the decode engine answers a real prompt four times. First alone. Then with the KV that the prefill engine computed, ferried
 * over TCP from one sidecar to the other. Then without a ticket, with what is published of the prompt's beginning. Then with the link
 * slowed down and the sending sidecar killed half way. The four answers must be equal, token for token.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { MissingError } from "../../demo/install.ts";
import { freeAddress, pause, type SidecarProcess, startSidecar } from "../../demo/processes.ts";
import { count, duration, during, gigabits, mebibytes, paragraph, progressLine, quote, say, title } from "../../demo/words.ts";
import type { Decoded, Prefilled } from "../protocol.ts";
import { type EngineProcess, startEngine } from "./engine.ts";
import { install } from "./install.ts";

const PROMPT = readFileSync(join(import.meta.dirname, "..", "prompts", "harbour.txt"), "utf8");
const NEW_TOKENS = 52;
const CONTEXT_TOKENS = 2_048;
/** Slow enough that 22.5 MiB take three seconds, so that there is a middle to be killed in. */
const CAPPED_RATE = "64Mbit";
const KILL_AT = 0.4;
const DEADLINE_MS = 30_000;
const DEADLINE_AFTER_KILL_MS = 6_000;
/** A block is 16 tokens of this model: 30 layers x K and V x 3 heads x 64 channels of 16 bits. */
const POOL = { "pool-bytes": "32MiB", "pool-block-bytes": "360KiB", "pool-huge-pages": "off", "log-level": "warn" };

const INTRODUCTION = [
  "To answer a prompt, an engine first reads it (prefill), which leaves a large cache of keys and values behind, and then writes",
  "token by token (decode). Here two llama.cpp engines share that work. Each is a process of its own with a kvferry sidecar beside it;",
  "the cache goes from the first engine to its sidecar, over TCP to the other sidecar, and into the second engine, which then need",
  "not read the prompt at all.",
].join(" ");

interface Stage {
  readonly folder: string;
  readonly prefillAddress: string;
  readonly decode: SidecarProcess;
  readonly prefillEngine: EngineProcess;
  readonly decodeEngine: EngineProcess;
}

/** Resolves with whether the answers were equal. */
export async function demo(folder: string): Promise<boolean> {
  title("kvferry demo: one prompt, two engines, and a KV cache that travels");
  console.log("");
  paragraph(INTRODUCTION);

  title("Getting ready");
  const model = await install(progressLine);
  const prefillAddress = await freeAddress();
  let sender = await startPrefillSidecar(folder, prefillAddress, {});
  if ((await sender.ferry.pool()).path === "") {
    throw new MissingError(
      "the native addon is not built, and engines attach to pools through it; `npm run -s kvferry -- doctor` says what is missing",
    );
  }
  const decode = await startSidecar(
    { ...POOL, name: "decode", "pool-directory": folder, peers: `prefill=${prefillAddress}` },
    join(folder, "decode.sock"),
    await freeAddress(),
  );
  say("sidecars", `prefill on ${sender.address}, decode on ${decode.address}`);
  const prefillEngine = await startEngine(sender.socket, model, CONTEXT_TOKENS);
  const decodeEngine = await startEngine(decode.socket, model, CONTEXT_TOKENS);
  say("engines", `two of ${prefillEngine.ready.description}`);
  const stage: Stage = { folder, prefillAddress, decode, prefillEngine, decodeEngine };

  const alone = await decodeAlone(stage);
  const ferried = await decodeFerried(stage, alone);
  const reused = await decodeReused(stage, alone);
  // Its blocks and handles end with it; the engine finds the new one by itself.
  const code = await sender.end("SIGTERM");
  if (code !== 0) throw new Error(`the prefill sidecar ended with exit code ${code} after SIGTERM`);
  sender = await startPrefillSidecar(folder, prefillAddress, { rate: CAPPED_RATE });
  const recomputed = await decodeKilled(stage, sender, alone);

  const equal = [ferried, reused, recomputed].every((run) => sameTokens(alone, run));
  title(
    equal
      ? "Four runs, one answer. What kvferry carries is the same cache, or none."
      : "THE ANSWERS DIFFER. That must not happen; please report it.",
  );
  return equal;
}

function startPrefillSidecar(folder: string, address: string, flags: Readonly<Record<string, string>>): Promise<SidecarProcess> {
  return startSidecar({ ...POOL, ...flags, name: "prefill", "pool-directory": folder }, join(folder, "prefill.sock"), address);
}

async function decodeAlone({ decodeEngine }: Stage): Promise<Decoded> {
  title("1  The decode engine alone");
  const work = decodeEngine.ask("decoded", { op: "decode", prompt: PROMPT, count: NEW_TOKENS });
  const run = await during("prompt", "being computed here", work);
  say("prompt", `${count(run.promptTokens)} tokens, computed here`);
  say("first token after", duration(run.firstTokenMs));
  quote("answer", run.text);
  return run;
}

async function decodeFerried({ prefillEngine, decodeEngine }: Stage, alone: Decoded): Promise<Decoded> {
  title("2  The prompt read by one engine, the answer written by the other");
  const prefilled = await prefill(prefillEngine);
  const { ticket } = prefilled;
  say(
    "prefill engine",
    `${count(prefilled.tokens)} tokens in ${duration(prefilled.prefillMs)}, KV of ${mebibytes(ticket.bytes)} in ${ticket.blocks} blocks`,
  );
  const from = { peer: "prefill", ticket, deadlineMs: DEADLINE_MS };
  const run = await decodeEngine.ask("decoded", { op: "decode", prompt: PROMPT, count: NEW_TOKENS, from });
  const { report } = run;
  if (report === undefined) throw new Error(`the KV did not come: ${run.failure?.message ?? "no reason given"}`);
  const rate = gigabits(report.bytes, report.seconds);
  const size = mebibytes(report.bytes);
  const time = duration(report.seconds * 1000);
  say("ferried", `${size} in ${time} = ${rate} (${report.link}, ${report.chunks} chunks, every one checked)`);
  say("into llama.cpp in", duration(run.restoreMs ?? 0));
  const times = (alone.firstTokenMs / run.firstTokenMs).toFixed(0);
  say("first token after", `${duration(run.firstTokenMs)} instead of ${duration(alone.firstTokenMs)}: ${times} times sooner`);
  quote("answer", run.text);
  sayEqual(alone, run);
  return run;
}

async function decodeReused({ decodeEngine }: Stage, alone: Decoded): Promise<Decoded> {
  title("3  The same prompt comes again, and nobody says where its KV is");
  const reuse = { peers: ["prefill"], deadlineMs: DEADLINE_MS };
  const run = await decodeEngine.ask("decoded", { op: "decode", prompt: PROMPT, count: NEW_TOKENS, reuse });
  const { report, reused } = run;
  if (report === undefined || reused === undefined) throw new Error(`no prefix was found: ${run.failure?.message ?? "no reason given"}`);
  const blocks = reused.tokens / decodeEngine.ready.blockTokens;
  say("found by their content", `${blocks} blocks of ${decodeEngine.ready.blockTokens} tokens, published at the prefill sidecar`);
  say(
    "ferried",
    `${mebibytes(report.bytes)} in ${duration(report.seconds * 1000)}; ${run.promptTokens - reused.tokens} tokens computed here`,
  );
  say("first token after", `${duration(run.firstTokenMs)} instead of ${duration(alone.firstTokenMs)}`);
  sayEqual(alone, run);
  return run;
}

async function decodeKilled({ decode, prefillEngine, decodeEngine }: Stage, sender: SidecarProcess, alone: Decoded): Promise<Decoded> {
  title(`4  With a ticket again, at ${CAPPED_RATE.replace("Mbit", " Mbit/s")}, and the sending sidecar killed half way`);
  const { ticket } = await prefill(prefillEngine);
  const before = (await decode.ferry.stats()).bytesReceived;
  const from = { peer: "prefill", ticket, deadlineMs: DEADLINE_AFTER_KILL_MS };
  const running = decodeEngine.ask("decoded", { op: "decode", prompt: PROMPT, count: NEW_TOKENS, from });
  let received = 0;
  while (received < ticket.bytes * KILL_AT) {
    const early = await Promise.race([running, pause(20)]);
    if (early !== undefined) throw new Error(`there was no middle: ${early.failure?.message ?? `it took ${early.report?.seconds} s`}`);
    received = (await decode.ferry.stats()).bytesReceived - before;
  }
  await sender.end("SIGKILL");
  say("kill -9", `after ${mebibytes(received)} of ${mebibytes(ticket.bytes)}`);
  const run = await during("the decode engine", "waits for its deadline, then computes", running);
  if (run.failure === undefined) throw new Error("the transfer outlived its sender");
  say("the fetch fails", `with ${run.failure.code}, after ${duration(run.failure.afterMs)} (deadline ${duration(DEADLINE_AFTER_KILL_MS)})`);
  say("the decode engine", `computes the prompt itself; first token after ${duration(run.firstTokenMs)}`);
  quote("answer", run.text);
  sayEqual(alone, run);
  return run;
}

function prefill(engine: EngineProcess): Promise<Prefilled> {
  return during("prefill engine", "reads the prompt", engine.ask("prefilled", { op: "prefill", prompt: PROMPT }));
}

function sayEqual(alone: Decoded, run: Decoded): void {
  const equal = run.tokens.filter((token, index) => token === alone.tokens[index]).length;
  say("same answer", `${sameTokens(alone, run) ? "yes" : "NO"}, ${equal} of ${alone.tokens.length} tokens equal`);
}

function sameTokens(one: Decoded, other: Decoded): boolean {
  return one.tokens.length === other.tokens.length && one.tokens.every((token, index) => token === other.tokens[index]);
}
