/** The models of a node. Method: engines that register again and again, with the same layout and with others; only what the pool's layout is for stays. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PRESETS } from "../../transport/codec/presets.ts";
import { KvferryError } from "../../transport/errors.ts";
import { ModelTable } from "../../transport/ferry/models.ts";
import { Profiles } from "../../transport/ferry/profiles.ts";
import { opaqueLayout } from "../../transport/kv/build.ts";
import { serializeLayout } from "../../transport/kv/parse.ts";
import { limits } from "../../transport/limits.ts";
import { encodeMessage } from "../../transport/peer/messages.ts";
import { layoutOf } from "./pair.ts";
import { counting } from "./profiled.ts";

const identity = (model: string) => ({ model, revision: "", element: "bf16", rope: "", profile: "", extra: "" });
const layouts = [opaqueLayout(64, 2), opaqueLayout(128, 2)].map((layout) => ({ layout, bytes: serializeLayout(layout) }));

const USER = {};

function register(table: ModelTable, model: string, at: number, user: object = USER): number {
  const { layout, bytes } = layouts[at % layouts.length]!;
  return table.register(user, identity(model), layout, bytes, "").model.id;
}

test("the same identity and layout are one model; another layout retires it, and its number is not used again", () => {
  const table = new ModelTable();
  const first = register(table, "m", 0);
  assert.equal(register(table, "m", 0), first);
  const second = register(table, "m", 1);
  assert.notEqual(second, first);
  assert.throws(() => table.get(first), KvferryError);
  const third = register(table, "m", 0);
  assert.ok(third > second);
  assert.deepEqual(
    table.all().map(({ id }) => id),
    [third],
  );
});

test("as many models of one layout as there may be, and then another layout in their place", () => {
  const table = new ModelTable();
  for (let model = 0; model < limits.modelsMax; model++) register(table, `m${model}`, 0);
  assert.throws(
    () => register(table, "one more", 0),
    (error) => error instanceof KvferryError && error.code === "full",
  );
  register(table, "one more", 1);
  assert.equal(table.all().length, 1);
});

test("all models fit into one Hello, however large their layout is", () => {
  const table = new ModelTable();
  const { layout } = layouts[0]!;
  const large = new Uint8Array(limits.layoutJsonBytes);
  let count = 0;
  const one = () => table.register(USER, identity(`m${count++}`), layout, large, "");
  for (let fits = 0; fits < Math.floor(limits.modelsLayoutBytesMax / large.length); fits++) one();
  assert.throws(one, { code: "full" });
  const id = "0".repeat(limits.profileIdCharacters);
  const profiles = Array.from({ length: limits.profilesMax }, () => ({ id, decodeBytesPerSecond: Number.MAX_SAFE_INTEGER }));
  const models = table.all().map(({ fingerprint, layoutBytes }) => ({ fingerprint, layout: layoutBytes, profiles }));
  assert.ok(encodeMessage({ kind: "models", models }).length < limits.controlMessageBytes);
});

test("in a full table the oldest model of which every user has gone makes room", () => {
  const table = new ModelTable();
  const [gone, here] = [{}, {}];
  const ids = Array.from({ length: limits.modelsMax }, (_, model) => register(table, `m${model}`, 0, model < 3 ? gone : here));
  assert.equal(register(table, "m1", 0, here), ids[1]);
  table.leave(gone);
  assert.ok(table.get(ids[0]!), "as long as there is room it stays: what is published under it can be fetched");
  register(table, "next", 0, here);
  assert.throws(() => table.get(ids[0]!), { code: "model_unknown" });
  assert.ok(table.get(ids[1]!), "somebody else has registered it, too");
  register(table, "after that", 0, here);
  assert.throws(() => table.get(ids[2]!), { code: "model_unknown" });
  assert.throws(() => register(table, "one more", 0, here), { code: "full" });
});

test("what was coded for a model that is gone stays counted", () => {
  const profiles = new Profiles({
    ...{ profiles: [{ name: "lossless", profile: PRESETS.get("lossless")!.profile }], calibrations: [], use: "auto", acceptsLossy: false },
    threads: 1,
    newCodec: () => counting({ encodedBytes: 1 }),
  });
  const table = new ModelTable(profiles);
  const counted = (): number => table.codecCounts().get("lossless")?.encodedBytes ?? 0;
  let before = 0;
  for (const blockCount of [16, 17, 16]) {
    const layout = layoutOf(blockCount);
    table.register(USER, identity("m"), layout, serializeLayout(layout), "");
    assert.ok(counted() > before);
    before = counted();
  }
  assert.equal(table.all().length, 1);
});
