/**
 * Peers that refuse, say nothing, or are something else; peers that die or freeze beside one that is well.
 * Method: real sidecars and bare listeners behind the peers of one asker. Every transfer with a bad one ends with its own code before its deadline
 * would end it, and transfers with the good one go on meanwhile.
 */
import assert from "node:assert/strict";
import { createServer, type Socket } from "node:net";
import test, { type TestContext } from "node:test";
import { createJsLink } from "../../transport/link/js.ts";
import type { Link } from "../../transport/link/link.ts";
import { limits } from "../../transport/limits.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { encodeMessage, type Hello } from "../../transport/peer/messages.ts";
import { type Engine, freePort, openEngine, scratchFolder, type Sidecar, startSidecar, statusOf, until } from "./sidecar.ts";
import { ask, assertArrived, BLOCKS, hasStalled, moveOnce, received } from "./stage.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;

/** A listener that does to each connection what it is told. */
async function listener(t: TestContext, meet: (socket: Socket) => void): Promise<number> {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on("error", () => {}));
    meet(socket);
  });
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as { port: number }).port;
}

/** A peer of a later version, which does not speak this one any more. */
async function laterVersion(t: TestContext): Promise<number> {
  const hello: Hello = {
    kind: "hello",
    version: limits.protocolVersion + 2,
    minVersion: limits.protocolVersion + 1,
    node: "later",
    name: "later",
    software: "test",
    advertise: "",
    capabilities: [],
    chunkBytesMax: limits.chunkBytesMax,
    lanesMax: 4,
    laneToken: new Uint8Array(16),
    secret: "",
    resumeNode: "",
    conversation: 1,
    tenant: "",
    models: [],
  };
  const link: Link = createJsLink({ onWake: () => setImmediate(answer) });
  const answer = (): void => {
    link.poll((event) => {
      if (event.kind === "message") link.send(event.connection, encodeMessage(hello));
    }, 1_000);
  };
  t.after(() => link.close());
  return (await link.listen({ host: "127.0.0.1", port: 0 })).port;
}

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => "",
    (error: { code?: string }) => error.code ?? String(error),
  );

test("peers that refuse, are silent or speak something else: a code for each, and the good one is served", { skip }, async (t) => {
  const folder = scratchFolder(t);
  const [good, strict, secret, own] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const ports = {
    good,
    strict,
    secret,
    later: await laterVersion(t),
    silent: await listener(t, (socket) => socket.resume()),
    other: await listener(t, (socket) => socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")),
    gone: await freePort(),
  };
  const peers = Object.entries(ports).map(([name, port]) => `${name}=127.0.0.1:${port}`);
  const [holder, asker] = await Promise.all([
    startSidecar(t, { name: "good", port: good, folder }),
    startSidecar(t, { name: "asker", port: own, folder, flags: ["--peers", peers.join()] }),
    startSidecar(t, { name: "strict", port: strict, folder, flags: ["--allow", "10.0.0.0/8"] }),
    startSidecar(t, { name: "secret", port: secret, folder, flags: ["--secret", "one that the asker has not"] }),
  ]);
  const target = await openEngine(t, asker);
  const source = await openEngine(t, holder);
  const expected: Readonly<Record<string, string>> = {
    strict: "peer_not_allowed",
    secret: "peer_not_allowed",
    later: "version_unsupported",
    silent: "peer_silent",
    other: "protocol_error",
    gone: "connect_failed",
  };
  const into = await target.ferry.alloc(Object.keys(expected).length);
  const failing = Object.keys(expected).map(async (peer, index) => {
    const blocks = { ids: into.ids.subarray(index, index + 1), generations: into.generations.subarray(index, index + 1) };
    const handle = `01234567-${"0".repeat(32)}`;
    const request = { peer, model: target.model, source: { handle }, into: target.groups(blocks), deadlineMs: 25_000 };
    return [peer, await codeOf(target.ferry.fetch(request).then(({ done }) => done))] as const;
  });
  await moveOnce(source, target, "good");
  assert.deepEqual(Object.fromEntries(await Promise.all(failing)), expected);
  await target.ferry.free(into);
  await moveOnce(source, target, "good");
  const places = await target.ferry.lookup(target.model, 0, new Uint8Array(32), ["nobody", ...Object.keys(ports)]);
  const answers = Object.fromEntries(places.map(({ peer, code }) => [peer, code]));
  assert.deepEqual(
    { here: answers[""], good: answers["good"], nobody: answers["nobody"] },
    { here: "", good: "", nobody: "peer_not_allowed" },
  );
  for (const peer of Object.keys(expected)) assert.notEqual(answers[peer], "", `${peer} gave no answer, and that is said`);
  assert.equal((await statusOf(asker.socket)).pool["pinned"], 0);
});

interface Three {
  readonly a: Sidecar;
  readonly asker: Sidecar;
  readonly ofA: Engine;
  readonly ofB: Engine;
  readonly target: Engine;
}

async function three(t: TestContext): Promise<Three> {
  const folder = scratchFolder(t);
  const [a, b, own] = await Promise.all([freePort(), freePort(), freePort()]);
  const slow = ["--rate", "50Mbit"];
  const [first, second, asker] = await Promise.all([
    startSidecar(t, { name: "a", port: a, folder, flags: slow }),
    startSidecar(t, { name: "b", port: b, folder, flags: slow }),
    startSidecar(t, { name: "asker", port: own, folder, flags: ["--peers", `a=127.0.0.1:${a},b=127.0.0.1:${b}`] }),
  ]);
  const [ofA, ofB, target] = [await openEngine(t, first), await openEngine(t, second), await openEngine(t, asker)];
  return { a: first, asker, ofA, ofB, target };
}

for (const [signal, what, code] of [
  ["SIGSTOP", "freezes", /^deadline_exceeded$/],
  ["SIGKILL", "is killed", /^(deadline_exceeded|connect_failed)$/],
] as const) {
  test(`a peer that ${what} in the middle takes nothing from transfers with another one`, { skip }, async (t) => {
    const { a, asker, ofA, ofB, target } = await three(t);
    const hit = await ask(ofA, target, "a", BLOCKS, 12_000);
    const beside = await ask(ofB, target, "b", BLOCKS);
    let isOver = false;
    hit.transfer.done.catch(() => {}).finally(() => (isOver = true));
    await until(async () => (await received(asker)) > 0);
    a.child.kill(signal);
    t.after(() => a.child.kill("SIGCONT"));
    const report = await beside.transfer.done;
    assert.deepEqual([report.resumed, report.retries], [0, 0]);
    assertArrived(target, beside.blocks, beside.copies);
    await target.ferry.free(beside.blocks);
    await until(() => hasStalled(target, hit));
    await moveOnce(ofB, target, "b");
    assert.equal(isOver, false, "the one that was hit waited meanwhile");
    assert.match(await codeOf(hit.transfer.done), code);
    await target.ferry.free(hit.blocks);
    await moveOnce(ofB, target, "b");
  });
}
