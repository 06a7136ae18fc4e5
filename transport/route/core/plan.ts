/**
 * Whether a request's prefill goes to an engine of its own. Without doubt about the answer only: where one hand-over cannot be right for
 * everything that the request asks for, the decode engine does it all.
 */
import { isPlainObject } from "./completion.ts";

export type DirectReason = "short" | "no_prompt" | "several_prompts" | "several_choices" | "prompt_logprobs" | "no_prefill_engine";

export type Plan = { readonly prefill: true } | { readonly prefill: false; readonly reason: DirectReason };

export interface PlanSettings {
  /** 0 = prompts of any length are prefilled apart. */
  readonly minPrefillTokens: number;
  readonly minPrefillCharacters: number;
}

/** A proxy has no tokenizer. English has about four characters a token; Chinese about one: such prompts are longer than this thinks. */
export const CHARACTERS_PER_TOKEN = 4;

export interface PromptSize {
  readonly prompts: number;
  /** Of text; tokens given as numbers count CHARACTERS_PER_TOKEN each. */
  readonly characters: number;
  /** Images and other things whose tokens cannot be guessed. */
  readonly more: boolean;
}

export function planStatically(body: Readonly<Record<string, unknown>>, settings: PlanSettings): Plan {
  const size = promptSize(body);
  if (size.prompts === 0) return { prefill: false, reason: "no_prompt" };
  // One hand-over holds the KV of one prompt: the others would be answered from it.
  if (size.prompts > 1) return { prefill: false, reason: "several_prompts" };
  // An engine makes several requests of these, and a hand-over is spent by the first.
  if (exceedsOne(body.n) || exceedsOne(body.best_of) || body.use_beam_search === true) return { prefill: false, reason: "several_choices" };
  // They come from computing the prompt, which a decode engine that fetches its KV does not.
  if (asks(body.prompt_logprobs) || (body.echo === true && asks(body.logprobs))) return { prefill: false, reason: "prompt_logprobs" };
  const least = Math.max(settings.minPrefillCharacters, settings.minPrefillTokens * CHARACTERS_PER_TOKEN);
  return !size.more && size.characters < least ? { prefill: false, reason: "short" } : { prefill: true };
}

export function promptSize(body: Readonly<Record<string, unknown>>): PromptSize {
  if (Array.isArray(body.messages)) return chatSize(body.messages, body.tools);
  const { prompt } = body;
  if (typeof prompt === "string") return { prompts: 1, characters: prompt.length, more: false };
  if (!Array.isArray(prompt) || prompt.length === 0) return { prompts: 0, characters: 0, more: false };
  const entries = prompt as unknown[];
  if (entries.every((entry) => typeof entry === "number")) {
    return { prompts: 1, characters: entries.length * CHARACTERS_PER_TOKEN, more: false };
  }
  if (entries.length > 1) return { prompts: entries.length, characters: 0, more: false };
  const [only] = entries;
  if (typeof only === "string") return { prompts: 1, characters: only.length, more: false };
  return Array.isArray(only) && only.length > 0
    ? { prompts: 1, characters: only.length * CHARACTERS_PER_TOKEN, more: false }
    : { prompts: 0, characters: 0, more: false };
}

function chatSize(messages: readonly unknown[], tools: unknown): PromptSize {
  let characters = Array.isArray(tools) ? JSON.stringify(tools).length : 0;
  let more = false;
  for (const message of messages) {
    if (!isPlainObject(message)) continue;
    const parts: readonly unknown[] = Array.isArray(message.content) ? message.content : [message.content];
    for (const part of parts) {
      const text = isPlainObject(part) ? part.text : part;
      if (typeof text === "string") characters += text.length;
      else if (part !== undefined && part !== null) more = true;
    }
    if (Array.isArray(message.tool_calls)) characters += JSON.stringify(message.tool_calls).length;
  }
  return { prompts: messages.length === 0 ? 0 : 1, characters, more };
}

function exceedsOne(value: unknown): boolean {
  return value !== undefined && value !== null && value !== 1;
}

function asks(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false;
}
