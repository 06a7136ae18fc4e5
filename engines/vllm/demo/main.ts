/**
 * `npm run demo -- --engine vllm`: two vLLM servers with a sidecar each, and `kvferry route --static` in front of them.
 *
 * Method: a real prompt of 2,048 tokens is answered three times. First by the decode server alone. Then through the router: the prefill
 * server computes the prompt, its KV is ferried, the decode server answers. Then the prefill server's sidecar is killed between the two
 * steps. The three answers must be equal, token for token. Prefix caches are off, so nothing is remembered from one run to the next.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Completion, complete, Vllm, type VllmPlace } from "../../../bench/engines/vllm.ts";
import { freeAddress, pause, ROOT, type SidecarProcess, START_SECONDS, startNode, startSidecar, wordsOf } from "../../demo/processes.ts";
import { count, duration, during, gigabits, mebibytes, paragraph, progressLine, quote, say, title } from "../../demo/words.ts";
import { install } from "./install.ts";

const PROMPT_TOKENS = 2_048;
const NEW_TOKENS = 32;
const POOL = { "pool-bytes": "128MiB", "pool-huge-pages": "off", "log-level": "warn", allow: "127.0.0.1" };
/**
 * An engine that has loaded a prompt's KV computes the prompt's last token, alone. Sums of floating-point numbers depend on the shape of a
 * batch; with steps of one token less than the prompt, every run computes it in the same two.
 */
const ENGINE_FLAGS = ["--no-enable-prefix-caching", "--max-num-batched-tokens", String(PROMPT_TOKENS - 1)];
const STATISTICS_MS = 15_000;

const INTRODUCTION = [
  "To answer a prompt, an engine first reads it (prefill), which leaves a large cache of keys and values behind, and then writes",
  "token by token (decode). Here two vLLM servers share that work. Each has a kvferry sidecar beside it and kvferry's connector in",
  "it; a router speaks OpenAI's API to you and sends each request to the prefill server first, then to the decode server, which",
  "fetches the cache from sidecar to sidecar and need not read the prompt.",
].join(" ");

interface Stage {
  readonly sender: SidecarProcess;
  readonly receiver: SidecarProcess;
  readonly prefill: Vllm;
  readonly decode: Vllm;
  /** Of the router. */
  readonly url: string;
  readonly prompt: readonly number[];
}

/** Resolves with whether the answers were equal. */
export async function demo(folder: string): Promise<boolean> {
  title("kvferry demo: one prompt, two vLLM servers, and a KV cache that travels");
  console.log("");
  paragraph(INTRODUCTION);

  title("Getting ready");
  const stage = await prepare(folder, await install(progressLine));
  const alone = await decodeAlone(stage);
  const ferried = await decodeFerried(stage, alone);
  const recomputed = await decodeKilled(stage, alone);
  const equal = [ferried, recomputed].every((answer) => sameTokens(alone, answer));
  title(
    equal
      ? "Three runs, one answer. What kvferry carries is the same cache, or none."
      : "THE ANSWERS DIFFER. That must not happen; please report it.",
  );
  await Promise.all([stage.prefill.end(), stage.decode.end()]);
  return equal;
}

async function prepare(folder: string, place: VllmPlace): Promise<Stage> {
  const sidecar = async (name: string): Promise<SidecarProcess> =>
    startSidecar({ ...POOL, name, "pool-directory": folder }, join(folder, `${name}.sock`), await freeAddress());
  const [sender, receiver] = [await sidecar("prefill"), await sidecar("decode")];
  say("sidecars", `prefill on ${sender.address}, decode on ${receiver.address}`);
  const servers = Promise.all([startServer("prefill", folder, place, sender), startServer("decode", folder, place, receiver)]);
  const [prefill, decode] = await during("vLLM servers", "starting", servers);
  say("vLLM servers", `prefill on ${prefill.url}, decode on ${decode.url}`);
  const url = await startRouter(prefill, decode);
  say("router", `${url}/v1 (kvferry route --static)`);
  const text = readFileSync(join(ROOT, "engines", "llama", "prompts", "harbour.txt"), "utf8");
  const ids = await decode.tokenize(text);
  const prompt = [...ids, ...ids];
  if (prompt.length !== PROMPT_TOKENS)
    throw new Error(`the prompt has ${prompt.length} tokens; the engines are set up for ${PROMPT_TOKENS}`);
  say("prompt", `a text about harbours, twice: ${count(prompt.length)} tokens`);
  // The first prompts of a server take longer; figures of them would flatter us.
  const others = [prefill, decode].map((server) => server.complete({ prompt: prompt.toReversed(), maxTokens: 1 }));
  await during("vLLM servers", "read another prompt, to be warm", Promise.all(others));
  return { sender, receiver, prefill, decode, url, prompt };
}

async function startServer(name: string, folder: string, place: VllmPlace, sidecar: SidecarProcess): Promise<Vllm> {
  const transfer = {
    kv_connector: "KvferryConnector",
    kv_connector_module_path: "kvferry_vllm.connector",
    kv_role: "kv_both",
    kv_load_failure_policy: "recompute",
    kv_connector_extra_config: { socket: sidecar.socket },
  };
  // The packages of this checkout, whichever the environment was made from.
  const env = { PYTHONPATH: [join(ROOT, "engines/python/src"), join(ROOT, "engines/vllm/src")].join(":") };
  const server = await Vllm.start({ name: `${name} server`, place, folder, transfer, env, flags: ENGINE_FLAGS });
  // A server is several processes. They end with the demo, however it ends.
  process.on("exit", () => {
    try {
      process.kill(-server.pid, "SIGKILL");
    } catch {
      // They have ended.
    }
  });
  return server;
}

async function startRouter(prefill: Vllm, decode: Vllm): Promise<string> {
  const address = await freeAddress();
  const flags = ["--static", "--listen", address, "--prefill", prefill.url, "--decode", decode.url, "--log-level", "warn"];
  const child = startNode([join(ROOT, "transport", "cli.ts"), "route", ...flags]);
  child.stdout?.resume();
  const url = `http://${address}`;
  for (let waitedMs = 0; waitedMs < START_SECONDS * 1000; waitedMs += 100) {
    const answer = await fetch(`${url}/healthz`).catch(() => undefined);
    if (answer?.ok === true) return url;
    if (child.exitCode !== null || child.signalCode !== null) break;
    await pause(100);
  }
  throw new Error(`the router did not start: ${wordsOf(child)}`);
}

async function decodeAlone({ decode, prompt }: Stage): Promise<Completion> {
  title("1  The decode server alone");
  const answer = await during("decode server", "reads the prompt", decode.complete({ prompt, maxTokens: NEW_TOKENS }));
  say("first token after", duration(answer.firstMs));
  quote("answer", answer.text);
  return answer;
}

async function decodeFerried({ receiver, decode, url, prompt }: Stage, alone: Completion): Promise<Completion> {
  title("2  The same request to the router: the prompt read by one server, the answer written by the other");
  const bytesBefore = (await receiver.ferry.stats()).bytesReceived;
  const before = await loads(decode);
  const answer = await during("prefill server", "reads the prompt", complete("the router", url, { prompt, maxTokens: NEW_TOKENS }));
  const bytes = (await receiver.ferry.stats()).bytesReceived - bytesBefore;
  const after = await loadsAfter(decode, before);
  if (bytes === 0 || after.count === before.count) throw new Error("the router answered, but no KV came to the decode server");
  const seconds = after.seconds - before.seconds;
  const first = 1000 * (after.firstSeconds - before.firstSeconds);
  say("ferried", `${mebibytes(bytes)} into vLLM's blocks in ${duration(1000 * seconds)} = ${gigabits(bytes, seconds)}, every byte checked`);
  say("first token after", `${duration(answer.firstMs)}, the work of the prefill server included`);
  say(
    "the decode server",
    `took ${duration(first)} of it, instead of ${duration(alone.firstMs)}: ${(alone.firstMs / first).toFixed(1)} times less`,
  );
  quote("answer", answer.text);
  sayEqual(alone, answer);
  return answer;
}

async function decodeKilled({ sender, prefill, decode, prompt }: Stage, alone: Completion): Promise<Completion> {
  title("3  The prefill server's sidecar killed between prefill and decode");
  const { params } = await during("prefill server", "reads the prompt", prefill.prefill({ prompt }));
  if (params === undefined) throw new Error("the prefill server does not say where its KV is");
  await sender.end("SIGKILL");
  say("kill -9", `the KV of ${count(prompt.length)} tokens is gone, and the decode server is told to fetch it`);
  const failedBefore = await decode.metric("vllm:kvferry_failed_loads_total");
  const running = decode.complete({ prompt, maxTokens: NEW_TOKENS, params });
  const answer = await during("decode server", "finds nobody, then reads the prompt itself", running);
  const failed = await settled(() => decode.metric("vllm:kvferry_failed_loads_total"), failedBefore);
  if (failed === failedBefore) throw new Error("the load outlived its source");
  say("decode server", `the load fails, the prompt is computed; first token after ${duration(answer.firstMs)}`);
  quote("answer", answer.text);
  sayEqual(alone, answer);
  return answer;
}

interface Loads {
  readonly count: number;
  readonly seconds: number;
  /** Of all requests together, until their first tokens. */
  readonly firstSeconds: number;
}

async function loads(decode: Vllm): Promise<Loads> {
  return {
    count: await decode.metric("vllm:kvferry_load_seconds_count"),
    seconds: await decode.metric("vllm:kvferry_load_seconds_sum"),
    firstSeconds: await decode.metric("vllm:time_to_first_token_seconds_sum"),
  };
}

async function loadsAfter(decode: Vllm, before: Loads): Promise<Loads> {
  await settled(() => decode.metric("vllm:kvferry_load_seconds_count"), before.count);
  await settled(() => decode.metric("vllm:time_to_first_token_seconds_sum"), before.firstSeconds);
  return loads(decode);
}

/** The value once it is no longer what it was, or that: vLLM passes statistics on with some delay. */
async function settled(read: () => Promise<number>, before: number): Promise<number> {
  let now = await read();
  for (const started = Date.now(); now === before && Date.now() - started < STATISTICS_MS; await pause(100)) now = await read();
  return now;
}

function sayEqual(alone: Completion, answer: Completion): void {
  const equal = answer.tokens.filter((token, index) => token === alone.tokens[index]).length;
  say("same answer", `${sameTokens(alone, answer) ? "yes" : "NO"}, ${equal} of ${alone.tokens.length} tokens equal`);
}

function sameTokens(one: Completion, other: Completion): boolean {
  return one.tokens.length === other.tokens.length && one.tokens.every((token, index) => token === other.tokens[index]);
}
