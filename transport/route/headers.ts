/** Headers on their way through: what belongs to one connection stays there; the request's trace id is kept, or made. */
import { randomUUID } from "node:crypto";
import { PREFILLER_HEADER } from "./prefillers.ts";
import { limits } from "../limits.ts";

/** As node:http takes them and gives them in `headersDistinct`. */
export type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

export const TRACE_HEADER = "x-request-id";

/** RFC 9110, 7.6.1, and what node:http writes itself. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
const REQUEST_ONLY: ReadonlySet<string> = new Set(["host", "expect", PREFILLER_HEADER, TRACE_HEADER]);

/** What goes behind the headers: that many bytes, nothing at all, or a stream. */
export type BodyLength = number | "none" | "stream";

/**
 * For an engine. How long the body is, is always said: node:http leaves that out for methods that have none as a rule, and the body would
 * be read as the next request on that connection.
 */
export function engineHeaders(headers: Headers, trace: string, length: BodyLength): Record<string, string | string[]> {
  const kept = passed(headers, REQUEST_ONLY);
  kept[TRACE_HEADER] = trace;
  const said = kept["content-length"];
  delete kept["content-length"];
  if (typeof length === "number") kept["content-length"] = String(length);
  else if (length === "stream" && typeof said === "string") kept["content-length"] = said;
  else if (length === "stream") kept["transfer-encoding"] = "chunked";
  return kept;
}

/** For the client: the engine's, with the trace id where the engine did not say it. */
export function clientHeaders(headers: Headers, trace: string): Record<string, string | string[]> {
  return { [TRACE_HEADER]: trace, ...passed(headers, new Set()) };
}

/** One that a log line and an engine's own request id can hold; others get a new one. */
export function traceOf(headers: Headers): string {
  const given = headers[TRACE_HEADER];
  const [first, second] = typeof given === "string" ? [given] : (given ?? []);
  const fits = first !== undefined && second === undefined && first.length <= limits.routeTraceCharacters && /^[\w.:/+=@-]+$/.test(first);
  return fits ? first : randomUUID();
}

function passed(headers: Headers, without: ReadonlySet<string>): Record<string, string | string[]> {
  const connection = headers.connection ?? [];
  const named = (typeof connection === "string" ? [connection] : connection).flatMap((line) => line.toLowerCase().split(","));
  const dropped = new Set(named.map((word) => word.trim()));
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || HOP_BY_HOP.has(name) || without.has(name) || dropped.has(name)) continue;
    kept[name] = typeof value === "string" ? value : value.length === 1 ? value[0]! : [...value];
  }
  return kept;
}
