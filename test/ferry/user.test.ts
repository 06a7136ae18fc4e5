/**
 * What a program holds, whether the node is in its own process or a sidecar: one suite over createFerry and connect. Method: a node of each kind, used through
 * UserFerry alone, with a second node to move bytes to.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { createApiServer } from "../../transport/api/server.ts";
import { connect, createFerry, type LocalFerry, opaqueLayout, type UserFerry } from "../../transport/index.ts";
import { native } from "../../transport/native.ts";

const pool = { bytes: 4 << 20, blockBytes: 65_536 };
const IDENTITY = { model: "blob", revision: "1", element: "u8", rope: "", profile: "", extra: "" };
const skip = native === undefined ? "the addon is not built: a sidecar has no memory to attach" : false;

interface Kind {
  readonly name: string;
  /** A user of this node. */
  open(t: TestContext, node: LocalFerry): Promise<UserFerry>;
}

const KINDS: readonly Kind[] = [
  { name: "createFerry", open: async (_t, node) => node },
  {
    name: "connect",
    open: async (t, node) => {
      const folder = mkdtempSync(join(tmpdir(), "kvferry-user-"));
      const socket = join(folder, "api.sock");
      const nothing = (): void => {};
      const log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
      const server = await createApiServer({ host: node.host, socket, log });
      const client = await connect(socket);
      t.after(async () => {
        await client.close();
        await server.close();
        rmSync(folder, { recursive: true, force: true });
      });
      return client;
    },
  },
];

async function node(t: TestContext, name: string): Promise<LocalFerry> {
  const opened = await createFerry({ name, listen: "127.0.0.1:0", allow: ["127.0.0.0/8"], pool });
  t.after(() => opened.close());
  return opened;
}

for (const kind of KINDS) {
  test(`${kind.name}: blocks of the attached pool travel by handle`, { skip }, async (t) => {
    const [here, there] = [await node(t, "here"), await node(t, "there")];
    const [source, target] = [await kind.open(t, here), await kind.open(t, there)];
    assert.match(source.incarnation, /^[0-9a-f]{32}$/);
    const { blockCount, dataOffset, incarnation } = await source.pool();
    assert.equal(source.incarnation, incarnation);
    const layout = opaqueLayout(pool.blockBytes, blockCount);
    const [mine, theirs] = [await source.registerModel(IDENTITY, layout), await target.registerModel(IDENTITY, layout)];
    const [from, to] = [await source.attach(), await target.attach()];
    const [blocks, into] = [await source.alloc(3), await target.alloc(3)];
    const bytesOf = (memory: Uint8Array, block: number): Uint8Array =>
      memory.subarray(dataOffset + block * pool.blockBytes).subarray(0, pool.blockBytes);
    for (const block of blocks.ids) bytesOf(from.view, block).set(randomBytes(pool.blockBytes));
    const handle = await source.offer({ model: mine.model, groups: [{ group: 0, blocks, tokens: 3 }] });
    const { address } = await source.info();
    const request = { peer: address, model: theirs.model, source: { handle }, into: [{ group: 0, blocks: into, tokens: 3 }] };
    await (await target.fetch(request)).done;
    blocks.ids.forEach((block, at) => assert.deepEqual(bytesOf(to.view, into.ids[at]!), bytesOf(from.view, block)));
    from.close();
    to.close();
    from.close();
  });

  test(`${kind.name}: a buffer of the user's own is read and written by its handle until it is closed`, { skip }, async (t) => {
    const [here, there] = [await node(t, "here"), await node(t, "there")];
    const [reader, holder] = [await kind.open(t, here), await kind.open(t, there)];
    const [mine, theirs] = [await reader.createBuffer(100_000), await holder.createBuffer(100_000)];
    assert.deepEqual([mine.bytes, mine.region.bytes, mine.region.view.length], [100_000, 100_000, 100_000]);
    theirs.region.view.set(randomBytes(100_000));
    const { address } = await holder.info();
    const request = { peer: address, local: mine.handle, remote: theirs.handle, ranges: [{ local: 10, remote: 20, bytes: 70_000 }] };
    await (await reader.read(request)).done;
    assert.deepEqual(mine.region.view.subarray(10, 70_010), theirs.region.view.subarray(20, 70_020));
    assert.ok(mine.region.view.subarray(70_010).every((byte) => byte === 0));
    await theirs.close();
    await assert.rejects((await reader.read(request)).done, { code: "handle_unknown" });
    await mine.close();
    await assert.rejects(reader.read(request), { code: "handle_unknown" });
  });

  test(`${kind.name}: after close every call is refused`, { skip }, async (t) => {
    const user = await kind.open(t, await node(t, "here"));
    await user.close();
    await assert.rejects(user.attach(), { code: "closed" });
    await assert.rejects(user.createBuffer(4_096), { code: "closed" });
    await assert.rejects(user.alloc(1), { code: "closed" });
  });
}
