/**
 * The library's door: nodes by configuration, what fails at the start and what it leaves behind, draining.
 * Method: createFerry as a user calls it, in this process; two of them move KV. Then all of this file again in a process without the addon.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import test, { type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { createFerry, opaqueLayout } from "../../transport/index.ts";
import type { LocalFerry } from "../../transport/ferry/create.ts";
import { native } from "../../transport/native.ts";
import { daysFromNow, type Issued, issueAuthority, issueCertificate } from "../../transport/tls/issue.ts";

const MiB = 1 << 20;
const pool = { bytes: 4 * MiB, blockBytes: 65_536 };
const IDENTITY = { model: "blob", revision: "1", element: "u8", rope: "", profile: "", extra: "" };

test("two nodes in one process move opaque state, and leave nothing", async () => {
  const a = await createFerry({ name: "a", listen: "127.0.0.1:0", allow: ["127.0.0.1"], pool });
  const b = await createFerry({ name: "b", pool, peers: [{ name: "a", address: `127.0.0.1:${a.address?.port}` }] });
  assert.deepEqual([a.link.kind, b.link.kind], native === undefined ? ["js", "js"] : ["tcp", "tcp"]);
  const info = await a.pool();
  const [modelA, modelB] = [
    await a.registerModel(IDENTITY, opaqueLayout(pool.blockBytes, info.blockCount)),
    await b.registerModel(IDENTITY, opaqueLayout(pool.blockBytes, (await b.pool()).blockCount)),
  ];
  assert.equal(modelA.fingerprint, modelB.fingerprint);
  const [source, target] = [await a.alloc(7), await b.alloc(7)];
  const [memoryA, memoryB] = [await a.attach(), await b.attach()];
  const view = (node: typeof a, block: number): Uint8Array => {
    const from = info.dataOffset + block * pool.blockBytes;
    return (node === a ? memoryA : memoryB).view.subarray(from, from + pool.blockBytes);
  };
  for (const id of source.ids) view(a, id).set(randomBytes(pool.blockBytes));
  const handle = await a.offer({ model: modelA.model, groups: [{ group: 0, blocks: source, tokens: 7 }] });
  const transfer = await b.fetch({ peer: "a", model: modelB.model, source: { handle }, into: [{ group: 0, blocks: target, tokens: 7 }] });
  const report = await transfer.done;
  assert.equal(report.bytes, 7 * pool.blockBytes);
  target.ids.forEach((id, index) => assert.equal(Buffer.compare(view(b, id), view(a, source.ids[index] ?? 0)), 0));
  const [peer] = (await b.stats()).peers;
  assert.ok(peer?.up);
  const path = info.path;
  await b.close();
  await b.close();
  await a.close();
  assert.ok(path === "" || !existsSync(path), "a library's pool goes with it");
  await assert.rejects(a.alloc(1), { code: "closed" });
});

test("a start that fails says why and leaves nothing open", async (t) => {
  const first = await createFerry({ name: "first", listen: "127.0.0.1:0", pool });
  t.after(() => first.close());
  const taken = `127.0.0.1:${first.address?.port}`;
  await assert.rejects(createFerry({ name: "second", listen: taken, pool }), { code: "address_unavailable" });
  const { path } = await first.pool();
  const files = path === "" ? [] : readdirSync(dirname(path)).filter((file) => file.includes("second"));
  assert.deepEqual(files, [], "a node that never came up leaves no pool");
  // Without the addon the pool lies in no directory: it is this process's own memory, of which there are no four tebibytes either.
  const tooMuch = native === undefined ? { ...pool, bytes: 2 ** 42 } : { ...pool, directory: "/nowhere/at/all" };
  await assert.rejects(createFerry({ name: "third", pool: tooMuch }), { code: "memory_unavailable" });
  await assert.rejects(createFerry({ listen: "0.0.0.0:0" }), { code: "invalid_config" }, "insecure must be said");
});

test("a node says where it is reached: where it listens, or what --advertise names; a wildcard is no place", async () => {
  const said = async (config: Parameters<typeof createFerry>[0]): Promise<string> => {
    const node = await createFerry({ name: "told", pool, ...config });
    const { name, address } = await node.info();
    assert.equal(name, "told");
    const { port } = node.address ?? { port: 0 };
    await node.close();
    return address.replace(String(port), "PORT");
  };
  assert.equal(await said({}), "");
  assert.equal(await said({ listen: "127.0.0.1:0" }), "127.0.0.1:PORT");
  assert.equal(await said({ listen: "[::1]:0" }), "[::1]:PORT");
  assert.equal(await said({ listen: "0.0.0.0:0", insecure: true }), "");
  assert.equal(await said({ listen: "[::]:0", insecure: true }), "");
  assert.equal(await said({ listen: "127.0.0.1:0", advertise: "kv.example:7411" }), "kv.example:7411");
});

interface TlsStage {
  readonly holder: LocalFerry;
  /** A certificate of that name in files, from our authority or another. */
  filesOf(name: string, by?: Issued): { certificate: string; key: string; authorities: string };
}

async function openTlsStage(t: TestContext): Promise<TlsStage> {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-library-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const authority = issueAuthority({ name: "authority" }, daysFromNow(1));
  const filesOf: TlsStage["filesOf"] = (name, by = authority) => {
    const { certificate, key } = issueCertificate(by, { name, uri: `urn:${name}`, hosts: ["127.0.0.1"] }, daysFromNow(1));
    const write = (kind: string, text: string): string => {
      writeFileSync(join(folder, `${name}.${kind}`), text);
      return join(folder, `${name}.${kind}`);
    };
    return { certificate: write("crt", certificate), key: write("key", key), authorities: write("ca", authority.certificate) };
  };
  const holder = await createFerry({ name: "holder", listen: "0.0.0.0:0", pool, tls: filesOf("holder") });
  t.after(() => holder.close());
  return { holder, filesOf };
}

/** A block from the holder to a node with this certificate that expects that identity; resolves with its bytes. */
async function fetchOver(t: TestContext, holder: LocalFerry, tls: ReturnType<TlsStage["filesOf"]>, identity?: string): Promise<number> {
  const peer = { name: "holder", address: `127.0.0.1:${holder.address?.port}`, ...(identity === undefined ? {} : { identity }) };
  const node = await createFerry({ name: "asker", pool, tls, peers: [peer] });
  t.after(() => node.close());
  const modelOf = async (ferry: LocalFerry): Promise<number> =>
    (await ferry.registerModel(IDENTITY, opaqueLayout(pool.blockBytes, (await ferry.pool()).blockCount))).model;
  const handle = await holder.offer({ model: await modelOf(holder), groups: [{ group: 0, blocks: await holder.alloc(1), tokens: 1 }] });
  const into = [{ group: 0, blocks: await node.alloc(1), tokens: 1 }];
  const transfer = await node.fetch({ peer: "holder", model: await modelOf(node), source: { handle }, into });
  return (await transfer.done).bytes;
}

test("nodes over TLS know each other by their certificates, and nobody else", async (t) => {
  const { holder, filesOf } = await openTlsStage(t);
  assert.equal(await fetchOver(t, holder, filesOf("friend")), pool.blockBytes);
  assert.equal(await fetchOver(t, holder, filesOf("friend"), "urn:holder"), pool.blockBytes);
  await assert.rejects(fetchOver(t, holder, filesOf("friend"), "urn:other"), { code: "certificate_rejected" });
  const stranger = issueAuthority({ name: "another" }, daysFromNow(1));
  await assert.rejects(fetchOver(t, holder, filesOf("stranger", stranger)), { code: "certificate_rejected" });
  assert.ok(holder.node.link.refusals().unknown_ca > 0);
});

test("a drained node takes no new work", async () => {
  const node = await createFerry({ name: "drained", listen: "127.0.0.1:0", pool });
  assert.equal(await node.drain(1_000), true);
  assert.throws(() => node.host.openSession({ client: "late", processId: 0 }), { code: "draining" });
  await node.close();
});

test("all this without the addon, on the JavaScript link", { skip: native === undefined ? "this is that process" : false }, async () => {
  // As the runner's child it would report to the runner and not to us.
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env;
  const command = ["--import", import.meta.resolve("tsx"), "--test-reporter=tap", fileURLToPath(import.meta.url)];
  const child = spawn(process.execPath, command, { env: { ...inherited, KVFERRY_NATIVE: "off" }, stdio: ["ignore", "pipe", "inherit"] });
  let told = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (told += text));
  const [code] = await once(child, "close");
  assert.equal(code, 0, told);
  assert.match(told, /^# pass [4-9]$/m);
  assert.match(told, /^# skipped 1$/m);
});
