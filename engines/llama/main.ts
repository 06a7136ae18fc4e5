/**
 * The engine process: commands in on standard input, answers out on standard output (protocol.ts), everything else on standard error.
 *
 *   node --import tsx engines/llama/main.ts --socket PATH --model FILE.gguf [--context TOKENS]
 *
 * It ends with exit code 0 on `exit` or when its input closes, 2 when it could not start (after an `error` answer with id 0).
 */
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { Engine } from "./engine.ts";
import { KvferryError, opaqueLayout } from "./kvferry.ts";
import { type Answer, type Command, idOf, parseCommand } from "./protocol.ts";
import { openRuntime } from "./runtime.ts";
import { asKvferryError, openSocket, Sidecar } from "./sidecar.ts";

const CONTEXT_TOKENS = 2_048;

const log = (line: string): void => void process.stderr.write(`${line}\n`);
const answer = (message: Answer): void => void process.stdout.write(`${JSON.stringify(message)}\n`);

async function main(): Promise<void> {
  const engine = await start();
  answer(await engine.ready());
  // One at a time and in order: there is one sequence, and it holds one prompt.
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line.trim() === "") continue;
    const command = parse(line);
    if (command === undefined) continue;
    if (command.op === "exit") {
      await engine.close();
      answer({ event: "exited", id: command.id });
      return;
    }
    answer(await carryOut(engine, command));
  }
  await engine.close();
}

async function start(): Promise<Engine> {
  const { socket, model, context } = options();
  const runtime = await openRuntime({ modelPath: model, contextTokens: context, log });
  const sidecar = new Sidecar({
    identity: runtime.identity,
    layout: (pool) => opaqueLayout(pool.blockBytes, pool.blockCount),
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

function options(): { socket: string; model: string; context: number } {
  const { values } = parseArgs({ options: { socket: { type: "string" }, model: { type: "string" }, context: { type: "string" } } });
  const context = Number(values.context ?? CONTEXT_TOKENS);
  if (values.socket === undefined || values.model === undefined || !Number.isSafeInteger(context) || context < 2) {
    throw new KvferryError("invalid_argument", "usage: main.ts --socket PATH --model FILE.gguf [--context TOKENS]");
  }
  return { socket: values.socket, model: values.model, context };
}

try {
  await main();
  process.exit(0);
} catch (cause) {
  const { code, message } = asKvferryError(cause);
  answer({ event: "error", id: 0, code, message });
  process.exit(2);
}
