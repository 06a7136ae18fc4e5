/** Whoever else dials a node: says nothing, says it wrong, is not allowed, or greets politely and then talks nonsense. */
import { codeOfNumber, KvferryError } from "../../../transport/errors.ts";
import type { ConnectionId, LinkEvent } from "../../../transport/link/link.ts";
import { decodeMessage, encodeMessage, type Hello, type Message } from "../../../transport/peer/messages.ts";
import { VirtualLink } from "../link.ts";
import type { Random } from "../random.ts";
import type { Scene } from "../scene.ts";

const KINDS = ["silent", "garbage", "version", "foreign", "rude", "twice", "nonsense", "nonsense"] as const;

export function stranger(scene: Scene): void {
  const nodes = scene.nodes.filter((node) => node.up);
  if (nodes.length === 0) return;
  const random = scene.random.split("stranger");
  const kind = random.pick(KINDS);
  const node = random.pick(nodes);
  scene.world.trace(`stranger ${kind} to ${node.name}`);
  const host = { name: kind === "foreign" ? "172.16.0.9" : `10.0.9.${random.below(200)}`, stoppedUntilUs: 0 };
  const link: VirtualLink = new VirtualLink({
    host,
    network: scene.network,
    world: scene.world,
    random,
    watch: { onCommitted: () => {}, onWrite: () => {}, onSubmitted: () => {}, onQueue: () => {}, onCode: () => {} },
    onWake: () => link.poll((event) => handle(event), 1_000),
    queueChunks: 8,
    placementsMax: 8,
    controlQueueBytes: 1 << 20,
    unansweredChunks: 4,
    eventsMax: 1_024,
    connectionsMax: 64,
    lanesMax: 64,
    laneRateBytesPerSecond: 1_000_000,
    holdsLanes: true,
  });
  const say = (message: Message): void => void link.send(connection, encodeMessage(message));
  const handle = (event: LinkEvent): void => {
    if (event.kind === "message") hear(scene, event.bytes);
    if (event.kind !== "connected") return;
    for (const bytes of opening(kind, random)) link.send(connection, bytes);
    if (kind !== "nonsense") return;
    for (let count = random.between(1, 6); count > 0; count--) scene.world.after(random.below(50_000), () => say(nonsense(random)));
  };
  const connection: ConnectionId = link.dial(node.spec.endpoint, 5_000);
  scene.world.after(random.between(10_000, 7_000_000), () => link.die());
}

/** What the node answers a stranger must be well-formed. */
function hear(scene: Scene, bytes: Uint8Array): void {
  try {
    const message = decodeMessage(bytes);
    if (message.kind === "refuse") scene.coverage.note(codeOfNumber(message.code), "refused stranger");
    if (message.kind === "cancel") scene.coverage.note(codeOfNumber(message.code), "cancelled stranger");
  } catch (error) {
    if (!(error instanceof KvferryError)) throw error;
    scene.world.violate(`a stranger got a message that does not parse: ${error.message}`);
  }
}

function opening(kind: (typeof KINDS)[number], random: Random): Uint8Array[] {
  const hello = helloOf(random);
  if (kind === "silent") return [];
  if (kind === "garbage") return [random.bytes(random.between(1, 200))];
  if (kind === "version") return [encodeMessage({ ...hello, version: 9, minVersion: 9 })];
  if (kind === "rude") return [encodeMessage({ kind: "bye", reason: "hello" })];
  if (kind === "twice") return [encodeMessage(hello), encodeMessage(hello)];
  return [encodeMessage(hello)];
}

export function helloOf(random: Random): Hello {
  return {
    kind: "hello",
    version: 1,
    minVersion: 1,
    node: Buffer.from(random.bytes(16)).toString("hex"),
    name: "stranger",
    software: "simulation",
    advertise: "",
    capabilities: [],
    chunkBytesMax: 1 << 20,
    lanesMax: 4,
    laneToken: new Uint8Array(0),
    secret: "",
    resumeNode: random.chance(1, 4) ? Buffer.from(random.bytes(16)).toString("hex") : "",
    conversation: random.below(3),
    tenant: random.pick(["", "", "", "another"]),
    models: [],
  };
}

/** Well-formed messages about things that are not there, or are not the sender's to say. */
function nonsense(random: Random): Message {
  const id = random.between(1, 5);
  const grant = random.between(1, 1_000);
  const fingerprint = "ab".repeat(32);
  const keys = random.bytes(32 * random.below(4));
  const profile = "0f".repeat(16);
  const coding = { profile, position: random.below(3) };
  const common = {
    fingerprint,
    firstHead: 0,
    heads: 0,
    chunkBytes: 4_096,
    deadlineMs: 1_000,
    trace: "",
    readers: 1,
    tenant: "",
    priority: "normal" as const,
    profiles: random.pick([[], [profile]]),
  };
  const source = random.pick([
    { kind: "handle" as const, handle: "12345678-0123456789abcdef0123456789abcdef" },
    { kind: "keys" as const, group: 0, keys, tokens: 5, position: random.pick([undefined, 3]) },
    { kind: "ranges" as const, buffer: "none", ranges: [{ offset: 0, bytes: 16 }] },
  ]);
  const offer = {
    ...common,
    kind: "offer" as const,
    id,
    fetch: random.below(2) * 77,
    groups: [],
    checksum: true,
    ranges: undefined,
    generation: random.below(2),
    coding: random.pick([undefined, coding]),
  };
  const early = {
    ...{ grant, generation: 1, layout: random.bytes(20), order: "flat", held: random.bytes(32), groups: [], firstHead: 0, heads: 0 },
    ...{ chunkBytes: 4_096, checksum: true, coding: random.pick([undefined, coding]) },
  };
  return random.pick<Message>([
    { kind: "accept", id, grant, generation: 1, committed: new Uint8Array(3), layout: new Uint8Array(2), order: "flat" },
    { kind: "resume", id, grant, fromReceiver: random.chance(1, 2) },
    { kind: "done", id: random.below(5), grant, fetch: random.below(5) },
    { kind: "cancel", id, fetch: random.below(3), grant, code: random.below(80), detail: "because", fromReceiver: random.chance(1, 2) },
    { kind: "lookup", id, fingerprint, group: 0, keys, tenant: "" },
    { kind: "lookupReply", id, code: 0, matched: 5 },
    { ...common, kind: "fetch", id, source, grant: random.pick([undefined, early]) },
    { ...offer, keys, layout: random.bytes(20) },
    { ...offer, keys, layout: new Uint8Array(0), ranges: { buffer: "none", ranges: [{ offset: 0, bytes: 16 }] } },
    { kind: "models", models: [{ fingerprint, layout: random.bytes(9), profiles: [{ id: profile, decodeBytesPerSecond: 1 }] }] },
    { kind: "ping", id },
    { kind: "pong", id },
    { kind: "bye", reason: "leaving" },
  ]);
}
