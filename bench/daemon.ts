/** A bench server in the background (-D): this program, started again without a terminal. It tells over a channel of its own that it listens. */
import { spawn } from "node:child_process";
import { codeOfNumber, KvferryError } from "../transport/errors.ts";
import { errorReply } from "./control.ts";
import type { BenchOptions } from "./options.ts";

const START_TIMEOUT_MS = 20_000;

export interface Daemon {
  readonly processId: number;
  readonly port: number;
}

/** Resolves when it listens. Rejects with its own error, or deadline_exceeded. */
export async function startDaemon(command: readonly string[], options: BenchOptions): Promise<Daemon> {
  const [program, ...args] = command;
  const child = spawn(program!, [...args, ...flagsOf(options)], { detached: true, stdio: ["ignore", "ignore", "ignore", "ipc"] });
  let timer: NodeJS.Timeout | undefined;
  try {
    const port = await new Promise<number>((resolve, reject) => {
      timer = setTimeout(() => reject(new KvferryError("deadline_exceeded", "the bench server did not start")), START_TIMEOUT_MS);
      child.once("error", (error) => reject(new KvferryError("unsupported", `the bench server did not start: ${error.message}`)));
      child.once("exit", (code) => reject(new KvferryError("unsupported", `the bench server ended with exit code ${code}`)));
      child.once("message", (message) => {
        const news = message as News;
        if ("port" in news) resolve(news.port);
        else reject(new KvferryError(codeOfNumber(news.number), news.detail));
      });
    });
    return { processId: child.pid!, port };
  } catch (error) {
    child.kill("SIGKILL");
    throw error;
  } finally {
    clearTimeout(timer);
    child.removeAllListeners();
    if (child.connected) child.disconnect();
    child.unref();
  }
}

/** The daemon's side of it: whoever waits gets the port, or the error. */
export async function announced<Server extends { readonly port: number }>(starting: Promise<Server>): Promise<Server> {
  try {
    const server = await starting;
    await tell({ port: server.port });
    return server;
  } catch (error) {
    await tell(errorReply(error));
    throw error;
  }
}

type News = { readonly port: number } | { readonly number: number; readonly detail: string };

async function tell(news: News): Promise<void> {
  if (process.send === undefined) return;
  await new Promise<void>((resolve) => process.send!(news, undefined, undefined, () => resolve()));
  if (process.connected) process.disconnect();
}

function flagsOf({ port, bind, oneOff, output, tls }: BenchOptions): string[] {
  return [
    ...["bench", "-s", "-p", String(port)],
    ...(bind === "" ? [] : ["--bind", bind]),
    ...(oneOff ? ["-1"] : []),
    ...(typeof tls === "string" ? [] : ["--tls-cert", tls.certificate, "--tls-key", tls.key, "--tls-ca", tls.authorities]),
    ...(output.logfile === "" ? [] : ["--logfile", output.logfile]),
    ...(output.title === "" ? [] : ["--title", output.title]),
    ...(output.form === "text" ? [] : ["--json-stream"]),
  ];
}
