/**
 * Tenants: two sidecars that serve two of them each, over TLS, and a third that claims what it may not.
 * Method: `kvferry serve --policy` in processes of their own, an engine for each tenant at each; what is allowed moves bytes that are compared, what is not
 * is refused, in the same words whether it is there or not, and counted.
 */
import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { connect } from "../../transport/api/client.ts";
import type { FetchSource } from "../../transport/ferry/ferry.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import {
  certified,
  FLEET,
  type Fleet,
  type FleetStatus,
  newFleet,
  newWire,
  PUBLIC,
  serve,
  type Served,
  socketOf,
  TENANTS,
  type TenantStatus,
  type Wire,
  writePolicy,
} from "./fleet.ts";
import {
  BLOCK_BYTES,
  BLOCK_TOKENS,
  type Engine,
  freePort,
  IDENTITY,
  openEngine,
  processLayout,
  startSidecar,
  statusOf,
  until,
} from "./sidecar.ts";
import { assertArrived, BLOCKS, filled } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const COUNT = 4;
const TOKENS = COUNT * BLOCK_TOKENS;

interface Offered {
  readonly handle: string;
  readonly copies: readonly Buffer[];
}

/** Of an engine's own model, or of one that it registers in a namespace. */
async function offer(source: Engine, namespace = "", peers?: readonly string[], count = COUNT): Promise<Offered> {
  const { blocks, copies } = await filled(source, count);
  const { blockCount } = await source.ferry.pool();
  const { model } = await source.ferry.registerModel(IDENTITY, processLayout(blockCount), namespace);
  const handle = await source.ferry.offer({ model, groups: source.groups(blocks), ...(peers === undefined ? {} : { peers }) });
  return { handle, copies };
}

async function publish(source: Engine, namespace: string, from: number): Promise<Offered & { readonly keys: Uint8Array }> {
  const { blocks, copies } = await filled(source, COUNT);
  const { blockCount } = await source.ferry.pool();
  const { model } = await source.ferry.registerModel(IDENTITY, processLayout(blockCount), namespace);
  const keys = await source.ferry.keys(
    model,
    0,
    Uint32Array.from({ length: TOKENS }, (_, index) => from + index),
  );
  await source.ferry.publish(model, 0, blocks, keys);
  return { handle: "", copies, keys };
}

/** Fetches, and compares if it is said what should come; else gives the refusal's words. */
async function fetched(target: Engine, peer: string, source: FetchSource, copies?: readonly Buffer[]): Promise<string> {
  const blocks = await target.ferry.alloc(COUNT);
  try {
    const transfer = await target.ferry.fetch({ peer, model: target.model, source, into: target.groups(blocks), deadlineMs: 30_000 });
    await transfer.done;
    if (copies !== undefined) assertArrived(target, blocks, copies);
    return "arrived";
  } catch (error) {
    const { code, message } = error as Error & { code: string };
    assert.equal(typeof code, "string", String(error));
    return `${code} | ${message}`;
  } finally {
    await target.ferry.free(blocks);
  }
}

const refusals = async ({ sidecar }: Served): Promise<Readonly<Record<string, number>>> =>
  (await statusOf<FleetStatus>(sidecar.socket)).refusals;

test("two tenants, two sidecars", { skip }, async (t) => {
  const fleet = newFleet(t);
  const holder = await serve(t, fleet, "holder");
  const wire = await newWire(t, holder.sidecar.port);
  const asker = await serve(t, fleet, "asker", ["--peers", `holder=127.0.0.1:${wire.port}`]);
  await t.test("each moves its own", () => own(holder, asker));
  await t.test("a transfer of the second of them goes on over another connection", () => resumed(holder, asker, wire));
  await t.test("what a rule opens is fetched, looked up and no more", () => shared(holder, asker));
  await t.test("what no rule opens is refused in words that tell nothing", () => closed(holder, asker));
  await t.test("buffers are read across tenants by their namespace, and not written", () => buffers(holder, asker));
  await t.test("a handle for one peer is nobody else's", () => bound(holder, asker));
  await t.test("pools, sockets and rates are apart", () => apart(fleet, holder, asker));
  await t.test("who claims another's tenant is refused, counted, and served nothing", () => claimed(t, fleet, holder));
  await t.test("another policy holds without a restart", () => changed(fleet, holder, asker));
  await t.test("a handle is spent once, and of one start", () => replayed(holder, asker));
});

async function own(holder: Served, asker: Served): Promise<void> {
  for (const tenant of TENANTS) {
    const { handle, copies } = await offer(holder[tenant]);
    assert.equal(await fetched(asker[tenant], "holder", { handle }, copies), "arrived");
  }
}

async function resumed(holder: Served, asker: Served, wire: Wire): Promise<void> {
  const { ferry, model, groups, events } = asker.green;
  const { handle, copies } = await offer(holder.green, "", undefined, BLOCKS);
  const blocks = await ferry.alloc(BLOCKS);
  const received = async (): Promise<number> => (await statusOf<FleetStatus>(asker.sidecar.socket)).tenants[1]?.bytes_received ?? 0;
  const before = await received();
  const { done, transfer } = await ferry.fetch({ peer: "holder", model, source: { handle }, into: groups(blocks), deadlineMs: 30_000 });
  await until(async () => (await received()) - before > 0.3 * BLOCKS * BLOCK_BYTES);
  wire.isCut = true;
  await until(() => events.some((event) => event.kind === "stalled" && event.transfer === transfer));
  wire.isCut = false;
  const report = await done;
  assert.ok(report.resumed >= 1, `resumed ${report.resumed} times`);
  assertArrived(asker.green, blocks, copies);
  await ferry.free(blocks);
}

async function shared(holder: Served, asker: Served): Promise<void> {
  const { handle, copies } = await offer(holder.blue, "public/day");
  assert.equal(await fetched(asker.green, "blue@holder", { handle }, copies), "arrived");
  const [open, hidden] = [await publish(holder.blue, "public/day", 0), await publish(holder.blue, "private", 1_000)];
  const source = (keys: Uint8Array): FetchSource => ({ keys, group: 0, tokens: TOKENS });
  assert.equal(await fetched(asker.green, "blue@holder", source(open.keys), open.copies), "arrived");
  // Blocks are known by the namespace in which they were published, not by the model that is asked for, which both share.
  const never = await asker.green.ferry.keys(
    asker.green.model,
    0,
    Uint32Array.from({ length: TOKENS }, (_, index) => 9_000 + index),
  );
  const absent = await fetched(asker.green, "blue@holder", source(never));
  assert.equal(await fetched(asker.green, "blue@holder", source(hidden.keys)), absent);
  assert.match(absent, /^key_not_found/);
  const matched = async (engine: Engine, keys: Uint8Array, peer: string): Promise<number | undefined> =>
    (await engine.ferry.lookup(engine.model, 0, keys, [peer])).find((place) => place.peer === peer)?.matched;
  assert.equal(await matched(asker.green, open.keys, "blue@holder"), COUNT);
  assert.equal(await matched(asker.green, hidden.keys, "blue@holder"), 0);
  assert.equal(await matched(asker.green, open.keys, "holder"), 0);
  assert.equal(await matched(asker.blue, hidden.keys, "holder"), COUNT);
}

async function closed(holder: Served, asker: Served): Promise<void> {
  const before = await refusals(holder);
  const secret = await offer(holder.blue, "private");
  const unknown = `${secret.handle.slice(0, 9)}${"0".repeat(32)}`;
  const denied = await fetched(asker.green, "blue@holder", { handle: secret.handle });
  assert.equal(denied, await fetched(asker.green, "blue@holder", { handle: unknown }));
  assert.match(denied, /^handle_unknown/);
  const greens = await offer(holder.green, "public/green");
  const noRule = await fetched(asker.blue, "green@holder", { handle: greens.handle });
  assert.match(noRule, /^tenant_denied/);
  assert.equal(noRule, await fetched(asker.blue, "green@holder", { handle: `${greens.handle.slice(0, 9)}${"0".repeat(32)}` }));
  assert.equal(
    noRule.replaceAll("green", "X"),
    (await fetched(asker.blue, "nobody@holder", { handle: greens.handle })).replaceAll("nobody", "X"),
  );
  const [place] = (await asker.blue.ferry.lookup(asker.blue.model, 0, new Uint8Array(32), ["green@holder"])).slice(1);
  assert.equal(place?.code, "tenant_denied");
  const { blocks } = await filled(asker.green, 1);
  const keys = await asker.green.ferry.keys(asker.green.model, 0, new Uint32Array(BLOCK_TOKENS));
  const push = { peer: "blue@holder", model: asker.green.model, group: 0, blocks, tokens: BLOCK_TOKENS, keys };
  await assert.rejects(asker.green.ferry.push(push), { code: "tenant_denied" });
  await asker.green.ferry.free(blocks);
  // The owner's peers find all of it in place.
  assert.equal(await fetched(asker.blue, "holder", { handle: secret.handle }, secret.copies), "arrived");
  assert.equal(await fetched(asker.green, "holder", { handle: greens.handle }, greens.copies), "arrived");
  const after = await refusals(holder);
  assert.deepEqual(
    ["namespace", "handle", "no_rule"].map((cause) => (after[cause] ?? 0) - (before[cause] ?? 0)),
    [1, 1, 4],
  );
}

async function buffers(holder: Served, asker: Served): Promise<void> {
  const [open, hidden] = [await holder.blue.ferry.createBuffer(4_096, "public/b"), await holder.blue.ferry.createBuffer(4_096, "private")];
  const mine = await asker.green.ferry.createBuffer(4_096);
  open.region.view.fill(7);
  hidden.region.view.fill(9);
  const read = async (remote: string, peer = "blue@holder"): Promise<string> => {
    const ranges = [{ local: 0, remote: 0, bytes: 4_096 }];
    const request = { peer, remote, local: mine.handle, ranges };
    return asker.green.ferry.read(request).then(({ done }) =>
      done.then(
        () => "arrived",
        (error: Error) => error.message,
      ),
    );
  };
  assert.equal(await read(hidden.handle), await read(`${hidden.handle.slice(0, 9)}${"0".repeat(32)}`));
  assert.ok(mine.region.view.every((byte) => byte === 0));
  assert.equal(await read(open.handle), "arrived");
  assert.ok(mine.region.view.every((byte) => byte === 7));
  const write = { peer: "blue@holder", remote: open.handle, local: mine.handle, ranges: [{ local: 0, remote: 0, bytes: 1 }] };
  await assert.rejects(asker.green.ferry.write(write), { code: "tenant_denied" });
  for (const buffer of [open, hidden, mine]) await buffer.close();
}

async function bound(holder: Served, asker: Served): Promise<void> {
  const before = await refusals(holder);
  const others = await offer(holder.blue, "", ["spiffe://fleet/another"]);
  const mine = await offer(holder.blue, "", ["spiffe://fleet/another", "spiffe://fleet/asker"]);
  assert.match(await fetched(asker.blue, "holder", { handle: others.handle }), /^handle_unknown/);
  assert.equal(await fetched(asker.blue, "holder", { handle: mine.handle }, mine.copies), "arrived");
  assert.equal((await refusals(holder))["reader"], (before["reader"] ?? 0) + 1);
}

async function apart({ folder }: Fleet, holder: Served, asker: Served): Promise<void> {
  const held = async (): Promise<readonly (number | undefined)[]> =>
    (await statusOf<FleetStatus>(asker.sidecar.socket)).tenants.map(({ pool }) => pool["held"]);
  const [blue, green] = await held();
  const blocks = await asker.blue.ferry.alloc(7);
  assert.deepEqual(await held(), [(blue ?? 0) + 7, green]);
  await assert.rejects(asker.green.ferry.free(blocks));
  await asker.blue.ferry.free(blocks);
  assert.notEqual((await asker.blue.ferry.pool()).path, (await asker.green.ferry.pool()).path);
  await assert.rejects(connect(asker.sidecar.socket, { client: "lost" }), { code: "tenant_denied" });
  const mine = await statusOf<Partial<FleetStatus> & Partial<TenantStatus>>(socketOf(folder, "asker", "blue"));
  assert.deepEqual([mine.tenant, mine.tenants, mine.refusals?.["plain"]], ["blue", undefined, undefined]);
  const paces = (await statusOf<FleetStatus>(holder.sidecar.socket)).tenants.map(({ peers }) => peers[0]?.path.pace.reason);
  assert.deepEqual(paces, ["no cap", "the tenant's cap, shared by 1 peers"]);
}

async function claimed(t: TestContext, fleet: Fleet, holder: Served): Promise<void> {
  const before = await refusals(holder);
  const { handle } = await offer(holder.green);
  // Its own policy says what it likes; the holder's does not know its certificate.
  const policy = writePolicy(fleet.folder, "stray", [], ["*"]);
  const flags = [
    "--policy",
    policy,
    ...certified(fleet, "stray", "spiffe://elsewhere/stray"),
    "--peers",
    `holder=127.0.0.1:${holder.sidecar.port}`,
  ];
  await startSidecar(t, { name: "stray", port: await freePort(), folder: fleet.folder, flags });
  const stray = await openEngine(t, { socket: socketOf(fleet.folder, "stray", "green") });
  assert.match(await fetched(stray, "holder", { handle }), /^tenant_denied/);
  assert.ok(((await refusals(holder))["wrong_tenant"] ?? 0) > (before["wrong_tenant"] ?? 0));
}

async function changed({ folder }: Fleet, holder: Served, asker: Served): Promise<void> {
  const { handle, copies } = await offer(holder.blue, "public/night");
  writePolicy(folder, "holder", [], FLEET);
  holder.sidecar.child.kill("SIGHUP");
  await until(async () =>
    (await fetched(asker.green, "blue@holder", { handle: `${handle.slice(0, 9)}${"0".repeat(32)}` })).startsWith("tenant_denied"),
  );
  assert.match(await fetched(asker.green, "blue@holder", { handle }), /^tenant_denied/);
  writePolicy(folder, "holder", PUBLIC, FLEET);
  holder.sidecar.child.kill("SIGHUP");
  await until(async () =>
    (await fetched(asker.green, "blue@holder", { handle: `${handle.slice(0, 9)}${"0".repeat(32)}` })).startsWith("handle_unknown"),
  );
  assert.equal(await fetched(asker.green, "blue@holder", { handle }, copies), "arrived");
  // Who may not speak for the tenant any more loses the connection that it has.
  const last = await offer(holder.green);
  writePolicy(folder, "holder", PUBLIC, ["spiffe://fleet/holder"]);
  holder.sidecar.child.kill("SIGHUP");
  await until(async () => (await statusOf<FleetStatus>(holder.sidecar.socket)).tenants.every(({ peers }) => peers.every(({ up }) => !up)));
  assert.match(await fetched(asker.green, "holder", { handle: last.handle }), /^tenant_denied/);
  writePolicy(folder, "holder", PUBLIC, FLEET);
  holder.sidecar.child.kill("SIGHUP");
  await until(async () => (await fetched(asker.green, "holder", { handle: last.handle }, last.copies)) === "arrived");
}

async function replayed(holder: Served, asker: Served): Promise<void> {
  const { handle, copies } = await offer(holder.green);
  assert.equal(await fetched(asker.green, "holder", { handle }, copies), "arrived");
  const before = await refusals(holder);
  assert.match(await fetched(asker.green, "holder", { handle }), /^handle_unknown/);
  // Another tenant's peers have no use for it either: its incarnation is not that of their pool.
  assert.match(await fetched(asker.blue, "holder", { handle }), /^incarnation_mismatch/);
  assert.equal((await refusals(holder))["handle"], (before["handle"] ?? 0) + 2);
  const kept = await offer(holder.green);
  await holder.restart();
  assert.match(await fetched(asker.green, "holder", { handle: kept.handle }), /^incarnation_mismatch/);
  assert.equal((await refusals(holder))["handle"], 1);
}
