/**
 * Real processes: found by their start time, told of when they are killed, once. The polling kind is asked only what
 * it answers at once.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { hostProcesses, noProcesses, procProcesses, procStartTicks } from "../../transport/memory/liveness.ts";

for (const [name, processes] of [
  ["the host", hostProcesses()],
  ["/proc", procProcesses()],
] as const) {
  test(`${name} knows a process by its start time`, async (t) => {
    const child = spawn("sleep", ["60"]);
    t.after(() => child.kill("SIGKILL"));
    const ticks = processes.startTicks(child.pid!);
    assert.ok(ticks >= processes.startTicks(process.pid) && ticks > 0);
    assert.equal(processes.startTicks(child.pid!), ticks);
    const told: string[] = [];
    const stop = processes.watch(child.pid!, ticks, () => told.push("gone"));
    const other = processes.watch(child.pid!, ticks, () => assert.fail("stopped watching"));
    other();
    other();
    child.kill("SIGKILL");
    await once(child, "exit");
    assert.equal(processes.startTicks(child.pid!), 0);
    while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    stop();
    assert.equal(told.length, 1);
  });

  test(`${name} tells of a process that is gone, or is another, when the watch begins`, async () => {
    const child = spawn("true");
    await once(child, "exit");
    for (const [processId, ticks] of [
      [child.pid!, 5],
      [process.pid, procStartTicks(process.pid) - 1],
    ] as const) {
      const told: string[] = [];
      const stop = processes.watch(processId, ticks, () => told.push("gone"));
      assert.equal(told.length, 0, "never from within the call");
      while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      stop();
      assert.equal(told.length, 1);
    }
  });
}

test("a process whose name holds a bracket is read all the same", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-liveness-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const name = join(folder, ") R 1 (");
  const sleep = ["/usr/bin/sleep", "/bin/sleep"].find((path) => existsSync(path))!;
  symlinkSync(sleep, name);
  const child = spawn(name, ["60"]);
  t.after(() => child.kill("SIGKILL"));
  await once(child, "spawn");
  const ticks = procStartTicks(child.pid!);
  assert.ok(ticks >= procStartTicks(process.pid));
  assert.equal(noProcesses.startTicks(child.pid!), 0);
});
