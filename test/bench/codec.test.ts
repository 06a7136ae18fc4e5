/**
 * kvferry bench --profile. Method: the command as users run it, on small dumps made here: two sidecars, prompts that move between them, and a document that is
 * parsed by the schema and whose numbers are held against each other; then what is wrong with files and flags, in one line.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { benchDocument, type BenchDocument } from "../../bench/document.ts";
import { writeHead } from "../../transport/codec/safetensors.ts";
import { native } from "../../transport/native.ts";
import { madeDump } from "../codec/made.ts";
import { kvferry } from "../cli/spawn.ts";

const skip = native === undefined && "the addon is not built";
const folder = mkdtempSync(join(tmpdir(), "kvferry-bench-codec-"));
after(() => rmSync(folder, { recursive: true }));

const SHAPE = { layers: 6, heads: 2, channels: 64, tokens: 300 };
const METADATA = { model: "made", rope_theta: "10000", rope_pairing: "half" };
const PROMPT_BYTES = SHAPE.layers * 2 * SHAPE.heads * SHAPE.channels * SHAPE.tokens * 2;

function file(name: string, bytes: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const dumps = [1, 2].map((seed) => file(`${seed}.safetensors`, madeDump(seed, SHAPE, METADATA)));
const calibrated = kvferry(["codec", "calibrate", dumps[0]!, "--out", join(folder, "cal.safetensors")]);

async function bench(args: readonly string[]): Promise<BenchDocument> {
  const ran = await kvferry(["bench", "--json", "--iters", "4", ...args]);
  assert.equal(ran.code, 0, `${ran.stderr}${ran.stdout}`);
  return benchDocument.parse(JSON.parse(ran.stdout));
}

test("without a profile every byte arrives as it is; with a lossless one too, in fewer bytes on the wire", { skip }, async () => {
  for (const profile of ["none", "lossless"]) {
    const { results, start } = await bench(["--data", `kv:${dumps.join()}`, "--profile", profile, "--layout-remote", "hnd32"]);
    const [{ codec, ...result }] = results as [BenchDocument["results"][number]];
    assert.deepEqual([start.test_start.compression, result.level, result.model, result.tokens], [profile, "engine", "made", SHAPE.tokens]);
    assert.deepEqual([result.iterations, result.request_bytes, result.bytes], [4, PROMPT_BYTES, 4 * PROMPT_BYTES]);
    assert.deepEqual([result.n_wrong, result.verified_bytes, result.okay], [0, 2 * PROMPT_BYTES, true]);
    assert.deepEqual(codec!.used, { [profile]: 4 });
    assert.deepEqual(codec!.error, { k: 0, v: 0, largest: 0 });
    assert.ok(Math.abs(codec!.ratio - result.bytes / result.wire_bytes!) < 1e-9);
    assert.ok(
      profile === "none" ? codec!.ratio === 1 && codec!.id === "" : codec!.ratio > 1.2 && codec!.id !== "",
      `ratio ${codec!.ratio}`,
    );
    // Without profiles nobody has anything to choose.
    assert.deepEqual(codec!.reasons, profile === "none" ? {} : { fixed: 4 });
  }
});

test("what loses something comes as near as its codec alone would bring it, with a calibration of the model too", { skip }, async () => {
  assert.equal((await calibrated).code, 0, (await calibrated).stderr);
  for (const [profile, least, more] of [
    ["int8", 1.8, []],
    ["cpu-fast", 3, ["--calibration", join(folder, "cal.safetensors")]],
  ] as const) {
    const { results } = await bench(["--data", `kv:${dumps[1]}`, "--profile", profile, ...more]);
    const { codec, n_wrong: wrong } = results[0]!;
    assert.ok(wrong === 0 && codec!.ratio > least, `${profile}: ratio ${codec!.ratio}, ${wrong} wrong`);
    assert.ok(codec!.error!.k > 0 && codec!.error!.k < 0.3 && codec!.error!.v > 0 && codec!.error!.v < 0.3, JSON.stringify(codec!.error));
  }
});

test("people read a table: the ratio, the rate of KV and that of the wire, and why", { skip }, async () => {
  const { stdout, code } = await kvferry(["bench", "--iters", "1", "--data", `kv:${dumps[0]}`, "--profile", "auto"]);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /^Profile +Prompts +Bytes +Ratio +KV\(Gb\/s\) +Wire\(Gb\/s\)/m);
  assert.match(stdout, /^auto +1 /m);
  assert.match(stdout, /why: \w+ 1/);
});

test("files and flags that make no sense are refused in a line", async () => {
  const cut = file("cut.safetensors", madeDump(3, SHAPE, METADATA).subarray(0, 100_000));
  const floats = writeHead([{ name: "kv", dtype: "F32", shape: [1, 2, 1, 1, 2] }], METADATA);
  const other = file("other.safetensors", madeDump(4, { ...SHAPE, layers: 4 }, METADATA));
  const good = ["--data", `kv:${dumps[0]}`];
  const wrong: readonly (readonly [readonly string[], RegExp])[] = [
    [["--profile", "lossless"], /--profile needs real KV/],
    [[...good, "--profile", "nothing"], /nothing is none of .*lossless/],
    [[...good, "--profile", "cpu-fast"], /needs the --calibration/],
    [[...good, "--calibration", "x"], /--calibration goes with --profile/],
    [[...good, "--profile", "cpu-fast", "--calibration", join(folder, "none")], /no such file/],
    [[...good, "--profile", "lossless", "-c", "127.0.0.1"], /--client excludes --profile/],
    [[...good, "--profile", "lossless", "--bidir"], /--bidir excludes --profile/],
    [[...good, "--profile", "lossless", "--tokens", "301"], /at least 301 tokens/],
    [["--data", `kv:${join(folder, "none.safetensors")}`, "--profile", "none"], /no such file/],
    [["--data", `kv:${cut}`, "--profile", "none"], /cut\.safetensors/],
    [["--data", `kv:${file("f32.safetensors", Buffer.concat([floats, Buffer.alloc(16)]))}`, "--profile", "none"], /BF16.*dtype of kv/],
    [["--data", `kv:${dumps[0]},${other}`, "--profile", "none"], /model of .*other\.safetensors/],
    [["--data", `kv:${dumps[0]},`, "--profile", "none"], /kv:FILE/],
    [["--data", `kv:${dumps.join()}`], /several files with --profile/],
  ];
  for (const [args, sentence] of wrong) {
    const { code, stderr } = await kvferry(["bench", ...args]);
    assert.equal(code, 2, args.join(" "));
    assert.match(stderr, sentence);
    // What is wrong; and of flags, where to read about them.
    assert.match(stderr.trim().replace(/\n *See --help .*$/, ""), /^kvferry: .*$/);
  }
});

test("a profile that no sidecar takes is their refusal, and no fault of kvferry's", { skip }, async () => {
  const side = { quantizer: { kind: "none" }, codec: { kind: "exponent" } };
  const profile = file(
    "attention.json",
    Buffer.from(JSON.stringify({ merge: { kind: "kvmerger", pivot: "attention" }, k: side, v: side })),
  );
  const { code, stderr } = await kvferry(["bench", "--data", `kv:${dumps[0]}`, "--profile", profile]);
  assert.equal(code, 2, stderr);
  assert.match(stderr, /merges by the attention that tokens got[^]*the sidecar "\w+" ended with exit code 2: it says why above/);
});
