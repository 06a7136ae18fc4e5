/** A listening socket, and those that it accepted and that have not said what they are. */
import { createServer, type Server, type Socket } from "node:net";
import { KvferryError } from "../errors.ts";
import type { LinkContext } from "./js-context.ts";
import { endpointOf } from "./js-control.ts";
import { type Greeted, Greeting } from "./js-greeting.ts";
import type { Endpoint } from "./link.ts";

export interface ListenerOwner {
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

  #greet(socket: Socket): void {
    // A socket that breaks also closes.
    socket.on("error", () => {});
    if (this.#greetings.size >= this.#context.limits.greetingsMax) {
      this.#context.refusals.add("full", endpointOf(socket), "too many that have not said what they are");
      socket.destroy();
      return;
    }
    const greeting: Greeting = new Greeting(
      this.#context,
      socket,
      (greeted) => this.#owner.handleGreeted(greeted),
      () => this.#greetings.delete(greeting),
    );
    this.#greetings.add(greeting);
  }
}
