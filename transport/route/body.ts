/** A whole message in memory, with a bound; and the first byte of one that is passed on. */
import type { IncomingMessage } from "node:http";

export type Collected = { readonly bytes: Buffer } | { readonly failure: "too_large" | "lost" | "aborted" };

export interface CollectOptions {
  /** False: there is no room for that many more. */
  readonly received?: (bytes: number) => boolean;
  /** Ends the wait. */
  readonly signal?: AbortSignal;
}

/**
 * Never rejects. Of what is longer than `bytesMax`, than `received` has room for, or than the signal waits for, the rest is read and
 * thrown away, so that a client that is still sending hears the answer; whoever does not want that ends the connection.
 */
export function collect(message: IncomingMessage, bytesMax: number, { received, signal }: CollectOptions = {}): Promise<Collected> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    const end = (collected: Collected): void => {
      // All of them, so that what has failed keeps no bytes for as long as the rest takes to arrive.
      message.off("data", add).off("end", whole).off("error", lost).off("close", lost);
      signal?.removeEventListener("abort", aborted);
      if ("failure" in collected) message.resume();
      resolve(collected);
    };
    const add = (piece: Buffer): void => {
      bytes += piece.length;
      if (bytes > bytesMax || received?.(piece.length) === false) end({ failure: "too_large" });
      else pieces.push(piece);
    };
    const whole = (): void => end({ bytes: Buffer.concat(pieces) });
    const lost = (): void => end({ failure: "lost" });
    const aborted = (): void => end({ failure: "aborted" });
    if (signal?.aborted === true) return aborted();
    signal?.addEventListener("abort", aborted);
    message.on("data", add).on("end", whole).on("error", lost).on("close", lost);
  });
}

/**
 * Waits for an answer's first byte, or for the end of an empty one: until then another engine can answer instead. The bytes stay in the
 * message. False: it broke off.
 */
export function hasBegun(message: IncomingMessage): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (begun: boolean): void => {
      message.off("readable", readable).off("end", ended).off("error", broken).off("close", broken);
      resolve(begun);
    };
    const readable = (): void => {
      if (message.readableLength > 0) end(true);
      // The end is told to whoever has read up to it.
      else message.read();
    };
    const ended = (): void => end(true);
    const broken = (): void => end(message.readableEnded);
    message.on("readable", readable).once("end", ended).once("error", broken).once("close", broken);
  });
}
