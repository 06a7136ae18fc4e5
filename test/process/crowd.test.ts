/**
 * Hundreds of strangers at a sidecar's port, who say nothing, garbage, half a preamble, half a handshake, or a byte a second, plain and over TLS.
 * Method: they come from a process of their own and twenty addresses, once each; who is not sent away stays until the sidecar's clock lets it go. Transfers
 * with the peer that was there before, and with one that comes meanwhile, are compared byte by byte; afterwards nothing is left of the crowd.
 */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import test from "node:test";
import { HeldCrowd } from "../../bench/hostile-crowd.ts";
import { tlsFlags } from "../../bench/wan/certificates.ts";
import { limits } from "../../transport/limits.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { freePort, openEngine, scratchFolder, startSidecar, statusOf, until } from "./sidecar.ts";
import { moveOnce } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const COUNT = 700;
/** Buffers of a TLS handshake for as many as may be there, and what Node itself grows by. */
const MEMORY_BYTES = 96 * 2 ** 20;
const DESCRIPTORS = limits.greetingsMax + 64;

for (const kind of ["plain", "TLS"]) {
  test(`a crowd of strangers, ${kind}: bounded, sent away, and the good ones are served`, { skip }, async (t) => {
    const tls = kind === "TLS" ? Object.entries(tlsFlags(["127.0.0.1"])).flatMap(([name, value]) => [`--${name}`, value]) : [];
    const folder = scratchFolder(t);
    const [at, own, late] = [await freePort(), await freePort(), await freePort()];
    const flags = [...tls, "--peers", `holder=127.0.0.1:${at}`];
    const [holder, asker] = await Promise.all([
      startSidecar(t, { name: "holder", port: at, folder, flags: tls }),
      startSidecar(t, { name: "asker", port: own, folder, flags }),
    ]);
    const [source, target] = [await openEngine(t, holder), await openEngine(t, asker)];
    await moveOnce(source, target);
    const descriptors = (): number => readdirSync(`/proc/${holder.child.pid}/fd`).length;
    const before = { descriptors: descriptors(), bytes: (await statusOf(holder.socket)).resident_bytes };

    const crowd = HeldCrowd.start({ port: at, count: COUNT, ratePerSecond: 1_000, sources: 20, redialMs: 600_000 });
    t.after(() => crowd.end());
    await crowd.until(({ dialled }) => dialled === COUNT);
    const most = { descriptors: descriptors(), bytes: (await statusOf(holder.socket)).resident_bytes };
    await moveOnce(source, target);
    const newcomer = await openEngine(t, await startSidecar(t, { name: "late", port: late, folder, flags }));
    await moveOnce(source, newcomer);
    assert.ok(most.descriptors <= before.descriptors + DESCRIPTORS, `${most.descriptors} descriptors, ${before.descriptors} before`);
    assert.ok(most.bytes <= before.bytes + MEMORY_BYTES, `${most.bytes} bytes resident, ${before.bytes} before`);

    await crowd.until(({ open }) => open === 0);
    const { refusals } = await statusOf(holder.socket);
    for (const reason of ["garbage", "full", "timeout"]) assert.ok((refusals[reason] ?? 0) > 0, `${reason}: ${JSON.stringify(refusals)}`);
    assert.ok(Object.values(refusals).reduce((sum, count) => sum + count) >= COUNT, "everybody who was sent away is counted");
    await moveOnce(source, target);
    // The newcomer's connection stays.
    await until(() => descriptors() <= before.descriptors + 32);
  });
}
