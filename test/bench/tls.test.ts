/**
 * The bench over TLS. Method: a server in this process, real links, tiny sizes: with certificates of the moment that the client brings, with files at both
 * ends, and where the two do not agree, which is refused before a byte is measured.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { type BenchDocument, benchDocument } from "../../bench/document.ts";
import { parseOptions, type RawOptions } from "../../bench/options.ts";
import { Output } from "../../bench/output.ts";
import { runBench } from "../../bench/run.ts";
import type { BenchServer } from "../../bench/server.ts";
import { twoNumbers } from "../../bench/text.ts";
import { tlsOfFiles } from "../../bench/tls.ts";
import { native } from "../../transport/native.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";
import { tlsMaterial } from "../link/certificates.ts";
import { endBench, serveBench } from "./serving.ts";

const LINKS = native === undefined ? ["js"] : ["tcp", "js"];
const folder = mkdtempSync(join(tmpdir(), "kvferry-bench-tls-"));
after(() => rmSync(folder, { recursive: true }));

/** Flags that name files of this material. */
function filesOf(name: string, { certificate, key, authorities }: TlsOptions): { tlsCert: string; tlsKey: string; tlsCa: string } {
  const write = (kind: string, bytes: Uint8Array): string => {
    const file = join(folder, `${name}.${kind}`);
    writeFileSync(file, bytes);
    return file;
  };
  return { tlsCert: write("crt", certificate), tlsKey: write("key", key), tlsCa: write("ca", authorities) };
}

async function serve(t: TestContext, tls?: TlsOptions): Promise<BenchServer> {
  const server = await serveBench(tls);
  t.after(() => endBench(server));
  return server;
}

async function run(server: BenchServer, raw: RawOptions): Promise<BenchDocument> {
  const logfile = join(folder, "log");
  const common = { pool: "256KiB", blockSize: "4KiB", iters: "6", logfile, client: "127.0.0.1", port: String(server.port) };
  const options = parseOptions({ ...common, ...raw });
  const output = new Output(options);
  const document = await runBench(options, { version: "test", args: ["bench"], environment: {}, command: [], output });
  output.close();
  benchDocument.parse(document);
  return document;
}

for (const link of LINKS) {
  test(`${link}: with certificates of the moment, both ways`, async (t) => {
    const server = await serve(t);
    const document = await run(server, { link, tls: true, bidir: true, parallel: "3" });
    assert.equal(document.error, null, document.error?.message);
    assert.ok(document.end.okay && document.results[0]?.n_wrong === 0 && document.results[0].verified_bytes > 0);
    // A lane that is dialled before the control connection's ticket has come goes through a whole handshake.
    const { resumed, ...spoken } = document.start.tls ?? { resumed: Number.NaN };
    assert.deepEqual(spoken, { protocol: "TLSv1.3", cipher: "TLS_AES_128_GCM_SHA256" });
    assert.ok(resumed >= 0 && resumed <= 3, `${resumed} of 3 lanes resumed a session`);
    assert.match(twoNumbers(document, "g"), /TLSv1\.3 with TLS_AES_128_GCM_SHA256/);
    const plain = await run(server, { link });
    assert.deepEqual([plain.error, plain.start.tls], [null, null], "the next client brings its own wish");
  });

  test(`${link}: with files at both ends`, async (t) => {
    const files = filesOf(`own-${link}`, tlsMaterial());
    const server = await serve(t, tlsOfFiles({ certificate: files.tlsCert, key: files.tlsKey, authorities: files.tlsCa }));
    const document = await run(server, { link, ...files });
    assert.equal(document.error, null, document.error?.message);
    assert.equal(document.start.tls?.protocol, "TLSv1.3");
    for (const other of [{ link }, { link, tls: true }]) {
      const { error } = await run(server, other);
      assert.deepEqual([error?.code, error?.message.includes("--tls-cert")], ["tls_failed", true]);
    }
    const bare = await serve(t);
    assert.match((await run(bare, { link, ...files })).error?.message ?? "", /no certificate of its own/);
  });
}

test("files that are not there, and halves of a pair", async (t) => {
  const server = await serve(t);
  const { tlsCert, tlsKey, tlsCa } = filesOf("half", tlsMaterial());
  const { error } = await run(server, { tlsCert, tlsKey, tlsCa: join(folder, "nowhere") });
  assert.match(error?.message ?? "", /--tls-ca: ENOENT/);
  const wrong: readonly (readonly [RawOptions, RegExp])[] = [
    [{ client: "h", tlsCert, tlsKey }, /--tls-ca is missing/],
    [{ client: "h", tlsCert, tlsKey, tlsCa, tls: true }, /--tls and --tls-cert exclude each other/],
    [{ tlsCert, tlsKey, tlsCa }, /goes with -s or -c/],
    [{ tls: true, link: "fake" }, /has no sockets/],
    [{ server: true, tls: true }, /--tls is for the client/],
  ];
  for (const [raw, sentence] of wrong) assert.throws(() => parseOptions(raw), sentence);
  assert.deepEqual(parseOptions({ server: true, tlsCert, tlsKey, tlsCa }).tls, { certificate: tlsCert, key: tlsKey, authorities: tlsCa });
});
