/**
 * Certificates as files: what is wrong with them is said with the name of the setting, and a change is taken when the files have settled. Method: files in a
 * folder of its own, replaced as people and programs replace them; a watch that looks every few milliseconds.
 */
import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { KvferryError } from "../../transport/errors.ts";
import { FileWatch } from "../../transport/config/watch.ts";
import { describeCertificate, loadTls, type LoadedTls, type TlsFiles } from "../../transport/tls/files.ts";
import { checkTls, deniedEntry, type TlsOptions } from "../../transport/tls/options.ts";
import { tlsMaterial } from "../link/certificates.ts";
import { settled } from "../link/conformance/end.ts";

const folder = mkdtempSync(join(tmpdir(), "kvferry-tls-"));
after(() => rmSync(folder, { recursive: true }));

let sets = 0;

function filesOf(material: TlsOptions, denied = ""): TlsFiles {
  const name = (kind: string): string => join(folder, `${sets}.${kind}`);
  sets += 1;
  const files = { certificate: name("crt"), key: name("key"), authorities: name("ca"), denied: denied === "" ? "" : name("denied") };
  put(files, material);
  if (denied !== "") writeFileSync(files.denied, denied);
  return files;
}

function put(files: TlsFiles, { certificate, key, authorities }: TlsOptions): void {
  writeFileSync(files.certificate, certificate);
  writeFileSync(files.key, key);
  writeFileSync(files.authorities, authorities);
}

function refusal(files: TlsFiles): string {
  try {
    loadTls(files, Date.now());
  } catch (error) {
    assert.ok(error instanceof KvferryError && error.code === "invalid_config", String(error));
    return error.message;
  }
  return assert.fail("was accepted");
}

test("files are read and checked together", () => {
  const files = filesOf(tlsMaterial({ uri: "urn:a" }), "# people\n\nAB:CD:01 # a serial number\n00ff\n");
  const { options, certificate } = loadTls(files, Date.now());
  assert.deepEqual(options.denied, ["AB:CD:01", "00ff"]);
  assert.deepEqual(checkTls(options, Date.now()).denied, ["abcd01", "ff"]);
  assert.equal(describeCertificate(certificate).identity, "urn:a");
  assert.equal(deniedEntry("0".repeat(64)), "0".repeat(64), "a fingerprint keeps its zeros");
});

test("what is wrong is said, with the setting and its file", () => {
  const good = tlsMaterial();
  const files = filesOf(good);
  assert.match(refusal({ ...files, key: join(folder, "nowhere") }), /tls\.key: ENOENT.*nowhere/);
  assert.match(refusal({ ...files, denied: folder }), /tls\.denied: EISDIR/);
  const expired = { notBefore: new Date(0), notAfter: new Date(1e12) };
  assert.match(refusal(filesOf({ ...good, key: tlsMaterial().key })), /the key is not the certificate's.*tls\.certificate /);
  assert.match(refusal(filesOf(tlsMaterial({ validity: expired }))), /has expired/);
  assert.match(
    refusal(filesOf({ ...good, certificate: Buffer.from("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") })),
    /the certificate: /,
  );
  assert.match(refusal(filesOf({ ...good, authorities: Buffer.alloc(5 * 2 ** 20) })), /tls\.authorities: .* is longer than/);
  assert.match(refusal(filesOf(good, "not hexadecimal")), /no SHA-256 fingerprint.*tls\.denied/);
  const locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
  assert.match(refusal(filesOf({ ...good, key: Buffer.from(locked) })), /the key: no PEM private key without a password is in there/);
  assert.match(refusal(filesOf({ ...good, key: Buffer.alloc(0) })), /the key: no PEM private key/);
  assert.match(refusal({ ...files, key: "/dev/zero" }), /tls\.key: \/dev\/zero is no plain file/);
});

function watchOf(t: TestContext, files: TlsFiles): { watch: FileWatch<LoadedTls>; loaded: string[]; broken: string[] } {
  const [loaded, broken]: [string[], string[]] = [[], []];
  const watch = new FileWatch({
    paths: Object.values(files),
    load: () => loadTls(files, Date.now()),
    pollMs: 5,
    onLoaded: ({ certificate }) => loaded.push(describeCertificate(certificate).identity),
    onBroken: (error) => broken.push(error.detail),
  });
  t.after(() => watch.close());
  return { watch, loaded, broken };
}

test("files that change are taken, once; what is broken is said, once; what is mended is taken", async (t) => {
  const files = filesOf(tlsMaterial({ uri: "urn:one" }));
  const { loaded, broken } = watchOf(t, files);
  put(files, tlsMaterial({ uri: "urn:two" }));
  await settled(() => loaded.length === 1, "the second certificate");
  unlinkSync(files.key);
  await settled(() => broken.length === 1, "the missing key");
  put(files, tlsMaterial({ uri: "urn:three" }));
  await settled(() => loaded.length === 2, "the third certificate");
  assert.deepEqual(loaded, ["urn:two", "urn:three"]);
  assert.match(broken[0] ?? "", /tls\.key/);
});

test("files behind a link that is turned, as Kubernetes does it", async (t) => {
  const [one, two] = [filesOf(tlsMaterial({ uri: "urn:one" })), filesOf(tlsMaterial({ uri: "urn:two" }))];
  const linked = (kind: string): string => join(folder, `linked.${kind}`);
  const files = { certificate: linked("crt"), key: linked("key"), authorities: linked("ca"), denied: "" };
  const turn = (to: TlsFiles): void => {
    for (const kind of ["certificate", "key", "authorities"] as const) {
      symlinkSync(to[kind], `${files[kind]}.new`);
      renameSync(`${files[kind]}.new`, files[kind]);
    }
  };
  turn(one);
  const { loaded } = watchOf(t, files);
  turn(two);
  await settled(() => loaded.length === 1, "the other certificate");
  assert.deepEqual(loaded, ["urn:two"]);
});

test("at once when asked, changed or not", (t) => {
  const files = filesOf(tlsMaterial({ uri: "urn:one" }));
  const { watch, loaded, broken } = watchOf(t, files);
  watch.reload();
  writeFileSync(files.certificate, "nothing");
  watch.reload();
  assert.deepEqual([loaded, broken.length], [["urn:one"], 1]);
});
