/**
 * What an offer says that both sides plan from. The receiver checks it; where it can foretell it, it grants memory for it in its Fetch, and the
 * holder takes such a grant only if its offer is that very one.
 */
import { createHash } from "node:crypto";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { commonHeads, type Content, headsOf, type KvContent } from "./content.ts";
import type { Coding, EarlyGrant, Fetch, GroupTokens, Offer } from "./messages.ts";
import type { Remote } from "./transfer.ts";

export type Terms = Pick<Offer, "groups" | "firstHead" | "heads" | "chunkBytes" | "checksum" | "layout" | "coding">;

const NOTHING = new Uint8Array(0);

/**
 * What the holder will offer, if it is as it said that it is; undefined if it has no such model. Who has not said anything is supposed to be as this node
 * is: in most fleets the sidecars are alike. Throws layout_unconvertible, invalid_argument.
 */
export function foretell(content: Content, fetch: Fetch, remote: Remote): Terms | undefined {
  const coding = content.kind === "kv" ? foretellCoding(fetch, remote) : undefined;
  const common = { chunkBytes: chunkBytesOf({ chunkBytes: fetch.chunkBytes, coding }, remote), checksum: remote.checksum, coding };
  if (content.kind === "ranges") return { ...common, groups: [], firstHead: 0, heads: 0, layout: NOTHING };
  const layout = remote.layoutOf(content.fingerprint) ?? (remote.up ? undefined : content.layoutBytes);
  if (layout === undefined) return undefined;
  const heads = commonHeads(remote.layouts.parse(layout), fetch);
  const groups = content.groups.map(({ group, tokens }) => ({ group, tokens }));
  const terms = { ...common, groups, firstHead: heads.first, heads: heads.count, layout };
  checkHeads(content, terms);
  return terms;
}

/** The profile that the holder chose last, if it may choose that again. Of a handle the holder alone knows the position: most begin with the sequence. */
function foretellCoding({ fingerprint, profiles, source }: Fetch, remote: Remote): Coding | undefined {
  const profile = remote.profileOf(fingerprint);
  if (profile === undefined || !profiles.includes(profile)) return undefined;
  return { profile, position: source.kind === "keys" ? (source.position ?? 0) : 0 };
}

/** What both ends take, of what is wished for. */
export function chunkBytesOf({ chunkBytes, coding }: Pick<Offer, "chunkBytes" | "coding">, remote: Pick<Remote, "chunkBytesMax">): number {
  return Math.min(chunkBytes, remote.chunkBytesMax, coding === undefined ? limits.chunkBytesMax : limits.codedChunkBytesMax);
}

export function earlyGrantOf(content: Content, terms: Terms, of: Pick<EarlyGrant, "grant" | "generation" | "order">): EarlyGrant {
  const { layout, ...rest } = terms;
  return { ...of, ...rest, layout: content.kind === "kv" ? content.layoutBytes : NOTHING, held: digestOf(layout) };
}

/** Whether the receiver has foretold this offer. */
export function isFor(grant: EarlyGrant, offer: Terms): boolean {
  return (
    grant.firstHead === offer.firstHead &&
    grant.heads === offer.heads &&
    grant.chunkBytes === offer.chunkBytes &&
    grant.checksum === offer.checksum &&
    sameCoding(grant.coding, offer.coding) &&
    sameGroups(grant.groups, offer.groups) &&
    Buffer.compare(grant.held, digestOf(offer.layout)) === 0
  );
}

/** Of two offers that were checked against the same content. */
export function sameTerms(one: Terms, other: Terms): boolean {
  return (
    one.firstHead === other.firstHead &&
    one.heads === other.heads &&
    one.chunkBytes === other.chunkBytes &&
    one.checksum === other.checksum &&
    sameCoding(one.coding, other.coding) &&
    Buffer.compare(one.layout, other.layout) === 0
  );
}

function sameCoding(one: Coding | undefined, other: Coding | undefined): boolean {
  return one?.profile === other?.profile && one?.position === other?.position;
}

/** The offer must be of what was asked, into memory that is there. */
export function checkOffer(content: Content, offer: Offer, fetch: Fetch | undefined): void {
  const { coding } = offer;
  if (coding !== undefined && fetch !== undefined && !fetch.profiles.includes(coding.profile))
    throw new KvferryError("profile_refused", `offered coded with ${coding.profile}, which was not asked for`);
  if (content.kind === "ranges") {
    const offered = offer.ranges?.ranges ?? [];
    const same = offered.length === content.ranges.length && offered.every((range, i) => range.bytes === content.ranges[i]?.bytes);
    if (!same) throw new KvferryError("protocol_error", "the offer's ranges are not those that were asked");
    return;
  }
  if (offer.ranges !== undefined) throw new KvferryError("protocol_error", "ranges offered for KV");
  if (offer.fingerprint !== content.fingerprint) {
    throw new KvferryError("fingerprint_mismatch", `offered ${offer.fingerprint.slice(0, 16)}, wanted ${content.fingerprint.slice(0, 16)}`);
  }
  if (fetch === undefined) return;
  checkHeads(content, offer);
  if (!sameGroups(offer.groups, content.groups))
    throw new KvferryError("invalid_argument", "the holder offers other groups or another number of tokens than there is room for");
}

/** A part of the heads would leave the others' places as they were, and the blocks would look complete. */
function checkHeads({ layout, heads }: KvContent, offer: Pick<Terms, "firstHead" | "heads">): void {
  if (heads === undefined || headsOf(layout).count === 0) return;
  if (offer.firstHead === heads.first && offer.heads === heads.count) return;
  const offered = `${offer.heads} KV heads from ${offer.firstHead}`;
  throw new KvferryError("layout_unconvertible", `wanted ${heads.count} KV heads from ${heads.first}, the holder offers ${offered}`);
}

function sameGroups(some: readonly GroupTokens[], others: readonly GroupTokens[]): boolean {
  return some.length === others.length && some.every(({ group, tokens }, i) => group === others[i]?.group && tokens === others[i]?.tokens);
}

/** A model's layout stays the same object for as long as the model is there. */
const digests = new WeakMap<Uint8Array, Uint8Array>();

function digestOf(layout: Uint8Array): Uint8Array {
  if (layout.length === 0) return NOTHING;
  let digest = digests.get(layout);
  if (digest === undefined) {
    digest = createHash("sha256").update(layout).digest();
    digests.set(layout, digest);
  }
  return digest;
}
