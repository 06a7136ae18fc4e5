/** A completion request: parsed once at the edge, and the bodies that are made of it for a prefill and for a decode engine. */
import { KvferryError } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { type Member, membersOf, objectOf } from "./members.ts";

export interface Completion {
  readonly members: readonly Member[];
  /** The same, parsed; for looking at, never for sending. */
  readonly value: Readonly<Record<string, unknown>>;
}

const PARAMS = "kv_transfer_params";
/** Says that this prefill's KV is fetched by another engine. Both vLLM's own connectors and kvferry's read it so. */
const PREFILL_PARAMS = '{"do_remote_decode":true,"do_remote_prefill":false}';

/**
 * Throws KvferryError (message_malformed). What an engine might read otherwise than this does is refused: what is checked here must be
 * what the engine sees.
 */
export function parseCompletion(text: string): Completion {
  const value = parseJson(text);
  if (!isPlainObject(value)) throw malformed("the body is no JSON object");
  const members = membersOf(text, limits.routeDepthMax);
  if (members === undefined) throw malformed(`the body is nested deeper than ${limits.routeDepthMax} levels`);
  const names = new Set<string>();
  for (const { name, text: written } of members) {
    if (names.has(name)) throw malformed(`the body names ${JSON.stringify(name.slice(0, 64))} twice`);
    names.add(name);
    if (name === PARAMS && written !== "null") throw malformed(`${PARAMS} are for the proxy to give`);
  }
  const more = value.vllm_xargs;
  if (isPlainObject(more) && Object.hasOwn(more, PARAMS)) throw malformed(`${PARAMS} are for the proxy to give, in vllm_xargs too`);
  return { members, value };
}

/** The same prompt for one token that nobody reads: what stays is its KV. */
export function prefillBody({ members }: Completion): string {
  const one = new Set(["max_completion_tokens", "n", "best_of"]);
  const gone = new Set(["max_tokens", "min_tokens", "stream", "stream_options", PARAMS]);
  const kept = members
    .filter(({ name }) => !gone.has(name))
    .map(({ name, text }) => (one.has(name) && text !== "null" ? { name, text: "1" } : { name, text }));
  return objectOf([...kept, { name: "max_tokens", text: "1" }, { name: "stream", text: "false" }, { name: PARAMS, text: PREFILL_PARAMS }]);
}

/** The client's own body with where the KV is. */
export function decodeBody({ members }: Completion, params: string): string {
  return objectOf([...members.filter(({ name }) => name !== PARAMS), { name: PARAMS, text: params }]);
}

export type PrefillAnswer =
  | { readonly ok: true; readonly params: string }
  | { readonly ok: false; readonly reason: "answer_malformed" | "no_params" | "params_malformed" | "params_too_large" };

/** The parameters in a prefill engine's answer, as it wrote them. They are opaque: only their kind and their size are looked at. */
export function paramsOf(answer: string): PrefillAnswer {
  let value: unknown;
  try {
    value = JSON.parse(answer);
  } catch {
    return { ok: false, reason: "answer_malformed" };
  }
  const members = isPlainObject(value) ? membersOf(answer, limits.routeDepthMax) : undefined;
  if (members === undefined) return { ok: false, reason: "answer_malformed" };
  const found = members.filter(({ name, text }) => name === PARAMS && text !== "null");
  const [member] = found;
  if (member === undefined) return { ok: false, reason: "no_params" };
  if (found.length > 1 || !member.text.startsWith("{") || !/[^{}\s]/.test(member.text)) return { ok: false, reason: "params_malformed" };
  return member.text.length > limits.routeParamsCharacters ? { ok: false, reason: "params_too_large" } : { ok: true, params: member.text };
}

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw malformed("the body is no JSON", error);
  }
}

function malformed(detail: string, cause?: unknown): KvferryError {
  return new KvferryError("message_malformed", detail, { cause });
}
