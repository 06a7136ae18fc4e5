/** A listening socket, and those that it accepted and that have not said what they are, or wait for their token to be admitted. */
import { createServer, type Server, type Socket } from "node:net";
import { KvferryError } from "../errors.ts";
import { sourceOf, whoGivesWay } from "./crowd.ts";
import type { Preamble } from "./frame.ts";
import type { LinkContext } from "./js-context.ts";
import { endpointOf } from "./js-control.ts";
import { type Greeted, Greeting } from "./js-greeting.ts";
import type { Endpoint } from "./link.ts";

export interface ListenerOwner {
  /** Of a lane: its token was admitted. */
  knows(preamble: Preamble): boolean;
  /** A preamble of our version. False: not wanted. */
  handleGreeted(greeted: Greeted): boolean;
}

export class Listener {
  readonly #context: LinkContext;
  readonly #owner: ListenerOwner;
  readonly #server: Server;
  readonly #greetings = new Set<Greeting>();

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
    for (const greeting of this.#greetings) greeting.destroy();
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  /** A token was admitted: lanes that came with it wait no longer. */
  handleAdmitted(token: Uint8Array): void {
    for (const held of [...this.#greetings]) {
      if (held.heldToken !== undefined && Buffer.compare(held.heldToken, token) === 0) held.admitHeld();
    }
  }

  #greet(socket: Socket): void {
    // A socket that breaks also closes.
    socket.on("error", () => {});
    const source = sourceOf(endpointOf(socket).host);
    if (this.#greetings.size >= this.#context.limits.greetingsMax) whoGivesWay(this.#greetings, source)?.giveWay();
    const greeting: Greeting = new Greeting(this.#context, socket, source, {
      onGreeted: (greeted) => this.#owner.handleGreeted(greeted),
      onLeft: () => this.#greetings.delete(greeting),
      mayWait: (preamble) => this.#mayWait(preamble),
    });
    this.#greetings.add(greeting);
  }

  /** False: its token is known, or there is no room; greetings of others keep half of it. */
  #mayWait(preamble: Preamble): boolean {
    if (this.#owner.knows(preamble)) return false;
    let waiting = 0;
    for (const greeting of this.#greetings) if (greeting.heldToken !== undefined) waiting += 1;
    return waiting < this.#context.limits.greetingsMax / 2;
  }
}
