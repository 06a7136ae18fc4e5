/**
 * A listening socket and those that it accepted and whose preamble has not come: the first bytes tell control from lane. A lane that comes before its
 * token was admitted waits for that, as long as for a preamble.
 */
import { createServer, type Server, type Socket } from "node:net";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { decodePreamble, encodeControl, type Preamble } from "./frame.ts";
import { type LinkContext, PIECE_BYTES } from "./js-context.ts";
import type { Endpoint } from "./link.ts";

export interface ListenerOwner {
  /** Of a lane: its token was admitted. */
  knows(preamble: Preamble): boolean;
  /** A preamble of our version; `rest` came behind it. False: not wanted. */
  handleGreeted(socket: Socket, preamble: Preamble, rest: Uint8Array): boolean;
}

/**
 * Envelope{refuse{code: version_unsupported, version: 1, min_version: 1}} of schemas/peer.proto: the one message that a link says by itself, to
 * a peer that it could not understand.
 */
const REFUSAL = Uint8Array.of(0x12, 0x06, 0x08, 31, 0x18, limits.protocolVersion, 0x20, limits.protocolVersionMin);

export class Listener {
  readonly #context: LinkContext;
  readonly #owner: ListenerOwner;
  readonly #server: Server;
  readonly #greetings = new Set<Socket>();
  /** Lanes that wait, and how they go on. */
  readonly #held = new Map<Socket, { readonly token: Uint8Array; readonly admit: () => void }>();

  constructor(context: LinkContext, owner: ListenerOwner) {
    this.#context = context;
    this.#owner = owner;
    this.#server = createServer({ noDelay: true }, (socket) => this.#greet(socket));
  }

  /** Rejects with address_unavailable. */
  listen({ host, port }: Endpoint): Promise<Endpoint> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", (error) => reject(new KvferryError("address_unavailable", error.message, { cause: error })));
      this.#server.listen({ host, port }, () => {
        // Later errors are of single connections, which go by themselves.
        this.#server.on("error", () => {});
        const address = this.#server.address();
        if (address === null || typeof address === "string") reject(new KvferryError("address_unavailable", `${host}:${port}`));
        else resolve({ host: address.address, port: address.port });
      });
    });
  }

  close(): Promise<void> {
    for (const socket of this.#greetings) socket.destroy();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  /** A token was admitted: lanes that came with it wait no longer. */
  handleAdmitted(token: Uint8Array): void {
    for (const held of [...this.#held.values()]) if (Buffer.compare(held.token, token) === 0) held.admit();
  }

  #greet(socket: Socket): void {
    // A socket that breaks also closes.
    socket.on("error", () => {});
    if (this.#greetings.size >= this.#context.limits.greetingsMax) {
      socket.destroy();
      return;
    }
    this.#greetings.add(socket);
    const timer = setTimeout(() => socket.destroy(), this.#context.limits.preambleTimeoutMs);
    let come: Uint8Array = new Uint8Array(0);
    const leave = (): void => {
      clearTimeout(timer);
      this.#greetings.delete(socket);
      this.#held.delete(socket);
    };
    socket.once("close", leave);
    const read = (bytes: Uint8Array): void => {
      come = come.length === 0 ? bytes : Buffer.concat([come, bytes]);
      const preamble = parse(come);
      if (preamble === undefined) return;
      socket.off("data", read);
      if (preamble === "wrong") return void socket.destroy();
      if (preamble.version !== limits.protocolVersion) return refuseVersion(socket, preamble);
      const admit = (): void => {
        socket.off("data", wait).off("close", leave);
        leave();
        if (this.#owner.handleGreeted(socket, preamble, come.subarray(limits.preambleBytes))) socket.resume();
        else socket.destroy();
      };
      if (this.#owner.knows(preamble)) return admit();
      // Greetings of others keep half of the room.
      if (this.#held.size >= this.#context.limits.greetingsMax / 2) return void socket.destroy();
      this.#held.set(socket, { token: preamble.token, admit });
      socket.on("data", wait);
    };
    /** Reads on, as far as there is room, to see whether it goes. */
    const wait = (bytes: Uint8Array): void => {
      come = Buffer.concat([come, bytes]);
      if (come.length > PIECE_BYTES) socket.pause();
    };
    socket.on("data", read);
  }
}

function parse(bytes: Uint8Array): Preamble | "wrong" | undefined {
  try {
    return decodePreamble(bytes);
  } catch (error) {
    if (error instanceof KvferryError) return "wrong";
    throw error;
  }
}

/** The timer of its greeting ends a socket whose peer does not close. */
function refuseVersion(socket: Socket, { kind }: Preamble): void {
  if (kind === "lane") return void socket.destroy();
  socket.resume();
  socket.end(encodeControl(REFUSAL));
}
