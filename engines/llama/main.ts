/**
 * The engine process: commands in on standard input, answers out on standard output (protocol.ts), everything else on standard error.
 *
 *   node --import tsx engines/llama/main.ts --socket PATH --model FILE.gguf [--context TOKENS] [--sequences COUNT]
 *
 * Commands of one sequence are carried out one at a time and in order, those of different ones side by side.
 * It ends with exit code 0 on `exit` or when its input closes, 2 when it could not start (after an `error` answer with id 0).
 */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { kvLayout } from "./blocks.ts";
import { Engine } from "./engine.ts";
import { KvferryError } from "./kvferry.ts";
import { type Answer, type Command, idOf, parseCommand, SEQUENCES_MAX } from "./protocol.ts";
import { openRuntime } from "./runtime.ts";
import { asKvferryError, openSocket, Sidecar } from "./sidecar.ts";

/** Of each sequence. */
const CONTEXT_TOKENS = 2_048;
/** Commands that are not answered yet; one more is refused. */
const PENDING_MAX = 256;

const log = (line: string): void => void process.stderr.write(`${line}\n`);
const answer = (message: Answer): void => void process.stdout.write(`${JSON.stringify(message)}\n`);

async function main(): Promise<void> {
  const engine = await start();
  answer(await engine.ready());
  const lastOf = new Map<number, Promise<void>>();
  let pending = 0;
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line.trim() === "") continue;
    const command = parse(line);
    if (command === undefined) continue;
    if (command.op === "exit") {
      await Promise.all(lastOf.values());
      await engine.close();
      answer({ event: "exited", id: command.id });
      return;
    }
    if (pending === PENDING_MAX) {
      answer({ event: "error", id: command.id, code: "full", message: `${PENDING_MAX} commands are not answered yet` });
      continue;
    }
    pending += 1;
    const before = lastOf.get(command.sequence) ?? Promise.resolve();
    const done = before.then(async () => {
      answer(await carryOut(engine, command));
      pending -= 1;
    });
    lastOf.set(command.sequence, done);
  }
  await Promise.all(lastOf.values());
  await engine.close();
}

async function start(): Promise<Engine> {
  const { socket, model, context, sequences } = options();
  const runtime = await openRuntime({ modelPath: model, contextTokens: context, sequences, log });
  const sidecar = new Sidecar({
    identity: runtime.identity,
    layout: (pool) => kvLayout(runtime.kv, pool),
    open: openSocket(socket),
    onEvent: (event) => engine.handleEvent(event),
  });
  const engine = new Engine(runtime, sidecar, log);
  return engine;
}

function parse(line: string): Command | undefined {
  try {
    return parseCommand(line);
  } catch (cause) {
    const { code, message } = asKvferryError(cause);
    answer({ event: "error", id: idOf(line), code, message });
    return undefined;
  }
}

async function carryOut(engine: Engine, command: Exclude<Command, { op: "exit" }>): Promise<Answer> {
  try {
    return command.op === "prefill" ? await engine.prefill(command) : await engine.decode(command);
  } catch (cause) {
    const { code, message } = asKvferryError(cause);
    return { event: "error", id: command.id, code, message };
  }
}

function options(): { socket: string; model: string; context: number; sequences: number } {
  const text = { type: "string" } as const;
  const { values } = parseArgs({ options: { socket: text, model: text, context: text, sequences: text } });
  const context = Number(values.context ?? CONTEXT_TOKENS);
  const sequences = Number(values.sequences ?? 1);
  const counts =
    Number.isSafeInteger(context) && context >= 2 && Number.isSafeInteger(sequences) && sequences >= 1 && sequences <= SEQUENCES_MAX;
  if (values.socket === undefined || values.model === undefined || !counts) {
    throw new KvferryError("invalid_argument", "usage: main.ts --socket PATH --model FILE.gguf [--context TOKENS] [--sequences COUNT]");
  }
  return { socket: values.socket, model: values.model, context, sequences };
}

try {
  await main();
  process.exit(0);
} catch (cause) {
  const { code, message } = asKvferryError(cause);
  answer({ event: "error", id: 0, code, message });
  process.exit(2);
}
