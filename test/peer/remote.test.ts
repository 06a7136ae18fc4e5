/**
 * What a node makes of what a remote says of itself: capabilities, its largest chunk, where it is reached. Method: a real node that dials a bare
 * listener; that answers its Hello with one of the test's own, and every message that comes is kept.
 */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { createJsLink } from "../../transport/link/js.ts";
import type { ConnectionId } from "../../transport/link/link.ts";
import { limits } from "../../transport/limits.ts";
import { decodeMessage, encodeMessage, type Hello, type Message } from "../../transport/peer/messages.ts";
import type { NodeObserver } from "../../transport/ferry/context.ts";
import { openTestNode, type TestNode } from "../ferry/node.ts";

const hello: Hello = {
  kind: "hello",
  version: 1,
  minVersion: 1,
  node: "remote",
  name: "remote",
  software: "test",
  advertise: "",
  capabilities: ["resume", "ranges", "push", "keys"],
  chunkBytesMax: limits.chunkBytesMax,
  lanesMax: 1,
  laneToken: new Uint8Array(16).fill(7),
  secret: "",
  resumeNode: "",
  conversation: 1,
  tenant: "",
  models: [],
};

interface Listener {
  readonly address: string;
  /** Resolves with the next message that is no Hello and no heartbeat. */
  next(): Promise<Message>;
  /** Ends the connections of those who dialled. */
  hangUp(): void;
}

async function listen(t: TestContext, said: Partial<Hello>, onLaneUp: (close: () => void) => void = () => {}): Promise<Listener> {
  const messages: Message[] = [];
  let waiting: ((message: Message) => void) | undefined;
  const connections: ConnectionId[] = [];
  const link = createJsLink({
    onWake: () =>
      void link.poll((event) => {
        if (event.kind === "accepted") {
          connections.push(event.connection);
          link.admitLanes(event.connection, hello.laneToken);
        }
        if (event.kind === "laneUp") onLaneUp(() => link.closeLane(event.connection, event.lane));
        if (event.kind !== "message") return;
        const message = decodeMessage(event.bytes);
        if (message.kind === "hello") link.send(event.connection, encodeMessage({ ...hello, ...said }));
        else if (message.kind === "ping") link.send(event.connection, encodeMessage({ kind: "pong", id: message.id }));
        else if (waiting === undefined) messages.push(message);
        else {
          waiting(message);
          waiting = undefined;
        }
      }, 1_000),
  });
  t.after(() => link.close());
  const { port } = await link.listen({ host: "127.0.0.1", port: 0 });
  const next = async (): Promise<Message> => messages.shift() ?? new Promise((resolve) => (waiting = resolve));
  const hangUp = (): void => {
    for (const connection of connections.splice(0)) link.disconnect(connection);
  };
  return { address: `127.0.0.1:${port}`, next, hangUp };
}

async function openNode(t: TestContext, observer: NodeObserver = {}): Promise<TestNode> {
  const makeLink = (onWake: () => void) => createJsLink({ onWake });
  const node = await openTestNode({ name: "node", makeLink, settings: { chunkBytes: 1 << 20 }, observer });
  t.after(() => node.close());
  return node;
}

const write = async (node: TestNode, peer: string) => {
  const { handle } = await node.ferry.registerBuffer(new Uint8Array(1 << 20));
  const ranges = [{ local: 0, remote: 0, bytes: 1 << 20 }];
  return node.ferry.write({ peer, local: handle, remote: "theirs", ranges, deadlineMs: 5_000 });
};

test("what the remote is not capable of fails as unsupported, before and after it is known", async (t) => {
  const node = await openNode(t);
  const { address } = await listen(t, { capabilities: ["resume", "push", "keys"] });
  await assert.rejects((await write(node, address)).done, { code: "unsupported" });
  await assert.rejects((await write(node, address)).done, { code: "unsupported" });
});

test("a transfer to a remote that cannot resume ends with its connection", async (t) => {
  const node = await openNode(t);
  const remote = await listen(t, { capabilities: ["ranges"] });
  const { done } = await write(node, remote.address);
  assert.equal((await remote.next()).kind, "offer");
  remote.hangUp();
  await assert.rejects(done, { code: "connection_lost" });
});

test("chunks are cut to what the remote takes, also when it was not known at the start", async (t) => {
  const node = await openNode(t);
  const remote = await listen(t, { chunkBytesMax: 65_536 });
  for (const when of ["before the first Hello", "after it"]) {
    const transfer = await write(node, remote.address);
    let offer = await remote.next();
    while (offer.kind !== "offer") offer = await remote.next();
    assert.equal(offer.chunkBytes, 65_536, when);
    transfer.cancel();
    await assert.rejects(transfer.done, { code: "cancelled" });
  }
});

test("a peer that dialled us is dialled by its name where it says that it is reached, if that is on the allow-list", async (t) => {
  const node = await openNode(t);
  const remote = await listen(t, { name: "elsewhere" });
  const dialler = createJsLink({ onWake: () => void dialler.poll(() => {}, 100) });
  t.after(() => dialler.close());
  const introduce = async (name: string, advertise: string): Promise<void> => {
    const connection = dialler.dial({ host: "127.0.0.1", port: node.address.port }, 5_000);
    const said = encodeMessage({ ...hello, node: name, name, advertise, laneToken: new Uint8Array(0) });
    while (!dialler.send(connection, said)) await new Promise((resolve) => setTimeout(resolve, 5));
    while (!(await node.ferry.stats()).peers.some((peer) => peer.name === name && peer.up))
      await new Promise((resolve) => setTimeout(resolve, 5));
  };
  await introduce("caller", remote.address);
  await introduce("liar", "192.0.2.1:7411");
  await introduce("silent", "");
  const peers = (await node.ferry.stats()).peers.map(({ name, address }) => [name, address]);
  assert.deepEqual(peers, [
    ["caller", remote.address],
    ["liar", "192.0.2.1:7411"],
    ["silent", ""],
  ]);
  const transfer = await write(node, "caller");
  assert.equal((await remote.next()).kind, "offer");
  transfer.cancel();
  await assert.rejects(transfer.done, { code: "cancelled" });
  await assert.rejects(write(node, "liar"), { code: "peer_not_allowed" });
  await assert.rejects(write(node, "silent"), { code: "peer_not_allowed" });
});

test("a listener that knows nothing of the token in our Hello gets its lanes with its own, so many as it takes; none counts as lost", async (t) => {
  const lost: string[] = [];
  const node = await openNode(t, { laneLost: (_peer, lane) => lost.push(lane.toString()) });
  let ups = 0;
  const remote = await listen(t, { lanesMax: 3 }, () => (ups += 1));
  const transfer = await write(node, remote.address);
  await remote.next();
  const lanes = async (): Promise<number> => (await node.ferry.stats()).peers[0]?.lanes ?? 0;
  for (let round = 0; round < 500 && (await lanes()) < 3; round++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.deepEqual([await lanes(), ups, lost], [3, 3, []]);
  transfer.cancel();
  await assert.rejects(transfer.done, { code: "cancelled" });
});

test("a lane that dies is told, and opened again", async (t) => {
  let lost = (_lane: string): void => {};
  const told = new Promise<string>((resolve) => (lost = resolve));
  const node = await openNode(t, { laneLost: (peer, lane, code) => lost(`${peer} ${lane} ${code}`) });
  let ups = 0;
  let again = (): void => {};
  const reopened = new Promise<void>((resolve) => (again = resolve));
  const remote = await listen(t, {}, (close) => {
    ups += 1;
    if (ups === 1) close();
    else again();
  });
  const transfer = await write(node, remote.address);
  assert.match(await told, new RegExp(`^${remote.address} 0 (lane_lost|closed)$`));
  await reopened;
  transfer.cancel();
  await assert.rejects(transfer.done, { code: "cancelled" });
});
