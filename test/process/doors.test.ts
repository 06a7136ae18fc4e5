/**
 * Who must not come in, at whole sidecars: plain at a door of TLS, TLS at a plain one, another authority's certificate, another's name, a handle that is
 * spent, a peer that is on no list. Method: an asker of each kind, and the codes that its engine hears; the holder counts each, logs a line a second at
 * most, and serves the good one all the while.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { tlsFlags } from "../../bench/wan/certificates.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { type Engine, freePort, metricOf, openEngine, scratchFolder, type Sidecar, startSidecar, statusOf, until } from "./sidecar.ts";
import { ask, assertArrived, moveOnce, offered } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
/** A line a second, as its own clock reads it, which is read a little later than the one that counts. */
const LINE_MS = 950;
const KNOCKS = 60;

const flagsOf = (flags: Readonly<Record<string, string>>): string[] =>
  Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]);

interface Doors {
  readonly folder: string;
  readonly holder: Sidecar;
  readonly source: Engine;
  readonly log: string[];
}

async function doors(t: TestContext, flags: readonly string[]): Promise<Doors> {
  const folder = scratchFolder(t);
  const log: string[] = [];
  const port = await freePort();
  const more = [...flags, "--log-level", "warn", "--log-format", "json"];
  const holder = await startSidecar(t, { name: "holder", port, folder, flags: more, onLog: (text) => log.push(text) });
  return { folder, holder, source: await openEngine(t, holder), log };
}

/** An asker that is not let in: what its engine hears. */
async function refused(t: TestContext, { folder, holder, source }: Doors, name: string, flags: readonly string[]): Promise<string> {
  const asker = await startSidecar(t, { name, port: await freePort(), folder, flags });
  const target = await openEngine(t, asker);
  const { handle } = await offered(source, 1);
  const blocks = await target.ferry.alloc(1);
  const into = target.groups(blocks);
  const transfer = await target.ferry.fetch({
    peer: `127.0.0.1:${holder.port}`,
    model: target.model,
    source: { handle },
    into,
    deadlineMs: 20_000,
  });
  const code = await transfer.done.then(
    () => "",
    (error: { code: string }) => error.code,
  );
  const exited = asker.exited;
  asker.child.kill("SIGKILL");
  await exited;
  return code;
}

/** Times of the lines that begin with a word, in ms. */
function told({ log }: Doors, word: string): number[] {
  const lines = log
    .join("")
    .split("\n")
    .filter((line) => line.includes(`"msg":"${word}`));
  return lines.map((line) => Date.parse((JSON.parse(line) as { time: string }).time));
}

function assertSeldom(times: readonly number[]): void {
  assert.ok(times.length > 0, "it was told");
  times.slice(1).forEach((at, index) => assert.ok(at - (times[index] as number) >= LINE_MS, `lines at ${times.join(", ")}`));
}

test("at a door of TLS: plain, another authority, another name, a spent handle", { skip }, async (t) => {
  const own = flagsOf(tlsFlags(["127.0.0.1"]));
  const at = await doors(t, own);
  const good = await startSidecar(t, {
    name: "good",
    port: await freePort(),
    folder: at.folder,
    flags: [...own, "--peers", `holder=127.0.0.1:${at.holder.port}`],
  });
  const target = await openEngine(t, good);
  await moveOnce(at.source, target);

  const refusals = async (reason: string): Promise<number> => (await statusOf(at.holder.socket)).refusals[reason] ?? 0;
  assert.equal(await refused(t, at, "plain", []), "tls_failed");
  assert.ok((await refusals("plain")) > 0);
  assert.equal(await refused(t, at, "other", flagsOf(tlsFlags(["127.0.0.1"]))), "certificate_rejected");
  assert.ok((await refusals("handshake")) + (await refusals("unknown_ca")) > 0);
  const config = join(at.folder, "named.json");
  const peers = [{ name: "holder", address: `127.0.0.1:${at.holder.port}`, identity: "urn:kvferry:another" }];
  writeFileSync(config, JSON.stringify({ peers }), { mode: 0o600 });
  assert.equal(await refused(t, at, "named", [...own, "--config", config]), "certificate_rejected");

  const first = await ask(at.source, target, "holder", 2);
  await first.transfer.done;
  assertArrived(target, first.blocks, first.copies);
  const { handle } = await offered(at.source, 2);
  for (const expected of ["", "handle_unknown", "handle_unknown"]) {
    const into = target.groups(first.blocks);
    const { done } = await target.ferry.fetch({ peer: "holder", model: target.model, source: { handle }, into });
    const code = await done.then(
      () => "",
      (error: { code: string }) => error.code,
    );
    assert.equal(code, expected);
  }
  assert.equal(await metricOf(at.holder.socket, 'kvferry_denials_total{what="fetch",code="handle_unknown"}'), 2);
  assertSeldom(told(at, "REFUSED"));

  for (let count = 0; count < KNOCKS; count++)
    connect({ host: "127.0.0.1", port: at.holder.port })
      .on("error", () => {})
      .end("what is this?");
  await until(async () => (await refusals("garbage")) >= KNOCKS);
  assertSeldom(told(at, "REFUSED"));
  await moveOnce(at.source, target);
});

test("at a plain door: TLS, and who is on no list", { skip }, async (t) => {
  const at = await doors(t, ["--allow", "10.0.0.0/8"]);
  assert.equal(await refused(t, at, "tls", flagsOf(tlsFlags(["127.0.0.1"]))), "tls_failed");
  assert.ok(((await statusOf(at.holder.socket)).refusals["tls"] ?? 0) > 0);
  assert.equal(await refused(t, at, "unlisted", []), "peer_not_allowed");
  assert.ok((await metricOf(at.holder.socket, 'kvferry_denials_total{what="hello",code="peer_not_allowed"}')) > 0);
  assertSeldom(told(at, "REFUSED"));
});
