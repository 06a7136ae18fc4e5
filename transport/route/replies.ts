/** Answers of the proxy's own: errors as OpenAI's clients read them, and plain text. */
import type { ServerResponse } from "node:http";
import { type ErrorCode, KvferryError } from "../errors.ts";
import { TRACE_HEADER } from "./headers.ts";

const STATUS: Partial<Record<ErrorCode, number>> = {
  message_malformed: 400,
  invalid_argument: 400,
  peer_not_allowed: 400,
  message_too_large: 413,
  unsupported: 415,
  connect_failed: 502,
  connection_lost: 502,
  full: 503,
  draining: 503,
  deadline_exceeded: 504,
};

export function replyText(response: ServerResponse, status: number, contentType: string, text: string): void {
  response.writeHead(status, { "content-type": contentType, "content-length": Buffer.byteLength(text) }).end(text);
}

export function replyError(response: ServerResponse, trace: string, error: unknown): void {
  const known = error instanceof KvferryError ? error : new KvferryError("internal", "see the proxy's log", { cause: error });
  replyCode(response, trace, STATUS[known.code] ?? 500, known.code, known.detail === "" ? known.message : known.detail);
}

export function replyNotFound(response: ServerResponse, trace: string): void {
  replyCode(response, trace, 404, "not_found", "only paths under /v1/, /healthz and /metrics are served here, without escapes");
}

function replyCode(response: ServerResponse, trace: string, status: number, code: string, message: string): void {
  const type = status < 500 ? "invalid_request_error" : "server_error";
  const text = JSON.stringify({ error: { message, type, param: null, code } });
  response.writeHead(status, {
    [TRACE_HEADER]: trace,
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    ...(status === 503 ? { "retry-after": "1" } : {}),
  });
  response.end(text);
}
