/**
 * What makes KV the same KV: the fingerprint of a model and the keys of its tokens. Identity is the content's, so keys
 * do not depend on who holds it or how it lies; the encodings are specified in schemas/keys.md, with test vectors.
 * PURE: hashing is a function of its input.
 */
import { createHash } from "node:crypto";
import { assert, expected, integer } from "../check.ts";
import { limits } from "../limits.ts";

export const KEY_BYTES = 32;

/** What makes KV of two engines comparable: all of it goes into the fingerprint. */
export interface ModelIdentity {
  readonly model: string;
  readonly revision: string;
  /** Of the KV as the engine computes it, e.g. "bf16". */
  readonly element: string;
  readonly rope: string;
  /** Lossy profile or merge that the KV went through; "" = exact. */
  readonly profile: string;
  /** Anything else that must match (engine's own packing, llama.cpp build ...); "" = nothing. */
  readonly extra: string;
}

/** What goes into the first key of a chain besides the fingerprint; a missing field is the same as "". */
export interface KeySeed {
  readonly tenant?: string;
  readonly lora?: string;
  readonly multimodal?: string;
  readonly salt?: string;
}

export interface KeyChainRequest {
  /** 64 hex digits. */
  readonly fingerprint: string;
  readonly seed: KeySeed;
  /** Of the group; sets the page. */
  readonly blockTokens: number;
  readonly tokens: Uint32Array;
}

/** Hex SHA-256 of the identity. Throws invalid_argument. */
export function fingerprint(identity: ModelIdentity): string {
  const { model, revision, element, rope, profile, extra } = identity;
  if (model === "") throw expected("a name", "model", model);
  const hash = createHash("sha256");
  const fields = { tag: "kvferry.fingerprint/1", model, revision, element, rope, profile, extra };
  for (const [name, text] of Object.entries(fields)) hash.update(field(text, name));
  return hash.digest("hex");
}

/** Tokens of a page: what one key stands for in a group of such blocks. */
export function pageTokensOf(blockTokens: number): number {
  integer(blockTokens, "blockTokens", 1, limits.blockTokensMax);
  return blockTokens % limits.keyPageTokens === 0 ? limits.keyPageTokens : blockTokens;
}

/**
 * Keys of the whole pages of `tokens`, KEY_BYTES each; a key stands for its page and all before it. Throws
 * invalid_argument.
 */
export function keyChain({ fingerprint: print, seed, blockTokens, tokens }: KeyChainRequest): Uint8Array {
  const pageTokens = pageTokensOf(blockTokens);
  const bytes = tokenBytes(tokens);
  const pages = Math.floor(tokens.length / pageTokens);
  const keys = new Uint8Array(pages * KEY_BYTES);
  let previous: Uint8Array = seedHash("kvferry.pages/1", print, seed, pageTokens);
  for (let page = 0; page < pages; page++) {
    const hash = createHash("sha256").update(previous);
    previous = hash.update(bytes.subarray(page * pageTokens * 4, (page + 1) * pageTokens * 4)).digest();
    keys.set(previous, page * KEY_BYTES);
  }
  return keys;
}

/**
 * The one key of fixed-size state (a group with blockTokens 0): it stands for exactly these tokens, never for a part
 * of them.
 */
export function stateKey({ fingerprint: print, seed, tokens }: Omit<KeyChainRequest, "blockTokens">): Uint8Array {
  const hash = createHash("sha256").update(seedHash("kvferry.state/1", print, seed, 0));
  return new Uint8Array(hash.update(tokenBytes(tokens)).digest());
}

/**
 * The keys of whole blocks among the keys of pages: of each block the key after its last page. State: the keys as they
 * are.
 */
export function planKeys(blockTokens: number, pageKeys: Uint8Array): Uint8Array {
  if (pageKeys.length % KEY_BYTES !== 0) throw expected(`a multiple of ${KEY_BYTES} bytes`, "keys", pageKeys);
  const pages = pagesPerBlock(blockTokens);
  if (pages === 1) return pageKeys;
  const blocks = Math.floor(pageKeys.length / (pages * KEY_BYTES));
  const keys = new Uint8Array(blocks * KEY_BYTES);
  for (let block = 0; block < blocks; block++) {
    const at = ((block + 1) * pages - 1) * KEY_BYTES;
    keys.set(pageKeys.subarray(at, at + KEY_BYTES), block * KEY_BYTES);
  }
  return keys;
}

/** Keys that one block answers for: 1 for state. */
export function pagesPerBlock(blockTokens: number): number {
  return blockTokens === 0 ? 1 : blockTokens / pageTokensOf(blockTokens);
}

/**
 * Whole blocks of the asker that a holder's match of `matched` page keys covers. The holder has whole blocks of its
 * own size only, so a match counts down to its last whole block; 0 where the two sizes have no page in common.
 */
export function lookupPages(holderBlockTokens: number, askerBlockTokens: number, matched: number): number {
  integer(matched, "matched", 0, Number.MAX_SAFE_INTEGER);
  if (holderBlockTokens === 0 || askerBlockTokens === 0) return holderBlockTokens === askerBlockTokens ? matched : 0;
  if (pageTokensOf(holderBlockTokens) !== pageTokensOf(askerBlockTokens)) return 0;
  const pages = matched - (matched % pagesPerBlock(holderBlockTokens));
  return Math.floor(pages / pagesPerBlock(askerBlockTokens));
}

function seedHash(tag: string, print: string, seed: KeySeed, pageTokens: number): Uint8Array {
  if (!/^[0-9a-f]{64}$/.test(print)) throw expected("64 hex digits", "fingerprint", print);
  const { tenant = "", lora = "", multimodal = "", salt = "" } = seed;
  const hash = createHash("sha256");
  const fields = { tag, fingerprint: print, pageTokens: String(pageTokens), tenant, lora, multimodal, salt };
  for (const [name, text] of Object.entries(fields)) hash.update(field(text, name));
  return hash.digest();
}

/**
 * Length, then UTF-8: no two lists of fields give the same bytes. Half a surrogate pair has no UTF-8 of its own and is
 * refused.
 */
function field(text: unknown, name: string): Uint8Array {
  if (typeof text !== "string" || text.length > limits.identityCharacters || /\p{Surrogate}/u.test(text)) {
    throw expected(`well-formed text of at most ${limits.identityCharacters} characters`, name, text);
  }
  const encoded = new TextEncoder().encode(text);
  const bytes = new Uint8Array(4 + encoded.length);
  new DataView(bytes.buffer).setUint32(0, encoded.length, true);
  bytes.set(encoded, 4);
  return bytes;
}

function tokenBytes(tokens: Uint32Array): Uint8Array {
  if (!(tokens instanceof Uint32Array) || tokens.length > limits.keyTokensMax) {
    throw expected(`a Uint32Array of at most ${limits.keyTokensMax}`, "tokens", tokens);
  }
  assert(new Uint8Array(new Uint32Array([1]).buffer)[0] === 1, "tokens lie little-endian, as on every host that kvferry builds on");
  return new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
}
