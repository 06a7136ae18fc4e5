/**
 * One link for several users. Method: a fake link behind two views, spoken to by another; each event must come to one view, once, and in order.
 */
import assert from "node:assert/strict";
import test from "node:test";
import { createFakeLink } from "../../transport/link/fake.ts";
import type { ConnectionId, Link, LinkEvent } from "../../transport/link/link.ts";
import { SharedLink } from "../../transport/link/shared.ts";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
const word = (event: LinkEvent): string => (event.kind === "message" ? Buffer.from(event.bytes).toString() : event.kind);

async function until(holds: () => boolean): Promise<void> {
  for (let round = 0; round < 500; round++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(`never held: ${holds}`);
}

test("what was told of a connection and not heard goes with it; what a view dialled is its own", { skip }, async (t) => {
  const [here, there] = [createFakeLink({ onWake: () => {} }), createFakeLink({ onWake: () => {} })];
  t.after(() => Promise.all([here.close(), there.close()]));
  const at = await here.listen({ host: "fake:shared", port: 0 });
  const shared = new SharedLink(here);
  const [first, second] = [shared.newView(), shared.newView()];
  const heard: Record<"first" | "second", string[]> = { first: [], second: [] };

  const dialled = there.dial(at, 1_000);
  const others: string[] = [];
  const answer = (event: LinkEvent): void => {
    others.push(word(event));
    if (event.kind === "connected") for (const text of ["hello", "fetch", "lookup"]) there.send(dialled, Buffer.from(text));
  };
  let connection: ConnectionId | undefined;
  let told = 0;
  await until(() => {
    there.poll(answer, 100);
    told += shared.pump(100);
    return told >= 4;
  });
  first.poll((event) => {
    heard.first.push(word(event));
    if (event.kind === "accepted") ({ connection } = event);
    // Whose it is shows in the first message; the rest is behind it.
    else if (connection !== undefined) shared.handOver(connection, second);
  }, 100);
  const listen = (view: Link, into: string[]): number => view.poll((event) => into.push(word(event)), 100);
  listen(second, heard.second);
  assert.deepEqual(heard, { first: ["accepted", "hello"], second: ["fetch", "lookup"] });

  there.disconnect(dialled);
  await until(() => {
    shared.pump(100);
    listen(first, heard.first);
    return listen(second, heard.second) > 0;
  });
  assert.deepEqual([heard.first.length, heard.second.at(-1)], [2, "disconnected"]);

  second.dial({ host: "fake:nobody", port: 0 }, 1_000);
  await until(() => {
    shared.pump(100);
    return listen(second, heard.second) > 0;
  });
  assert.deepEqual([heard.second.at(-1), listen(first, heard.first)], ["disconnected", 0]);
});

test("a view neither listens nor closes what is everybody's", { skip }, async (t) => {
  const link = createFakeLink({ onWake: () => {} });
  t.after(() => link.close());
  const view = new SharedLink(link).newView();
  await assert.rejects(view.listen({ host: "fake:view", port: 0 }), { code: "unsupported" });
  await view.close();
  assert.ok((await link.listen({ host: "fake:view", port: 0 })).host.startsWith("fake:"));
});
