/**
 * Profiles between two sidecars, over TLS: what their configuration names is agreed on, moved, counted and shown; what cannot be is said.
 * Method: `kvferry serve` in processes of their own, an engine at each, bf16 values of a few exponents, every byte compared.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { calibrate } from "../../transport/codec/calibrate.ts";
import { writeTensors } from "../../transport/config/tensor-file.ts";
import type { TransferReport } from "../../transport/ferry/ferry.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { plainSource, rotation, ROPE } from "../codec/made.ts";
import { errorOf, fillValues } from "../ferry/profiled.ts";
import { certified, newFleet } from "./fleet.ts";
import {
  BLOCK_BYTES,
  type Engine,
  freePort,
  IDENTITY,
  metricOf,
  openEngine,
  type Sidecar,
  startSidecar,
  statusOf,
  until,
} from "./sidecar.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const COUNT = 40;
const BYTES = COUNT * BLOCK_BYTES;

interface Two {
  readonly folder: string;
  readonly holder: Sidecar;
  readonly asker: Sidecar;
  readonly source: Engine;
  readonly target: Engine;
  /** What the holder said aloud. */
  readonly said: () => string;
}

async function two(
  t: TestContext,
  flags: (folder: string) => { readonly holder: readonly string[]; readonly asker: readonly string[] },
): Promise<Two> {
  const fleet = newFleet(t);
  const { folder } = fleet;
  const ofEach = flags(folder);
  const [a, b] = [await freePort(), await freePort()];
  const secure = (name: string): string[] => certified(fleet, name, `spiffe://fleet/${name}`);
  let said = "";
  const hear = { onLog: (text: string) => void (said += text) };
  const own = ["--log-level", "info", "--rate", "200Mbit", ...ofEach.holder, ...secure("holder")];
  const asks = [
    ...ofEach.asker,
    ...secure("asker"),
    "--peers",
    JSON.stringify([{ name: "holder", address: `127.0.0.1:${a}`, identity: "spiffe://fleet/holder" }]),
  ];
  const [holder, asker] = await Promise.all([
    startSidecar(t, { name: "holder", port: a, folder, flags: own, ...hear }),
    startSidecar(t, { name: "asker", port: b, folder, flags: asks }),
  ]);
  return { folder, holder, asker, source: await openEngine(t, holder), target: await openEngine(t, asker), said: () => said };
}

/** A hand-over of a prompt from its beginning; whether every byte is there. */
async function handOver({ source, target }: Two): Promise<TransferReport & { readonly differ: number; readonly worst: number }> {
  const [from, into] = [await source.ferry.alloc(COUNT), await target.ferry.alloc(COUNT)];
  for (const id of from.ids) fillValues(source.bytesOf(id), id);
  const handle = await source.ferry.offer({ model: source.model, groups: source.groups(from), position: 0 });
  const report = await (await target.ferry.fetch({ peer: "holder", model: target.model, source: { handle }, into: target.groups(into) }))
    .done;
  const floats = (engine: Engine, ids: Uint32Array): Float32Array => {
    const words = [...ids].flatMap((id) => [...new Uint16Array(engine.bytesOf(id).slice().buffer)]);
    return new Float32Array(Uint32Array.from(words, (word) => word << 16).buffer);
  };
  const found = errorOf(floats(source, from.ids), floats(target, into.ids));
  await until(() => source.events.some((event) => event.kind === "offerEnded" && event.handle === handle));
  await source.ferry.free(from);
  await target.ferry.free(into);
  return { ...report, ...found };
}

interface CodecStatus {
  readonly codec: {
    readonly models: readonly {
      readonly profiles: readonly { readonly name: string; readonly encoded_bytes: number; readonly sent_bytes: number }[];
    }[];
  };
  readonly peers: readonly { readonly name: string; readonly sent_coded: { readonly profile: string; readonly reason: string } | null }[];
}

test("a profile that both sidecars name carries KV exactly, in fewer bytes, and metrics and status say so", { skip }, async (t) => {
  const both = ["--codec-profiles", "lossless"];
  const at = await two(t, () => ({ holder: [...both, "--codec-use", "lossless"], asker: both }));
  const report = await handOver(at);
  assert.deepEqual([report.bytes, report.differ, report.lossy], [BYTES, 0, false]);
  assert.ok(report.profile !== "" && report.wireBytes < 0.75 * BYTES, JSON.stringify(report));
  const { holder, asker } = at;
  const way = (direction: string): string => `{direction="${direction}",profile="lossless"}`;
  for (const [socket, direction] of [
    [holder.socket, "out"],
    [asker.socket, "in"],
  ] as const) {
    assert.equal(await metricOf(socket, `kvferry_codec_original_bytes_total${way(direction)}`), BYTES);
    assert.equal(await metricOf(socket, `kvferry_codec_coded_bytes_total${way(direction)}`), report.wireBytes);
    assert.equal(await metricOf(socket, `kvferry_wire_bytes_total{direction="${direction}"}`), report.wireBytes);
    assert.equal(await metricOf(socket, `kvferry_bytes_total{direction="${direction}"}`), BYTES);
  }
  assert.equal(await metricOf(holder.socket, 'kvferry_codec_transfers_total{profile="lossless",reason="fixed"}'), 1);
  const { codec, peers } = await statusOf<CodecStatus>(holder.socket);
  const [profile] = codec.models[0]!.profiles;
  assert.deepEqual([profile!.name, profile!.encoded_bytes, profile!.sent_bytes], ["lossless", BYTES, report.wireBytes]);
  assert.deepEqual(
    peers.map(({ sent_coded }) => sent_coded),
    [{ profile: "lossless", reason: "fixed" }],
  );
});

test("left to themselves they code nothing within a host, and say so once", { skip }, async (t) => {
  const both = ["--codec-profiles", "lossless"];
  const at = await two(t, () => ({ holder: both, asker: both }));
  for (let round = 0; round < 3; round++) {
    const { profile, wireBytes, differ } = await handOver(at);
    assert.deepEqual([profile, wireBytes, differ], ["", BYTES, 0]);
  }
  assert.equal(await metricOf(at.holder.socket, 'kvferry_codec_transfers_total{profile="none",reason="same_host"}'), 3);
  assert.equal(at.said().split("same_host").length, 2, "the reason is logged once");
});

/** Writes a calibration of the engines' model. */
function calibrated(folder: string, name: string, model: string, seed: number): string {
  const path = join(folder, name);
  const shape = { layers: 8, heads: 4, channels: 64, tokens: 64 };
  const sources = [{ ...plainSource(shape, ROPE(64), seed), model }];
  const { shapes, metadata, values } = calibrate({
    sources,
    exempt: 4,
    klt: [],
    sensitivity: undefined,
    rotation,
    onStep: () => undefined,
  });
  writeTensors(path, shapes, metadata, values());
  return path;
}

for (const isSame of [true, false]) {
  test(`a calibrated profile ${isSame ? "comes to a reader that takes what loses something" : "of another calibration is another one"}`, {
    skip,
  }, async (t) => {
    const at = await two(t, (folder) => {
      const [one, other] = [1, 2].map((seed) => calibrated(folder, `${seed}.calibration`, IDENTITY.model, seed)) as [string, string];
      const foreign = calibrated(folder, "foreign.calibration", "another", 3);
      const named = ["--codec-profiles", "cpu-fast", "--codec-calibration"];
      return {
        holder: [...named, `${foreign},${one}`, "--codec-use", "cpu-fast"],
        asker: [...named, isSame ? one : other, "--codec-accept-lossy", "true"],
      };
    });
    const report = await handOver(at);
    assert.equal(report.lossy, isSame);
    if (isSame) assert.ok(report.wireBytes < BYTES / 2 && report.differ > 0 && report.worst < 2, JSON.stringify(report));
    else assert.deepEqual([report.wireBytes, report.differ], [BYTES, 0]);
    assert.equal(at.said().includes("no_common_profile"), !isSame);
  });
}

test("a profile that merges tokens comes to a reader that takes what loses something", { skip }, async (t) => {
  const side = { codec: { kind: "exponent" } };
  const at = await two(t, (folder) => {
    const merged = join(folder, "merged.json");
    writeFileSync(merged, JSON.stringify({ exempt: 0, merge: { kind: "kvmerger", pivot: "key-norm" }, k: side, v: side }));
    const named = ["--codec-profiles", merged];
    return { holder: [...named, "--codec-use", merged], asker: [...named, "--codec-accept-lossy", "true"] };
  });
  const report = await handOver(at);
  assert.ok(report.lossy && report.differ > 0 && report.wireBytes < 0.6 * BYTES, JSON.stringify(report));
});

for (const [what, flags, sentence] of [
  [
    "no calibration for a profile that needs one",
    ["--codec-profiles", "cpu-fast"],
    /Expected a file for codec\.calibration: the profile cpu-fast/,
  ],
  ["a calibration that no profile uses", ["--codec-calibration", "somebody's"], /Expected a profile for codec\.profiles/],
  ["no such profile", ["--codec-profiles", "cpu-slow"], /cpu-slow is none of lossless/],
  ["a profile that is no JSON", ["--codec-profiles", "FOLDER/broken.json"], /codec\.profiles: .*broken\.json/],
  [
    "a profile that merges by the attention that tokens got",
    ["--codec-profiles", "FOLDER/attention.json"],
    /codec\.profiles: .*attention\.json merges by the attention.*key-norm/,
  ],
  ["a calibration that is none", ["--codec-profiles", "cpu-fast", "--codec-calibration", "FOLDER/broken.json"], /codec\.calibration: /],
] as const) {
  test(`a sidecar does not start with ${what}, and says so`, { skip }, async (t) => {
    const { folder } = newFleet(t);
    writeFileSync(join(folder, "broken.json"), "{");
    writeFileSync(join(folder, "attention.json"), JSON.stringify({ merge: { kind: "kvmerger" }, k: {}, v: {} }));
    let said = "";
    const named = flags.map((flag) => flag.replace("FOLDER", folder));
    const options = { name: "alone", port: await freePort(), folder, flags: named, onLog: (text: string) => void (said += text) };
    await assert.rejects(startSidecar(t, options), /it ended with/);
    assert.match(said, sentence);
  });
}
