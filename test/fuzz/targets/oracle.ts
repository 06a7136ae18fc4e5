/** What wire.md says a peer does with the bytes of a lane, written as plainly as it can be: the whole stream at once, one lane at a time. */
import { ERRORS, KvferryError } from "../../../transport/errors.ts";
import { crc32c } from "../../../transport/kv/crc32c.ts";
import { limits } from "../../../transport/limits.ts";
import { decodeHeader, decodeTrailer, encodeHeader, type FrameHeader } from "../../../transport/link/frame.ts";

export interface OracleGrant {
  readonly generation: number;
  readonly standing: boolean;
  readonly checksum: boolean;
  readonly chunkBytes: readonly number[];
  /** The highest sequence committed, by chunk. */
  readonly committed: Map<number, number>;
  /** Of chunks that may come coded: what a block decodes to, undefined if it is none. */
  readonly decoders?: ReadonlyMap<number, (block: Uint8Array) => Uint8Array | undefined>;
}

export interface OracleOwner {
  handleCommit(grant: number, chunk: number, payload: Uint8Array): void;
  /** Some of it may have been written. */
  handleDirty(grant: number, chunk: number): void;
  /** An answer to a chunk that we sent; false if none such waits. */
  handleAnswer(header: FrameHeader): boolean;
}

export interface Verdict {
  /** Frames that must come back, in order; if the lane is closed, those that came are a beginning of them. */
  readonly answers: Uint8Array[];
  /** closed: by the other end, for what it heard. partial: it waits for more. */
  readonly end: "whole" | "partial" | "closed";
}

export function judge(stream: Uint8Array, grants: ReadonlyMap<number, OracleGrant>, owner: OracleOwner): Verdict {
  const answers: Uint8Array[] = [];
  for (let at = 0; at < stream.length; ) {
    const rest = stream.subarray(at);
    const header = headerOf(rest);
    if (header === "wrong") return { answers, end: "closed" };
    if (header === undefined) return { answers, end: "partial" };
    at += limits.frameHeaderBytes;
    if (header.type === "ping") answers.push(answerOf(header, "pong", 0));
    else if (header.type === "ack" || header.type === "nack") {
      if ((header.type === "nack" && header.status === 0) || !owner.handleAnswer(header)) return { answers, end: "closed" };
    } else if (header.type === "pad") {
      if (rest.length < limits.frameHeaderBytes + header.bytes) return { answers, end: "partial" };
      at += header.bytes;
    } else if (header.type === "chunk") {
      const outcome = judgeChunk(header, rest.subarray(limits.frameHeaderBytes), grants.get(header.grant), owner);
      if (typeof outcome === "string") return { answers, end: outcome };
      answers.push(outcome);
      at += header.bytes + limits.frameTrailerBytes;
    }
  }
  return { answers, end: "whole" };
}

function judgeChunk(
  header: FrameHeader,
  behind: Uint8Array,
  grant: OracleGrant | undefined,
  owner: OracleOwner,
): Uint8Array | "partial" | "closed" {
  const { chunk, bytes, sequence, generation } = header;
  const isWhole = behind.length >= bytes + limits.frameTrailerBytes;
  const discarded = (type: "ack" | "nack", status: number): Uint8Array | "partial" =>
    isWhole ? answerOf(header, type, status) : "partial";
  if (grant === undefined || grant.generation !== generation) return discarded("nack", ERRORS.grant_unknown.number);
  const whole = grant.chunkBytes[chunk] ?? 0;
  const decode = header.coded === true ? grant.decoders?.get(chunk) : undefined;
  const fits = header.coded === true ? decode !== undefined && bytes < whole : bytes === whole;
  if (!fits || sequence === 0 || (grant.checksum && !header.checksum)) return "closed";
  const before = grant.committed.get(chunk);
  if (before !== undefined && (!grant.standing || sequence <= before)) return discarded("ack", ERRORS.duplicate_chunk.number);
  // What is coded is nowhere until it is whole and right.
  const spoil = (): void => (decode === undefined ? owner.handleDirty(header.grant, chunk) : undefined);
  if (!isWhole) {
    spoil();
    return "partial";
  }
  const payload = behind.subarray(0, bytes);
  const trailer = decodeTrailer(behind.subarray(bytes));
  const isRight = !header.checksum || trailer?.crc === crc32c(payload);
  if (trailer?.verdict !== 0 || !isRight) {
    spoil();
    return answerOf(header, "nack", trailer?.verdict === 0 ? ERRORS.checksum_mismatch.number : ERRORS.cancelled.number);
  }
  const content = decode === undefined ? payload : decode(payload);
  if (content === undefined) return answerOf(header, "nack", ERRORS.codec_failed.number);
  grant.committed.set(chunk, sequence);
  owner.handleCommit(header.grant, chunk, content);
  return answerOf(header, "ack", 0);
}

function headerOf(bytes: Uint8Array): FrameHeader | "wrong" | undefined {
  try {
    return decodeHeader(bytes, limits.chunkBytesMax);
  } catch (error) {
    if (error instanceof KvferryError) return "wrong";
    throw error;
  }
}

function answerOf(header: FrameHeader, type: "ack" | "nack" | "pong", status: number): Uint8Array {
  return encodeHeader({ ...header, type, checksum: false, coded: false, bytes: 0, status });
}
