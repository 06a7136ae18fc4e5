/** A whole message in memory, with a bound; and the first byte of one that is passed on. */
import type { IncomingMessage } from "node:http";

export type Collected = { readonly bytes: Buffer } | { readonly failure: "too_large" | "lost" };

/**
 * Never rejects. Of what is longer than `bytesMax`, or than `received` has room for, the rest is read and thrown away, so that a client
 * that is still sending hears the answer; whoever does not want that ends the connection.
 */
export function collect(message: IncomingMessage, bytesMax: number, received: (bytes: number) => boolean = () => true): Promise<Collected> {
  return new Promise((resolve) => {
    const pieces: Buffer[] = [];
    let bytes = 0;
    const end = (collected: Collected): void => {
      message.off("data", add);
      resolve(collected);
    };
    const add = (piece: Buffer): void => {
      bytes += piece.length;
      if (bytes > bytesMax || !received(piece.length)) {
        end({ failure: "too_large" });
        message.resume();
      } else pieces.push(piece);
    };
    message.on("data", add);
    message.once("end", () => end({ bytes: Buffer.concat(pieces) }));
    message.once("error", () => end({ failure: "lost" }));
    message.once("close", () => end({ failure: "lost" }));
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
