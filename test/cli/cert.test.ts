/**
 * kvferry cert, and a node with what it makes. Method: the command as users run it, in a folder of its own; two sidecars over TLS that move a block, tell of
 * each other's certificates, turn strangers away, and take another certificate at a signal.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { connect as dial } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { connect } from "../../transport/api/client.ts";
import { opaqueLayout } from "../../transport/index.ts";
import { native } from "../../transport/native.ts";
import { settled } from "../link/conformance/end.ts";
import { freePort } from "../process/sidecar.ts";
import { kvferry, start } from "./spawn.ts";
import { get } from "../http.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-cert-"));
after(() => rmSync(folder, { recursive: true }));

const IDENTITY = { model: "blob", revision: "1", element: "u8", rope: "", profile: "", extra: "" };
const modeOf = (file: string): number => statSync(file).mode & 0o777;
const certificateIn = (file: string): X509Certificate => new X509Certificate(readFileSync(file));

test("an authority, and certificates from it", async () => {
  const ca = join(folder, "ca");
  const made = await kvferry(["cert", "ca", "--out", ca, "--days", "100"]);
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, /ca\.crt {3}valid until \d{4}-\d\d-\d\d\n.*ca\.key/);
  assert.deepEqual([modeOf(join(ca, "ca.key")), modeOf(join(ca, "ca.crt"))], [0o600, 0o644]);
  const node = ["cert", "node", "--ca", ca, "--out", join(folder, "nodes"), "--name", "n1"];
  const more = ["--host", "n1.example", "--host", "10.0.0.1", "--uri", "spiffe://fleet/n1", "--organization", "Team A", "--days", "9"];
  assert.equal((await kvferry([...node, ...more])).code, 0);
  const certificate = certificateIn(join(folder, "nodes", "n1.crt"));
  assert.ok(certificate.checkIssued(certificateIn(join(ca, "ca.crt"))));
  assert.equal(certificate.subjectAltName, "URI:spiffe://fleet/n1, DNS:n1.example, IP Address:10.0.0.1");
  assert.equal(modeOf(join(folder, "nodes", "n1.key")), 0o600);

  const again = await kvferry(node);
  assert.equal(again.code, 2);
  assert.match(again.stderr, /n1\.key is there already; --force replaces it/);
  assert.equal(certificateIn(join(folder, "nodes", "n1.crt")).serialNumber, certificate.serialNumber);
  assert.equal((await kvferry([...node, "--force"])).code, 0);
  assert.notEqual(certificateIn(join(folder, "nodes", "n1.crt")).serialNumber, certificate.serialNumber);
  const [absent, wrong] = await Promise.all([
    kvferry(["cert", "node", "--ca", folder, "--out", folder, "--name", "x"]),
    kvferry([...node, "--host", "not a host"]),
  ]);
  assert.match(absent.stderr, /ENOENT.*kvferry cert ca --out/);
  assert.match(wrong.stderr, /Expected a name or an address for --host/);
  const file = await kvferry(["cert", "ca", "--out", join(ca, "ca.crt")]);
  assert.deepEqual([file.code, /^kvferry: invalid_argument: .*--out: E/.test(file.stderr)], [2, true], file.stderr);
  // Where the kernel makes no folders; Node's own way of making several would never come back.
  const nowhere = await kvferry(["cert", "ca", "--out", "/proc/1/x/y"]);
  assert.deepEqual([nowhere.code, /--out: E(NOENT|ACCES)/.test(nowhere.stderr)], [2, true], nowhere.stderr);
});

interface Sidecar {
  readonly child: ChildProcess;
  readonly socket: string;
  said: string;
}

/** A sidecar with the certificate of that name. */
async function serve(t: TestContext, name: string, ...more: string[]): Promise<Sidecar> {
  const socket = join(folder, `${name}.sock`);
  const file = (kind: string): string => join(folder, `${name}.${kind}`);
  const tls = ["--tls-certificate", file("crt"), "--tls-key", file("key"), "--tls-authorities", join(folder, "pki", "ca.crt")];
  const pool = ["--pool-bytes", "8MiB", "--pool-block-bytes", "64KiB", "--pool-directory", folder];
  const child = start(["serve", "--name", name, "--socket", socket, "--log-format", "text", ...pool, ...tls, ...more]);
  t.after(() => child.kill("SIGKILL"));
  const sidecar: Sidecar = { child, socket, said: "" };
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (text: Buffer) => (sidecar.said += text.toString()));
  await settled(() => sidecar.said.includes("status:") || child.exitCode !== null, `${name} to start`);
  assert.equal(child.exitCode, null, sidecar.said);
  return sidecar;
}

async function issue(name: string, ...more: string[]): Promise<void> {
  const where = ["--ca", join(folder, "pki"), "--out", folder, "--name", name, "--host", "127.0.0.1", "--force"];
  const { code, stderr } = await kvferry(["cert", "node", ...where, ...more]);
  assert.equal(code, 0, stderr);
}

interface Status {
  readonly tls: { identity: string; not_after: string } | null;
  readonly refusals: Record<string, number>;
  readonly peers: readonly {
    identity: string | null;
    up: boolean;
    lane_info: { tls: { protocol: string; cipher: string; resumed: boolean } | null }[];
  }[];
}

const statusOf = async ({ socket }: Sidecar): Promise<Status> => JSON.parse((await get(socket, "/status")).body) as Status;

/** A block from one to the other, through the engine API. */
async function moveBlock(from: Sidecar, to: Sidecar): Promise<void> {
  const [a, b] = [await connect(from.socket), await connect(to.socket)];
  const { blockBytes, blockCount } = await a.pool();
  const [modelA, modelB] = [
    await a.registerModel(IDENTITY, opaqueLayout(blockBytes, blockCount)),
    await b.registerModel(IDENTITY, opaqueLayout(blockBytes, blockCount)),
  ];
  const handle = await a.offer({ model: modelA.model, groups: [{ group: 0, blocks: await a.alloc(1), tokens: 1 }] });
  const into = [{ group: 0, blocks: await b.alloc(1), tokens: 1 }];
  const transfer = await b.fetch({ peer: "one", model: modelB.model, source: { handle }, into });
  assert.equal((await transfer.done).bytes, blockBytes);
  await a.close();
  await b.close();
}

test("two sidecars over TLS: who they are, who is turned away, another certificate at a signal", async (t) => {
  assert.equal((await kvferry(["cert", "ca", "--out", join(folder, "pki")])).code, 0);
  await issue("one", "--uri", "spiffe://fleet/one");
  await issue("two");
  const port = await freePort();
  const one = await serve(t, "one", "--listen", `127.0.0.1:${port}`);
  const peers = JSON.stringify([{ name: "one", address: `127.0.0.1:${port}`, identity: "spiffe://fleet/one" }]);
  const two = await serve(t, "two", "--peers", peers);
  await moveBlock(one, two);
  const [seen] = (await statusOf(two)).peers;
  assert.ok(seen?.up && seen.identity === "spiffe://fleet/one");
  // The first lanes are opened beside their connection, before there is a session to resume.
  const { protocol, cipher } = seen.lane_info[0]?.tls ?? {};
  assert.deepEqual({ protocol, cipher }, { protocol: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256" });
  assert.deepEqual(
    (await statusOf(one)).peers.map(({ identity }) => identity),
    ["two"],
  );

  // A stranger that speaks no TLS is turned away, told of and counted.
  const stranger = dial(port, "127.0.0.1");
  t.after(() => stranger.destroy());
  stranger.on("error", () => {}).write("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
  await settled(() => one.said.includes("REFUSED"), "a line about the stranger");
  assert.match(one.said, /WARN +one: REFUSED: a stranger was turned away reason=garbage remote=127\.0\.0\.1:\d+/);
  assert.equal((await statusOf(one)).refusals["garbage"], 1);
  assert.match((await get(one.socket, "/metrics")).body, /^kvferry_refusals_total\{reason="garbage"\} 1$/m);

  const before = (await statusOf(one)).tls;
  await issue("one", "--uri", "spiffe://fleet/one", "--days", "500");
  one.child.kill("SIGHUP");
  await settled(() => one.said.includes("deny-list were read again"), "the other certificate");
  const status = await statusOf(one);
  assert.equal(status.tls?.identity, before?.identity);
  assert.notEqual(status.tls?.not_after, before?.not_after);
  await moveBlock(one, two);

  rmSync(join(folder, "one.key"));
  one.child.kill("SIGHUP");
  await settled(() => one.said.includes("CERTIFICATE NOT CHANGED"), "a line about the missing key");
  assert.match((await get(one.socket, "/metrics")).body, /^kvferry_tls_reloads_total\{result="broken"\} 1$/m);
  await moveBlock(one, two);
});

test("a node does not start with what does not fit, and says which file", async () => {
  const files = [
    "--tls-certificate",
    join(folder, "two.crt"),
    "--tls-key",
    join(folder, "nowhere.key"),
    "--tls-authorities",
    join(folder, "two.crt"),
  ];
  const { code, stderr } = await kvferry([
    "serve",
    "--listen",
    "127.0.0.1:0",
    "--socket",
    join(folder, "x.sock"),
    "--pool-bytes",
    "8MiB",
    ...files,
  ]);
  assert.equal(code, 2);
  assert.match(stderr, /^kvferry: invalid_config: .*tls\.key: ENOENT.*nowhere\.key.*\n {2}\S/m);
});

test("where there is no addon, TLS is node:tls's", { skip: native === undefined ? "this is that host" : false }, async (t) => {
  await issue("script", "--uri", "spiffe://fleet/script");
  const port = await freePort();
  const one = await serve(t, "script", "--listen", `127.0.0.1:${port}`, "--link", "js");
  assert.match(one.said, /link js \(asked for\)/);
  await issue("visitor");
  const two = await serve(t, "visitor", "--peers", JSON.stringify([{ name: "script", address: `127.0.0.1:${port}` }]));
  await settled(() => two.said.includes("peer up"), "the peer");
  await settled(() => one.said.includes("peer up"), "the peer, there");
});
