/** The demo's engines: started, spoken to line by line, waited for with deadlines. */
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ROOT, START_SECONDS, startNode, within, wordsOf } from "../../demo/processes.ts";
import type { Answer, Command } from "../protocol.ts";

const ANSWER_SECONDS = 300;

export interface EngineProcess {
  readonly ready: Extract<Answer, { event: "ready" }>;
  /** Sends a command and waits for its answer; rejects where that is an error, or where the engine ends. */
  ask<E extends Answer["event"]>(event: E, command: Omitted<Command>): Promise<Extract<Answer, { event: E }>>;
}

type Omitted<T> = T extends { readonly sequence: number } ? Omit<T, "id" | "sequence"> & { readonly sequence?: number } : Omit<T, "id">;
/** A command without its number, which the process gives it. */
export type Request = Omitted<Command>;

export async function startEngine(socket: string, model: string, contextTokens: number, sequences = 1): Promise<EngineProcess> {
  const child = startNode([
    join(ROOT, "engines", "llama", "main.ts"),
    "--socket",
    socket,
    "--model",
    model,
    "--context",
    String(contextTokens),
    "--sequences",
    String(sequences),
  ]);
  const waiting = new Map<number, { resolve: (answer: Answer) => void; reject: (error: Error) => void }>();
  const answered = (id: number): Promise<Answer> => new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  child.once("close", (code, signal) => {
    for (const { reject } of waiting.values()) reject(new Error(`an engine ended (${signal ?? code}): ${wordsOf(child)}`));
    waiting.clear();
  });
  let commands = 0;
  const first = answered(0);
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on("line", (line) => {
    const answer = JSON.parse(line) as Answer;
    const id = answer.event === "ready" ? 0 : answer.id;
    waiting.get(id)?.resolve(answer);
    waiting.delete(id);
  });
  const ready = expectEvent("ready", await within(first, START_SECONDS, "an engine did not start"));
  return {
    ready,
    async ask(event, command) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`an engine has ended: ${wordsOf(child)}`);
      const id = ++commands;
      const answer = answered(id);
      child.stdin?.write(`${JSON.stringify({ id, ...command })}\n`);
      return expectEvent(event, await within(answer, ANSWER_SECONDS, `an engine did not answer "${command.op}"`));
    },
  };
}

function expectEvent<E extends Answer["event"]>(event: E, answer: Answer): Extract<Answer, { event: E }> {
  if (answer.event === event) return answer as Extract<Answer, { event: E }>;
  throw new Error(answer.event === "error" ? answer.message : `an engine answered ${answer.event} where ${event} was expected`);
}
