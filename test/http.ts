/** Asks what a process serves over HTTP on its unix socket: /status, /metrics, /healthz. */
import { request } from "node:http";

const ANSWERS_WITHIN_MS = 5_000;

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** A connection of its own each time: a process that was started again has closed the one before. */
export function get(socketPath: string, path: string): Promise<HttpAnswer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, agent: false, timeout: ANSWERS_WITHIN_MS }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.once("error", reject).once("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked
      .once("error", reject)
      .once("timeout", () => asked.destroy(new Error("no answer")))
      .end();
  });
}
