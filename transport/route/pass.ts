/** A request that is passed to a decode engine as it is: one that only reads can be sent twice; a body streams through, once. */
import type { IncomingMessage } from "node:http";
import { KvferryError } from "../errors.ts";
import type { Answer, Exchange } from "./exchange.ts";
import type { RunningRequest } from "./running.ts";

const READING: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);

/** Rejects with KvferryError. */
export async function pass(running: RunningRequest, exchange: Exchange, bodyBytesMax: number): Promise<Answer> {
  const { request, trace, signal } = running;
  const sent = { method: request.method!, path: request.url!, headers: request.headersDistinct, trace, signal };
  if (!hasBody(request)) {
    const body = Buffer.alloc(0);
    return READING.has(sent.method) ? exchange.answer({ ...sent, body }) : exchange.once(sent, body);
  }
  const tooLarge = new KvferryError("message_too_large", `the body is longer than ${bodyBytesMax} bytes`);
  if (Number(request.headers["content-length"] ?? 0) > bodyBytesMax) throw tooLarge;
  let bytes = 0;
  // Beside the pipe that the engine's speed holds back; a listener of its own would not wait for anybody.
  const count = (piece: Buffer): void => {
    bytes += piece.length;
    if (bytes > bodyBytesMax) running.end(tooLarge);
  };
  const answer = exchange.once(sent, request);
  request.on("data", count);
  return answer;
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
}
