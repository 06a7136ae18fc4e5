/** Which profile a transfer to a peer goes by: of those that both ends have and the reader takes, what the operator wants or what pays. */
import { limits } from "../limits.ts";
import type { HeadRange } from "../peer/content.ts";
import type { PeerPort } from "../peer/host.ts";
import type { Coding } from "../peer/messages.ts";
import { chooseCodec, type CodecChoice, type CodecInput, STORED } from "../policy/choose-codec.ts";
import type { Priority } from "../policy/priority.ts";
import type { CodingChoice, NodeContext } from "./context.ts";
import type { Model } from "./models.ts";
import type { ModelProfile } from "./model-tiles.ts";

export interface CodingRequest {
  readonly peer: PeerPort;
  readonly model: Model;
  /** Ids that the reader takes for this transfer. */
  readonly accepted: readonly string[];
  /** That are moved; none of a model without. */
  readonly heads: HeadRange;
  /** Of the first token in its sequence; undefined: nobody said. */
  readonly position: number | undefined;
  readonly bytes: number;
  readonly chunkBytes: number;
  readonly priority: Priority | undefined;
  /** What the reader has foretold. */
  readonly previous?: string | undefined;
}

/** Undefined: as it is. A node without profiles has nothing to say about it. */
export function chooseCoding(node: NodeContext, request: CodingRequest): Coding | undefined {
  const { peer, model, accepted, heads, position, bytes, chunkBytes, previous, priority } = request;
  const { use, missing, isNone } = node.profiles;
  if (isNone) return undefined;
  const there = new Map(peer.profilesOf(model.fingerprint).map(({ id, decodeBytesPerSecond }) => [id, decodeBytesPerSecond]));
  const isAsked = ({ name }: ModelProfile): boolean => use === "auto" || use === "none" || name === use;
  // Of one that is to be taken always, the reason is what keeps it away, not that another could be had.
  const common = model.codecs.profiles.filter((profile) => isAsked(profile) && (there.has(profile.id) || accepted.includes(profile.id)));
  const taken = common.filter(({ id }) => accepted.includes(id));
  // Where a sequence begins counts for what has to do with it: a wrong one would come back right, and cost quality.
  const fitting = taken.filter((profile) => model.codecs.fits(profile, heads));
  const usable = fitting.filter(({ needsPosition }) => position !== undefined || !needsPosition);
  const nowUs = node.runtime.nowUs();
  const options = usable.map(({ id, isLossless: lossless }) => {
    const { ratio, encodeBytesPerSecond } = model.codecs.speedOf(id);
    const decodeBytesPerSecond = there.get(id) ?? 0;
    return { profile: id, lossless, ratio, encodeBytesPerSecond, decodeBytesPerSecond, seenBytesPerSecond: peer.path.codedRate(nowUs, id) };
  });
  const wire = peer.path.wire(nowUs);
  const found = choose(use, usable, {
    bytes,
    goodputBytesPerSecond: wire.bytesPerSecond,
    isLocal: wire.isLocal,
    options,
    chunkBytes: Math.min(chunkBytes, limits.codedChunkBytesMax),
    previous,
    missing: missing ?? whyNone(common, taken.length, fitting.length),
  });
  // What is urgent is not what to try something with.
  if (use === "auto" && found.profile !== undefined && priority !== "urgent" && peer.path.explores(nowUs, costOf(found))) {
    note(node, peer, { profile: "", reason: "explores" });
    return undefined;
  }
  const profile = usable.find(({ id }) => id === found.profile);
  note(node, peer, { profile: profile?.name ?? "", reason: found.reason });
  return profile === undefined ? undefined : { profile: profile.id, position: position ?? 0 };
}

/** What was chosen is not to be had there after all. */
export function noteRefused(node: NodeContext, peer: PeerPort): void {
  note(node, peer, { profile: "", reason: "refused" });
}

function note(node: NodeContext, peer: PeerPort, choice: CodingChoice): void {
  node.choices.set(peer, choice);
  node.observer.coding?.(peer.name, choice);
}

/** Of what was left after each question, if nothing is left in the end. */
function whyNone(common: readonly ModelProfile[], taken: number, fitting: number): NonNullable<CodecInput["missing"]> {
  if (common.length === 0) return "no_common_profile";
  // What loses nothing a reader takes, unless it has refused that.
  if (taken === 0) return common.some(({ isLossless }) => isLossless) ? "refused" : "reader_refuses_lossy";
  return fitting === 0 ? "no_common_profile" : "position_unknown";
}

/** What it would take more as it is. */
function costOf({ profile, predictedUs }: CodecChoice): number {
  return Math.max((predictedUs.get(STORED) ?? 0) - (predictedUs.get(profile ?? STORED) ?? 0), 0);
}

/** @param use "auto", "none" or the name of a profile, which is taken whether it pays or not: then it alone is usable */
function choose(use: string, usable: readonly ModelProfile[], input: CodecInput): CodecChoice {
  if (use === "auto" || input.options.length === 0) return chooseCodec(input);
  return { profile: use === "none" ? undefined : usable[0]?.id, reason: "fixed", predictedUs: new Map() };
}
