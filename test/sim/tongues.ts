/**
 * Nodes that speak otherwise than this version, by what their link says and hears for them: one of the former version, that knows nothing of grants in
 * fetches and of profiles, and one whose models are not laid out as it says.
 */
import type { ConnectionId, LinkEvent } from "../../transport/link/link.ts";
import { decodeMessage, encodeMessage, type Hello, type Message, type ModelEntry } from "../../transport/peer/messages.ts";
import { VirtualLink, type VirtualLinkOptions } from "./link.ts";

export interface Tongue {
  /** undefined: as it is. */
  readonly say: (message: Message) => Message | undefined;
  readonly hear: (message: Message) => Message | undefined;
  /** Its listener takes lanes that come before its Hello. */
  readonly holdsLanes: boolean;
}

const plainModels = (models: readonly ModelEntry[]): readonly ModelEntry[] => models.map((model) => ({ ...model, profiles: [] }));

/** Only a listener has a token in it; only an initiator counts its conversations. */
const plainHello = (hello: Hello): Hello => ({
  ...hello,
  capabilities: hello.capabilities.filter((capability) => capability !== "early"),
  models: plainModels(hello.models),
  laneToken: hello.conversation === 0 ? hello.laneToken : new Uint8Array(0),
});

/** What it does not know it does not say, and does not see in what it hears. */
export const FORMER: Tongue = {
  say: (message) => (message.kind === "hello" ? plainHello(message) : undefined),
  hear(message) {
    if (message.kind === "hello") return plainHello(message);
    if (message.kind === "models") return { ...message, models: plainModels(message.models) };
    return message.kind === "fetch" ? { ...message, grant: undefined, profiles: [] } : undefined;
  },
  holdsLanes: false,
};

/** Says of each of its models that it lies as `layout`. */
export const staleTongue = (layout: Uint8Array): Tongue => ({
  say(message) {
    if (message.kind !== "hello" && message.kind !== "models") return undefined;
    return { ...message, models: message.models.map((model) => ({ ...model, layout })) };
  },
  hear: () => undefined,
  holdsLanes: true,
});

export class TranslatingLink extends VirtualLink {
  readonly #tongue: Tongue;

  constructor(options: VirtualLinkOptions, tongue: Tongue) {
    super(options);
    this.#tongue = tongue;
  }

  override send(connection: ConnectionId, message: Uint8Array): boolean {
    return super.send(connection, translate(message, this.#tongue.say));
  }

  override poll(sink: (event: LinkEvent) => void, max: number): number {
    return super.poll((event) => {
      sink(event.kind === "message" ? { ...event, bytes: translate(event.bytes, this.#tongue.hear) } : event);
    }, max);
  }
}

/** What does not parse stays as it is: strangers say such things. */
function translate(bytes: Uint8Array, by: (message: Message) => Message | undefined): Uint8Array {
  let message: Message;
  try {
    message = decodeMessage(bytes);
  } catch {
    return bytes;
  }
  const other = by(message);
  return other === undefined ? bytes : encodeMessage(other);
}
