/** Small senders and receivers with every option given, and readers of their events. */
import { createRetry } from "../../transport/policy/retry.ts";
import { createWindow } from "../../transport/policy/window.ts";
import { Receiver, type ReceiverOptions } from "../../transport/session/receiver.ts";
import { type Attempt, Sender, type SenderOptions } from "../../transport/session/sender.ts";

export const CHUNK_BYTES = 1000;
export const DEADLINE_US = 10_000_000;
export const STALL_US = 2_000_000;

export interface Shape {
  readonly chunks: number;
  readonly layers?: number;
  readonly windowChunks?: number;
  readonly windowBytes?: number;
}

function chunksOf({ chunks, layers = 1 }: Shape): Pick<SenderOptions, "chunkBytes" | "chunkLayer" | "layers"> {
  const chunkBytes = new Uint32Array(chunks).fill(CHUNK_BYTES);
  const chunkLayer = Uint32Array.from(chunkBytes, (_, chunk) => Math.floor((chunk * layers) / chunks));
  return { chunkBytes, chunkLayer, layers };
}

export function newSender(shape: Shape, options: Partial<SenderOptions> = {}): Sender {
  const window = createWindow({ bytes: shape.windowBytes ?? 1_000_000, chunks: shape.windowChunks ?? 1_000 });
  return new Sender({
    nowUs: 0,
    deadlineUs: DEADLINE_US,
    stallUs: STALL_US,
    ...chunksOf(shape),
    window,
    retry: createRetry(),
    ...options,
  });
}

/** Accepted, every layer ready. */
export function movingSender(shape: Shape, options: Partial<SenderOptions> = {}): Sender {
  const sender = newSender(shape, options);
  sender.handleAccept(0, new Uint8Array(0));
  for (let layer = 0; layer < (shape.layers ?? 1); layer++) sender.handleReady(0, layer);
  return sender;
}

export function newReceiver(shape: Shape, options: Partial<ReceiverOptions> = {}): Receiver {
  return new Receiver({ nowUs: 0, deadlineUs: DEADLINE_US, stallUs: STALL_US, ...chunksOf(shape), ...options });
}

export function eventsOf<Event>(machine: { pollEvent(): Event | undefined }): Event[] {
  const events: Event[] = [];
  for (let event = machine.pollEvent(); event !== undefined; event = machine.pollEvent()) events.push(event);
  return events;
}

export function send(sender: Sender, nowUs: number, maxChunks = 1_000): readonly Attempt[] {
  return sender.pollSend(nowUs, maxChunks);
}

export function chunksSent(attempts: readonly Attempt[]): number[] {
  return attempts.map(({ chunk }) => chunk);
}

export function bitmap(count: number, chunks: readonly number[]): Uint8Array {
  const bits = new Uint8Array(Math.ceil(count / 8));
  for (const chunk of chunks) bits[chunk >> 3]! |= 1 << (chunk & 7);
  return bits;
}
