/**
 * What an engine process is told on its standard input and answers on its standard output: one JSON object a line. Every command has an
 * `id`; its one answer carries the same. A command that does not parse is answered with an error, never acted upon in part.
 */
import { type ErrorCode, KvferryError, type TransferReport } from "./kvferry.ts";

/** What travels beside the KV, from the engine that holds it to the one that wants it (vLLM calls its own `kv_transfer_params`). */
export interface Ticket {
  readonly handle: string;
  /** Of KV, in so many blocks of the holder. */
  readonly bytes: number;
  readonly blocks: number;
  /** Prompt tokens whose KV it is, and the SHA-256 of their ids (u32, little-endian), in hex: KV does not say whose it is. */
  readonly tokens: number;
  readonly digest: string;
}

/** The longest prefix of the prompt that is published, here or at these peers, is not computed again. */
export interface Reuse {
  readonly peers: readonly string[];
  readonly deadlineMs: number;
}

export type Command =
  | {
      readonly op: "prefill";
      readonly id: number;
      /** Which of the engine's sequences; commands of different ones run side by side. */
      readonly sequence: number;
      readonly prompt: string;
      readonly reuse?: Reuse;
    }
  | {
      readonly op: "decode";
      readonly id: number;
      readonly sequence: number;
      readonly prompt: string;
      readonly reuse?: Reuse;
      /** New tokens wanted. */
      readonly count: number;
      /** Where the prompt's KV is; without it the prompt is computed here. */
      readonly from?: { readonly peer: string; readonly ticket: Ticket; readonly deadlineMs: number };
    }
  | { readonly op: "exit"; readonly id: number };

export interface Ready {
  readonly event: "ready";
  readonly description: string;
  readonly fingerprint: string;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly blockTokens: number;
  readonly sequences: number;
}

/** Of a prompt's tokens: those whose KV was found published, and how many of them had to be fetched from a peer. */
export interface Reused {
  readonly tokens: number;
  readonly fetchedTokens: number;
}

export interface Prefilled {
  readonly event: "prefilled";
  readonly id: number;
  readonly tokens: number;
  readonly prefillMs: number;
  /** Saving the state and copying it into blocks. */
  readonly saveMs: number;
  readonly ticket: Ticket;
  readonly reused?: Reused;
}

/** Why the KV did not come, and how long that took to find out. */
export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
  readonly afterMs: number;
}

export interface Decoded {
  readonly event: "decoded";
  readonly id: number;
  /** The prompt's KV: all of it with the ticket, a prefix of it as it was published, or none. */
  readonly via: "ferried" | "reused" | "computed";
  readonly promptTokens: number;
  readonly firstTokenMs: number;
  readonly totalMs: number;
  readonly tokens: readonly number[];
  readonly text: string;
  readonly reused?: Reused;
  /** Of the transfer (via = ferried; via = reused, if a peer had some of it). */
  readonly report?: TransferReport;
  /** From the blocks into llama.cpp; via = reused: and computing the rest. */
  readonly restoreMs?: number;
  /** The KV was asked for and did not come, so that the prompt was computed after all. */
  readonly failure?: Failure;
}

export type Answer =
  | Ready
  | Prefilled
  | Decoded
  | { readonly event: "exited"; readonly id: number }
  | { readonly event: "error"; readonly id: number; readonly code: ErrorCode; readonly message: string };

const PROMPT_CHARACTERS_MAX = 1_000_000;
const TOKENS_MAX = 8_192;
const BLOCKS_MAX = 262_144;
const DEADLINE_MS_MAX = 3_600_000;
const PEERS_MAX = 64;
export const SEQUENCES_MAX = 64;

/** Throws KvferryError invalid_argument. */
export function parseCommand(line: string): Command {
  const value = record(parseJson(line), "command");
  const id = whole(value.id, "id", 0, Number.MAX_SAFE_INTEGER);
  switch (value.op) {
    case "exit":
      return { op: "exit", id };
    case "prefill":
      return { op: "prefill", id, ...parsePrompt(value) };
    case "decode": {
      const decode = {
        op: "decode",
        id,
        ...parsePrompt(value),
        count: whole(value.count, "count", 1, TOKENS_MAX),
      } as const;
      return value.from === undefined ? decode : { ...decode, from: parseFrom(record(value.from, "from")) };
    }
    default:
      throw wrong('"prefill", "decode" or "exit"', "op", value.op);
  }
}

/** The `id` of a line that did not parse as a command, so that its sender can be answered; 0 where there is none. */
export function idOf(line: string): number {
  const match = line.match(/"id"\s*:\s*(\d{1,15})\b/);
  return match === null ? 0 : Number(match[1]);
}

function parsePrompt(value: Record<string, unknown>): { sequence: number; prompt: string; reuse?: Reuse } {
  const sequence = whole(value.sequence ?? 0, "sequence", 0, SEQUENCES_MAX - 1);
  const prompt = text(value.prompt, "prompt", PROMPT_CHARACTERS_MAX);
  return value.reuse === undefined ? { sequence, prompt } : { sequence, prompt, reuse: parseReuse(record(value.reuse, "reuse")) };
}

function parseReuse(value: Record<string, unknown>): Reuse {
  const peers: unknown = value.peers ?? [];
  if (!Array.isArray(peers) || peers.length > PEERS_MAX) throw wrong(`at most ${PEERS_MAX} names`, "reuse.peers", peers);
  return {
    peers: Array.from(peers, (peer: unknown) => text(peer, "reuse.peers", 256)),
    deadlineMs: whole(value.deadlineMs, "reuse.deadlineMs", 1, DEADLINE_MS_MAX),
  };
}

function parseFrom(value: Record<string, unknown>): { peer: string; ticket: Ticket; deadlineMs: number } {
  return {
    peer: text(value.peer, "from.peer", 256),
    ticket: parseTicket(record(value.ticket, "from.ticket")),
    deadlineMs: whole(value.deadlineMs, "from.deadlineMs", 1, DEADLINE_MS_MAX),
  };
}

function parseTicket(value: Record<string, unknown>): Ticket {
  return {
    handle: text(value.handle, "ticket.handle", 1024),
    bytes: whole(value.bytes, "ticket.bytes", 1, Number.MAX_SAFE_INTEGER),
    blocks: whole(value.blocks, "ticket.blocks", 1, BLOCKS_MAX),
    tokens: whole(value.tokens, "ticket.tokens", 1, TOKENS_MAX),
    digest: text(value.digest, "ticket.digest", 64),
  };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new KvferryError("invalid_argument", "a command is one JSON object on one line", { cause });
  }
}

function record(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("an object", name, value);
  return value as Record<string, unknown>;
}

function text(value: unknown, name: string, charactersMax: number): string {
  if (typeof value !== "string" || value.length === 0 || value.length > charactersMax)
    throw wrong(`1 to ${charactersMax} characters`, name, value);
  return value;
}

function whole(value: unknown, name: string, low: number, high: number): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < low || value > high) {
    throw wrong(`an integer from ${low} to ${high}`, name, value);
  }
  return value;
}

function wrong(what: string, name: string, received: unknown): KvferryError {
  return new KvferryError("invalid_argument", `Expected ${what} for ${name} but received ${String(JSON.stringify(received)).slice(0, 64)}`);
}
