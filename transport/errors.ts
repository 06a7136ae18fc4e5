/**
 * The closed list of errors. `schemas/errors.json` is the same list for other languages; a test compares the two.
 * Operating errors are values or rejected promises of KvferryError; broken invariants throw AssertionError from check.ts.
 */

/** Whose move it is: "caller" (library or engine), "operator", "peer", "network", "load", or a bug in kvferry. */
export type Fault = "caller" | "operator" | "peer" | "network" | "load" | "kvferry";
/** "now": the same call may work at once; "later": after a pause; "never": not without a change. */
export type Retry = "never" | "later" | "now";

interface Entry {
  readonly number: number;
  readonly fault: Fault;
  readonly retry: Retry;
  readonly text: string;
}

export const ERRORS = {
  invalid_argument: { number: 1, fault: "caller", retry: "never", text: "an argument is missing, of the wrong type or out of range" },
  invalid_config: { number: 2, fault: "operator", retry: "never", text: "the configuration does not parse" },
  unsupported: { number: 3, fault: "operator", retry: "never", text: "this build or host cannot do what was asked" },
  internal: { number: 4, fault: "kvferry", retry: "never", text: "an invariant of kvferry does not hold; please report it" },
  closed: { number: 5, fault: "caller", retry: "never", text: "the object is closed" },
  draining: { number: 6, fault: "operator", retry: "later", text: "the process is shutting down and takes no new work" },
  full: { number: 7, fault: "load", retry: "later", text: "a bounded queue or table is full" },
  cancelled: { number: 8, fault: "caller", retry: "never", text: "the transfer was cancelled" },
  deadline_exceeded: { number: 9, fault: "network", retry: "later", text: "the transfer's deadline passed before every chunk was placed" },
  address_unavailable: { number: 10, fault: "operator", retry: "never", text: "the address cannot be bound" },
  memory_unavailable: { number: 11, fault: "operator", retry: "never", text: "memory for a pool or a buffer cannot be had" },
  connect_failed: { number: 20, fault: "network", retry: "later", text: "the peer cannot be reached" },
  connect_timeout: { number: 21, fault: "network", retry: "later", text: "the peer did not answer the dial in time" },
  connection_lost: { number: 22, fault: "network", retry: "later", text: "the connection to the peer ended" },
  lane_lost: { number: 23, fault: "network", retry: "now", text: "the lane that carried a chunk ended" },
  peer_silent: { number: 24, fault: "network", retry: "later", text: "the peer is connected but answers nothing" },
  peer_not_allowed: { number: 30, fault: "operator", retry: "never", text: "the peer is not allowed" },
  version_unsupported: { number: 31, fault: "operator", retry: "never", text: "the two ends share no protocol version" },
  protocol_error: { number: 32, fault: "peer", retry: "never", text: "the peer sent bytes that the protocol does not allow" },
  message_too_large: { number: 33, fault: "peer", retry: "never", text: "a message is longer than its limit" },
  fingerprint_mismatch: { number: 34, fault: "operator", retry: "never", text: "the two ends hold KV of different models" },
  layout_unconvertible: { number: 35, fault: "operator", retry: "never", text: "the two layouts cannot be converted into each other" },
  peer_restarted: { number: 36, fault: "peer", retry: "later", text: "the peer has restarted; what it held is gone" },
  tls_failed: { number: 37, fault: "operator", retry: "never", text: "the two ends found no way to speak TLS" },
  certificate_rejected: { number: 38, fault: "operator", retry: "never", text: "a certificate was not accepted" },
  profile_refused: {
    number: 39,
    fault: "operator",
    retry: "never",
    text: "a compression profile is not known here, was not accepted, or is not the content's",
  },
  checksum_mismatch: { number: 40, fault: "network", retry: "now", text: "a payload does not match its checksum" },
  duplicate_chunk: { number: 41, fault: "network", retry: "never", text: "the chunk is already in place" },
  chunk_busy: { number: 42, fault: "network", retry: "now", text: "another lane is writing the same chunk" },
  grant_unknown: { number: 43, fault: "peer", retry: "never", text: "the grant is unknown, revoked or of another generation" },
  seal_broken: { number: 44, fault: "caller", retry: "never", text: "a published block no longer matches its seal" },
  codec_failed: { number: 45, fault: "peer", retry: "never", text: "a payload is not what the transfer's profile makes" },
  handle_unknown: { number: 50, fault: "caller", retry: "never", text: "the handle is unknown, spent or of another incarnation" },
  incarnation_mismatch: { number: 51, fault: "caller", retry: "never", text: "the handle is of a former incarnation of the pool" },
  generation_mismatch: {
    number: 52,
    fault: "caller",
    retry: "never",
    text: "the block has been given away since; this generation is over",
  },
  not_owner: { number: 53, fault: "caller", retry: "never", text: "the block is not held by this client" },
  block_state: { number: 54, fault: "caller", retry: "never", text: "the block is not in a state that allows this" },
  pool_exhausted: { number: 55, fault: "load", retry: "later", text: "no free and no evictable block is left" },
  key_not_found: { number: 56, fault: "caller", retry: "never", text: "no published block has this key" },
  layout_conflict: { number: 57, fault: "caller", retry: "never", text: "the pool already has another layout" },
  tenant_denied: { number: 58, fault: "operator", retry: "never", text: "the tenant may not do this" },
  model_unknown: { number: 59, fault: "caller", retry: "never", text: "no such model is registered here" },
  message_malformed: { number: 60, fault: "caller", retry: "never", text: "an API message has the wrong shape" },
  hello_required: { number: 61, fault: "caller", retry: "never", text: "the first API message must be hello" },
  too_many_clients: { number: 62, fault: "load", retry: "later", text: "no more API clients are taken" },
  too_many_transfers: { number: 63, fault: "load", retry: "later", text: "no more transfers are taken" },
  attach_unavailable: { number: 64, fault: "operator", retry: "never", text: "this process has no pool that another can attach" },
  range_invalid: { number: 65, fault: "caller", retry: "never", text: "the range leaves its buffer" },
} as const satisfies Record<string, Entry>;

export type ErrorCode = keyof typeof ERRORS;

const byNumber = new Map<number, ErrorCode>((Object.keys(ERRORS) as ErrorCode[]).map((code) => [ERRORS[code].number, code]));

/** The code that travels as `number`; "internal" for one this version does not know. */
export function codeOfNumber(number: number): ErrorCode {
  return byNumber.get(number) ?? "internal";
}

export class KvferryError extends Error {
  override readonly name = "KvferryError";
  readonly code: ErrorCode;
  /** What exactly, in words; may be "". */
  readonly detail: string;

  /** @param detail what exactly, in words; the list's own sentence comes first. */
  constructor(code: ErrorCode, detail = "", options?: ErrorOptions) {
    super(detail === "" ? `${code}: ${ERRORS[code].text}` : `${code}: ${ERRORS[code].text} (${detail})`, options);
    this.code = code;
    this.detail = detail;
  }

  get number(): number {
    return ERRORS[this.code].number;
  }
  get fault(): Fault {
    return ERRORS[this.code].fault;
  }
  get retry(): Retry {
    return ERRORS[this.code].retry;
  }
}

/** For a catch clause: operating errors go on as values, anything else is a bug and is thrown on. */
export function asKvferryError(error: unknown): KvferryError {
  if (error instanceof KvferryError) return error;
  throw error;
}
