/**
 * Configured peers: dialled without being asked, whoever is there first, and one peer by whichever name. Method: two nodes in this process
 * over the real link.
 */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { freeAddress } from "../../engines/demo/processes.ts";
import { parseAddress } from "../../transport/config/address.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { openTestNode, type TestNode } from "./node.ts";
import { IDENTITY, layoutOf, skip, until } from "./pair.ts";

const SECRET = "of these two alone";

async function open(t: TestContext, name: string, port: number, peer: { readonly name: string; readonly port: number }): Promise<TestNode> {
  const peers = [{ name: peer.name, address: { host: "127.0.0.1", port: peer.port }, secret: SECRET }];
  const node = await openTestNode({ name, port, settings: { peers, secret: "everybody's" } });
  t.after(() => node.close());
  return node;
}

async function freePort(): Promise<number> {
  return parseAddress(await freeAddress())!.port;
}

async function isUp(node: TestNode, name: string, lanes: number): Promise<void> {
  const listed = async () => (await node.ferry.stats()).peers.filter((peer) => peer.name === name);
  for (let round = 0; round < 500 && !(await listed()).every((peer) => peer.up && peer.lanes === lanes); round++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  // Dialled, and accepted.
  assert.deepEqual(
    (await listed()).map(({ up, lanes: open }) => [up, open]),
    [
      [true, lanes],
      [true, lanes],
    ],
  );
}

test("two nodes that know each other are connected both ways before anybody asks, though one of them came later", { skip }, async (t) => {
  const [first, second] = [await freePort(), await freePort()];
  const a = await open(t, "a", first, { name: "b", port: second });
  await until(() => a.events.some((event) => event.kind === "peer" && !event.up));
  const b = await open(t, "b", second, { name: "a", port: first });
  await isUp(a, "b", 4);
  await isUp(b, "a", 4);
});

test("where the link has no place for another connection, that is tried again, and whoever waits for it hears why", { skip }, async (t) => {
  const makeLink = (onWake: () => void) => createTcpLink({ onWake, limits: { connectionsMax: 1 } });
  const [a, b, c] = [await openTestNode({ name: "a" }), await openTestNode({ name: "b" }), await openTestNode({ name: "c", makeLink })];
  for (const node of [a, b, c]) t.after(() => node.close());
  const { model } = await c.ferry.registerModel(IDENTITY, layoutOf(c.pool.blockCount));
  const ask = async ({ address }: TestNode) => {
    const into = [{ group: 0, blocks: await c.ferry.alloc(1), tokens: 1 }];
    const request = { peer: `127.0.0.1:${address.port}`, model, source: { handle: "none" }, into, deadlineMs: 1_000 };
    return (await c.ferry.fetch(request)).done;
  };
  await assert.rejects(ask(a), { code: "handle_unknown" });
  await assert.rejects(ask(b), { code: "full" });
  for (const peer of c.node.peers.all()) peer.close("the other one is wanted");
  await until(() => c.events.some((event) => event.kind === "peer" && !event.up && event.peer.endsWith(String(a.address.port))));
  await assert.rejects(ask(b), { code: "handle_unknown" });
});

test("a configured peer that is named by its address is the same peer, and is shown the secret that it has with us", {
  skip,
}, async (t) => {
  const [first, second] = [await freePort(), await freePort()];
  const a = await open(t, "a", first, { name: "b", port: second });
  const b = await open(t, "b", second, { name: "a", port: first });
  const places = await a.ferry.lookup((await a.ferry.registerModel(IDENTITY, layoutOf(a.pool.blockCount))).model, 0, new Uint8Array(32), [
    `127.0.0.1:${second}`,
  ]);
  assert.deepEqual(
    places.map(({ code }) => code),
    ["", ""],
  );
  await isUp(a, "b", 4);
  assert.equal((await a.ferry.stats()).peers.length, 2);
  await isUp(b, "a", 4);
});
