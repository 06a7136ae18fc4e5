/** A node's link with a tap: notes in order what several nodes say about transfers, and changes, loses or holds back what its own node hears. */
import { ERRORS } from "../../transport/errors.ts";
import type { ConnectionId, Link, LinkEvent, PlacementSpec } from "../../transport/link/link.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { decodeMessage, encodeMessage, type Message } from "../../transport/peer/messages.ts";

export class Tap {
  readonly #name: string;
  readonly #story: string[];
  #link: Link | undefined;
  #onWake = (): void => {};
  #held: LinkEvent[] = [];
  #released: LinkEvent[] = [];
  #connection: ConnectionId | undefined;
  /** What becomes of a message before the node hears it. */
  hear: (message: Message) => Message | "held" | "lost" = (message) => message;
  /** Whether the link has no room for it. */
  isFull: (spec: PlacementSpec) => boolean = () => false;

  /** `story` is shared by those who talk with each other. */
  constructor(name: string, story: string[]) {
    this.#name = name;
    this.#story = story;
  }

  readonly makeLink = (onWake: () => void): Link => {
    this.#onWake = onWake;
    const link = createTcpLink({ onWake });
    this.#link = link;
    const [send, poll, place, revoke] = [link.send.bind(link), link.poll.bind(link), link.place.bind(link), link.revoke.bind(link)];
    link.send = (connection, bytes) => {
      const isTaken = send(connection, bytes);
      if (isTaken) this.#note(decodeMessage(bytes));
      return isTaken;
    };
    link.poll = (sink, max) => {
      for (const event of this.#released.splice(0)) this.#take(event, sink);
      return poll((event) => this.#take(event, sink), max);
    };
    link.place = (spec) => (this.isFull(spec) ? "full" : place(spec));
    link.revoke = (placement) => {
      this.#story.push(`${this.#name} revokes`);
      revoke(placement);
    };
    return link;
  };

  /** Lets the node hear what was held back. */
  release(): void {
    this.#released.push(...this.#held.splice(0));
    this.#onWake();
  }

  /** Ends the newest connection, as if the network had. */
  hangUp(): void {
    if (this.#connection !== undefined) this.#link?.disconnect(this.#connection);
  }

  #take(event: LinkEvent, sink: (event: LinkEvent) => void): void {
    if (event.kind === "accepted" || event.kind === "connected") this.#connection = event.connection;
    if (event.kind === "disconnected") return sink({ ...event, code: ERRORS.connection_lost.number });
    if (event.kind !== "message") return sink(event);
    const fate = this.hear(decodeMessage(event.bytes));
    if (fate === "held") this.#held.push({ ...event, bytes: event.bytes.slice() });
    else if (fate !== "lost") sink({ ...event, bytes: encodeMessage(fate) });
  }

  #note(message: Message): void {
    const of = describe(message);
    if (of !== "") this.#story.push(`${this.#name}: ${of}`);
  }
}

/** With the generation of the grant, where there is one. */
function describe(message: Message): string {
  switch (message.kind) {
    case "fetch":
      return message.grant === undefined ? "fetch" : `fetch ${message.grant.generation}`;
    case "offer":
      return message.generation === 0 ? "offer" : `offer ${message.generation}`;
    case "accept":
      return `accept ${message.generation}${message.committed.some((byte) => byte > 0) ? " with chunks" : ""}`;
    case "done":
      return "done";
    case "cancel":
      return message.id === 0 ? "cancel of the fetch" : "cancel";
    case "resume":
      return "resume";
    default:
      return "";
  }
}
