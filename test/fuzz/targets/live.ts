/** What the targets with a live link share: the kinds of link, a link that is polled, and a client socket that says anything. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { createJsLink } from "../../../transport/link/js.ts";
import type { Endpoint, Link, LinkEvent } from "../../../transport/link/link.ts";
import { createTcpLink } from "../../../transport/link/tcp.ts";
import { native, nativeProblem } from "../../../transport/native.ts";

export interface Kind {
  readonly name: "js" | "tcp";
  readonly skip: string;
  readonly native: boolean;
  readonly make: (onWake: () => void) => Link;
}

export const KINDS: readonly Kind[] = [
  { name: "js", skip: "", native: false, make: (onWake) => createJsLink({ onWake }) },
  {
    name: "tcp",
    native: true,
    skip: native === undefined ? `no addon: ${nativeProblem}` : "",
    make: (onWake) => createTcpLink({ onWake, ioThreads: 1 }),
  },
];

/** A link under fuzz keeps no events, only what their reader makes of them. */
export class Polled {
  readonly link: Link;
  readonly #handle: (event: LinkEvent) => void;
  #waiters: { readonly isDone: () => boolean; readonly resolve: () => void }[] = [];

  constructor(kind: Kind, handle: (event: LinkEvent) => void) {
    this.#handle = handle;
    this.link = kind.make(() => this.poll());
  }

  poll(): void {
    // While the link is being made there is nothing to poll.
    this.link?.poll(this.#handle, 100_000);
    const waiters = this.#waiters;
    this.#waiters = waiters.filter(({ isDone }) => !isDone());
    for (const waiter of waiters) if (!this.#waiters.includes(waiter)) waiter.resolve();
  }

  /** Waits until something holds after some event; run.ts has the deadline. */
  until(isDone: () => boolean): Promise<void> {
    return isDone() ? Promise.resolve() : new Promise((resolve) => this.#waiters.push({ isDone, resolve }));
  }
}

let clients = 0;

/** A socket that is reset, not closed: thousands of them leave nothing behind in the kernel. */
export class Client {
  readonly #socket: Socket;
  #pieces: Uint8Array[] = [];
  #comeBytes = 0;
  #isClosed = false;
  #waiter: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (bytes) => {
      this.#pieces.push(bytes);
      this.#comeBytes += bytes.length;
      this.#waiter?.();
    });
    socket.on("error", () => {});
    const close = (): void => {
      this.#isClosed = true;
      this.reset();
      this.#waiter?.();
    };
    socket.on("end", close);
    socket.on("close", close);
  }

  /** From one of many addresses of this host, so that ports do not run out. */
  static async dial({ host, port }: Endpoint): Promise<Client> {
    clients += 1;
    const localAddress = `127.0.${1 + (clients % 200)}.1`;
    const socket = connect({ host, port, localAddress, noDelay: true, allowHalfOpen: true });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new Client(socket);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** In pieces of so many bytes, each a write of its own; 0 = at once. */
  say(bytes: Uint8Array, pieceBytes = 0): void {
    if (this.#isClosed || bytes.length === 0) return;
    if (pieceBytes === 0) this.#socket.write(bytes);
    else for (let at = 0; at < bytes.length; at += pieceBytes) this.#socket.write(bytes.subarray(at, at + pieceBytes));
  }

  /** What came, once there are `bytes` of it or the connection is closed. */
  async take(bytes: number): Promise<Uint8Array> {
    while (this.#comeBytes < bytes && !this.#isClosed) await this.#turn();
    const come = Buffer.concat(this.#pieces);
    const taken = come.subarray(0, bytes);
    this.#pieces = [come.subarray(taken.length)];
    this.#comeBytes -= taken.length;
    return taken;
  }

  /** The next line, without its end; empty once the connection is closed. */
  async line(): Promise<Uint8Array> {
    for (;;) {
      const end = Buffer.concat(this.#pieces).indexOf(10);
      if (end >= 0) return (await this.take(end + 1)).subarray(0, end);
      if (this.#isClosed) return new Uint8Array(0);
      await this.#turn();
    }
  }

  /** All that comes until the other end closes. */
  async rest(): Promise<Uint8Array> {
    while (!this.#isClosed) await this.#turn();
    return Buffer.concat(this.#pieces);
  }

  /** Nothing more is said. */
  finish(): void {
    if (!this.#isClosed) this.#socket.end();
  }

  reset(): void {
    if (!this.#socket.destroyed && !this.#socket.writableEnded) this.#socket.resetAndDestroy();
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiter = resolve;
    });
  }
}

/** The first byte of an input says in what pieces the rest is written. */
export function pieceBytes(input: Uint8Array): number {
  const choice = input[0] ?? 255;
  return choice < 16 && input.length < 20_000 ? 1 + 5 * choice : 0;
}

/** The frames that came are the expected ones, or a beginning of them. */
export function checkAnswers(come: Uint8Array, expected: readonly Uint8Array[], isWhole: boolean): void {
  const all = Buffer.concat(expected);
  const wanted = isWhole ? all : all.subarray(0, come.length);
  if (Buffer.compare(come, wanted) === 0) return;
  assert.fail(`answers differ:\ncame     ${Buffer.from(come).toString("hex")}\nexpected ${wanted.toString("hex")}`);
}
