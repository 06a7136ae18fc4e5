/** What incoming and outgoing transfers share: the peer as they see it, and how they end. */
import type { ErrorCode } from "../errors.ts";
import type { ConnectionId, Link, LinkEvent, PlacementId } from "../link/link.ts";
import { describeMissing } from "../kv/missing.ts";
import type { LayoutCache } from "../kv/layout-cache.ts";
import type { Path } from "../policy/path.ts";
import type { WindowPolicy } from "../policy/window.ts";
import type { Content, LocalPlan } from "./content.ts";
import type { Capability } from "./greeting.ts";
import type { Coding, Message } from "./messages.ts";

/** The remote, from a transfer's point of view. */
export interface Remote {
  readonly link: Link;
  /** The control connection while it is up, or greeted. */
  readonly connection: ConnectionId | undefined;
  readonly stallUs: number;
  /** The remote's, as they come with its offers and grants. */
  readonly layouts: LayoutCache;
  /** The largest chunk that the remote takes. */
  readonly chunkBytesMax: number;
  /** Whether the remote's offers ask for checksums, as its last one did; before there was one, as this node's own. */
  readonly checksum: boolean;
  readonly up: boolean;
  /** It was dialled and greeted, and has not said its own Hello: what needs no capability may be said already. */
  readonly greets: boolean;
  /** As far as is known. */
  isCapable(capability: Capability): boolean;
  /** How the remote says that it lays out a model; undefined: it has none of this fingerprint. */
  layoutOf(fingerprint: string): Uint8Array | undefined;
  /** What the remote's last offer of such a model was coded with; undefined: nothing. */
  profileOf(fingerprint: string): string | undefined;
  /** Queues a control message, or its bytes; it is lost if the connection goes, and said again after a resume. `early`: also if the remote is only greeted. */
  send(message: Message | Uint8Array, early?: boolean): void;
  /** Link events of this placement come to the transfer until it is forgotten. */
  bind(placement: PlacementId, transfer: PlacedTransfer): void;
  unbind(placement: PlacementId): void;
  /** The transfer has something to pump, or a new deadline. */
  touch(transfer: PlacedTransfer): void;
  newWindow(): WindowPolicy;
  /** What is known of the way to the remote; hears of every chunk. */
  readonly path: Path;
}

/** Outcome of a transfer, told once, after nothing can touch its memory any more. */
export interface Outcome {
  readonly ok: boolean;
  readonly code: ErrorCode | "";
  readonly detail: string;
  readonly bytes: number;
  /** Payload that crossed the link, repeats counted. */
  readonly wireBytes: number;
  readonly chunks: number;
  readonly retries: number;
  readonly resumed: number;
  readonly order: string;
  /** What chunks were coded with, or "". */
  readonly profile: string;
  /** That loses something. */
  readonly lossy: boolean;
  readonly startedUs: number;
  readonly endedUs: number;
}

export interface Failure {
  readonly code: ErrorCode;
  readonly detail: string;
}

/**
 * Why a transfer ends whose machine failed. `given`: what was said before, by the other end perhaps. Of a deadline that has passed each end tells what is
 * missing, by its own names for it.
 */
export function failureOf(
  code: ErrorCode,
  given: Failure | undefined,
  content: Content,
  plan: LocalPlan | undefined,
  isThere: (chunk: number) => boolean,
): Failure {
  if (code !== "deadline_exceeded" || plan === undefined) return given ?? { code, detail: "" };
  return { code, detail: describeMissing({ kind: content.kind, ...plan }, isThere) };
}

/** What both ends tell of themselves when it is over. */
export function outcomeOf(
  { startedUs, endedUs }: Pick<Outcome, "startedUs" | "endedUs">,
  failure: Failure | undefined,
  content: Content,
  plan: LocalPlan | undefined,
  coding: Coding | undefined,
  counts: Pick<Outcome, "bytes" | "wireBytes" | "retries" | "resumed">,
): Outcome {
  return {
    ok: failure === undefined,
    code: failure?.code ?? "",
    detail: failure?.detail ?? "",
    ...counts,
    chunks: plan?.chunks.length ?? 0,
    order: plan?.order ?? "",
    profile: coding?.profile ?? "",
    lossy: coding !== undefined && content.kind === "kv" && content.codecs?.isLossy(coding.profile) === true,
    startedUs,
    endedUs,
  };
}

export interface PlacedTransfer {
  readonly ended: boolean;
  readonly deadlineUs: number;
  /** Something of it has reached the other side. */
  readonly startedMoving: boolean;
  /** What both ends must be capable of for it, or "". */
  readonly needs: Capability | "";
  /** Of a chunk as it lies in memory. */
  bytesOf(chunk: number): number;
  handlePlacementEvent(nowUs: number, event: LinkEvent): void;
  /** The connection is away. */
  handleDown(nowUs: number): void;
  /** A connection to the same node is there again. */
  handleUp(nowUs: number): void;
  /** The peer came back as another process: it is over, and nothing of it may be said to that one, whose numbers mean something else. */
  handleRestarted(nowUs: number): void;
  cancel(nowUs: number, code: ErrorCode, detail: string, tellPeer: boolean): void;
  pump(nowUs: number): void;
  nextDeadlineUs(): number;
}
