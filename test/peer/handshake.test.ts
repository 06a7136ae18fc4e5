/**
 * What a node says to a stranger: versions, allow-list, secrets, messages out of order, bytes that are no message.
 * Method: a real node, and a bare link that dials it and sends what it likes.
 */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { ERRORS } from "../../transport/errors.ts";
import { limits } from "../../transport/limits.ts";
import type { ConnectionId, LinkEvent } from "../../transport/link/link.ts";
import { createJsLink } from "../../transport/link/js.ts";
import { decodeMessage, encodeMessage, type Hello, type Message } from "../../transport/peer/messages.ts";
import { openTestNode, type TestNodeOptions } from "../ferry/node.ts";

const hello: Hello = {
  kind: "hello",
  version: 1,
  minVersion: 1,
  node: "stranger",
  name: "stranger",
  software: "test",
  advertise: "",
  capabilities: [],
  chunkBytesMax: limits.chunkBytesMax,
  lanesMax: 4,
  laneToken: new Uint8Array(0),
  secret: "",
  resumeNode: "",
  conversation: 1,
  tenant: "",
  models: [],
};

interface Stranger {
  send(message: Message | Uint8Array): void;
  /** The next message of the node. */
  next(): Promise<Message>;
  /** Resolves when the node has closed the connection. */
  readonly closed: Promise<void>;
}

async function meet(t: TestContext, options: Partial<TestNodeOptions> = {}, host = "127.0.0.1"): Promise<Stranger> {
  const makeLink = (onWake: () => void) => createJsLink({ onWake });
  const node = await openTestNode({ name: "node", makeLink, host, ...options });
  let arrived = (_: LinkEvent): void => {};
  const link = createJsLink({ onWake: () => void link.poll((event) => arrived(event), 1_000) });
  t.after(async () => {
    await link.close();
    await node.close();
  });
  const messages: Message[] = [];
  const waiting: ((message: Message) => void)[] = [];
  let connection: ConnectionId = 0;
  let ended = (): void => {};
  const closed = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const connected = new Promise<void>((resolve, reject) => {
    arrived = (event) => {
      if (event.kind === "connected") resolve();
      if (event.kind === "disconnected") {
        reject(new Error(event.detail));
        ended();
      }
      if (event.kind !== "message") return;
      const message = decodeMessage(event.bytes);
      const taker = waiting.shift();
      if (taker === undefined) messages.push(message);
      else taker(message);
    };
  });
  connection = link.dial({ host, port: node.address.port }, 5_000);
  await connected;
  return {
    send: (message) => void link.send(connection, message instanceof Uint8Array ? message : encodeMessage(message)),
    next: () => {
      const message = messages.shift();
      return message === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(message);
    },
    closed,
  };
}

async function refused(stranger: Stranger, code: keyof typeof ERRORS): Promise<void> {
  let message = await stranger.next();
  if (message.kind === "hello") message = await stranger.next();
  assert.equal(message.kind, "refuse");
  assert.equal(message.kind === "refuse" && message.code, ERRORS[code].number);
  await stranger.closed;
}

test("a peer of the same version is greeted, over IPv4 and IPv6", async (t) => {
  for (const host of ["127.0.0.1", "::1"]) {
    const stranger = await meet(t, { settings: { allow: ["127.0.0.0/8", "::1"] } }, host);
    stranger.send(hello);
    const answer = await stranger.next();
    assert.equal(answer.kind, "hello");
    assert.ok(answer.kind === "hello" && answer.laneToken.length === 16 && answer.secret === "");
    stranger.send({ kind: "ping", id: 9 });
    assert.deepEqual(await stranger.next(), { kind: "pong", id: 9 });
  }
});

test("a newer peer that still speaks this version is greeted; one that does not is refused with both ranges", async (t) => {
  const newer = await meet(t);
  newer.send({ ...hello, version: 9, minVersion: 1 });
  assert.equal((await newer.next()).kind, "hello");
  const tooNew = await meet(t);
  tooNew.send({ ...hello, version: 9, minVersion: 8 });
  const answer = await tooNew.next();
  assert.ok(answer.kind === "refuse" && answer.code === ERRORS.version_unsupported.number && answer.version === limits.protocolVersion);
  assert.match(answer.kind === "refuse" ? answer.detail : "", /there 8\.\.9/);
  await tooNew.closed;
});

test("who is not on the allow-list learns nothing but that", async (t) => {
  const stranger = await meet(t, { settings: { allow: ["10.0.0.0/8"] } });
  stranger.send(hello);
  const first = await stranger.next();
  assert.equal(first.kind, "refuse", "no Hello, no lane token, no models");
  assert.equal(first.kind === "refuse" && first.code, ERRORS.peer_not_allowed.number);
  await stranger.closed;
});

test("a secret must be the same; a name counts only with one", async (t) => {
  const secret = "correct horse battery";
  const settings = { allow: ["stranger"], secret };
  const right = await meet(t, { settings });
  right.send({ ...hello, secret });
  assert.equal((await right.next()).kind, "hello");
  for (const wrong of ["", "correct horse batterx", `${secret}x`]) {
    const stranger = await meet(t, { settings });
    stranger.send({ ...hello, secret: wrong });
    await refused(stranger, "peer_not_allowed");
  }
  const byNameAlone = await meet(t, { settings: { allow: ["stranger"], secret: "" } });
  byNameAlone.send(hello);
  await refused(byNameAlone, "peer_not_allowed");
});

test("a configured peer with a secret of its own proves itself by that one, and nobody else does", async (t) => {
  const [shared, own] = ["correct horse battery", "staple of the stranger"];
  const peers = [{ name: "stranger", address: { host: "127.0.0.1", port: 9 }, secret: own }];
  const settings = { allow: ["127.0.0.0/8"], secret: shared, peers };
  const right = await meet(t, { settings });
  right.send({ ...hello, secret: own });
  assert.equal((await right.next()).kind, "hello");
  const another = await meet(t, { settings });
  another.send({ ...hello, name: "other", secret: shared });
  assert.equal((await another.next()).kind, "hello");
  for (const wrong of [{ secret: shared }, { name: "other", secret: own }]) {
    const stranger = await meet(t, { settings });
    stranger.send({ ...hello, ...wrong });
    await refused(stranger, "peer_not_allowed");
  }
});

test("a node does not talk to itself", async (t) => {
  const other = await meet(t);
  other.send(hello);
  const answer = await other.next();
  assert.ok(answer.kind === "hello");
  const stranger = await meet(t);
  stranger.send({ ...hello, node: answer.node });
  assert.equal((await stranger.next()).kind, "hello", "another process's id is no obstacle");
});

test("messages out of order and bytes that are no message end the connection with protocol_error", async (t) => {
  const early = await meet(t);
  early.send({ kind: "ping", id: 1 });
  await refused(early, "protocol_error");
  const twice = await meet(t);
  twice.send(hello);
  await twice.next();
  twice.send(hello);
  await refused(twice, "protocol_error");
  const garbage = await meet(t);
  garbage.send(hello);
  await garbage.next();
  garbage.send(Uint8Array.of(0xff, 0xff, 0xff, 0xff));
  await refused(garbage, "protocol_error");
});

test("accepts, resumes, dones and cancels of nothing change nothing", async (t) => {
  const stranger = await meet(t);
  stranger.send(hello);
  await stranger.next();
  const nothing = { id: 77, grant: 5 };
  stranger.send({ kind: "accept", ...nothing, generation: 1, committed: new Uint8Array(0), layout: new Uint8Array(0), order: "flat" });
  const late = await stranger.next();
  assert.ok(late.kind === "cancel" && late.code === ERRORS.grant_unknown.number && !late.fromReceiver, "who grants for nothing hears so");
  stranger.send({ kind: "done", ...nothing, fetch: 0 });
  stranger.send({ kind: "done", id: 0, grant: 5, fetch: 3 });
  stranger.send({ kind: "cancel", ...nothing, fetch: 3, code: 8, detail: "", fromReceiver: true });
  stranger.send({ kind: "lookupReply", id: 5, code: 0, matched: 9 });
  for (const fromReceiver of [false, true]) {
    stranger.send({ kind: "resume", ...nothing, fromReceiver });
    const answer = await stranger.next();
    assert.ok(answer.kind === "cancel" && answer.code === ERRORS.grant_unknown.number && answer.id === 77);
    assert.equal(answer.fromReceiver, !fromReceiver, "it is the other side's word");
  }
  stranger.send({ kind: "ping", id: 2 });
  assert.deepEqual(await stranger.next(), { kind: "pong", id: 2 });
});

test("fetches of what is not there are refused one by one, the connection stays", async (t) => {
  const stranger = await meet(t);
  stranger.send(hello);
  await stranger.next();
  const ask = {
    kind: "fetch" as const,
    fingerprint: "f".repeat(64),
    firstHead: 0,
    heads: 0,
    chunkBytes: 65_536,
    deadlineMs: 1_000,
    trace: "",
    readers: 1,
    tenant: "",
    priority: "normal" as const,
    grant: undefined,
    profiles: [],
  };
  const expected = [
    [{ kind: "handle" as const, handle: "nonsense" }, "handle_unknown"],
    [{ kind: "keys" as const, group: 0, keys: new Uint8Array(32), tokens: 16, position: undefined }, "fingerprint_mismatch"],
    [{ kind: "ranges" as const, buffer: "nonsense", ranges: [{ offset: 0, bytes: 1 }] }, "handle_unknown"],
  ] as const;
  for (const [index, [source, code]] of expected.entries()) {
    stranger.send({ ...ask, id: index + 1, source });
    const answer = await stranger.next();
    assert.ok(answer.kind === "cancel" && answer.fetch === index + 1, JSON.stringify(answer));
    assert.equal(answer.kind === "cancel" && answer.code, ERRORS[code].number);
  }
});
