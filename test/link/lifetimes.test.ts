/**
 * Native links whose end comes at a bad moment: workers and processes that exit, are terminated, killed or stopped while chunks are under
 * way in both directions. The end that stays loses its connection (or waits), gets its memory back, and goes on with the next peer.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test, type TestContext } from "node:test";
import { Worker } from "node:worker_threads";
import { createFakeLink } from "../../transport/link/fake.ts";
import type { ConnectionId, PlacementId } from "../../transport/link/link.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { native, nativeProblem } from "../../transport/native.ts";
import { CHILD_SENDS, CHILD_SHAPE, CHILD_TAKES } from "./child.ts";
import { End } from "./conformance/end.ts";
import { Memory } from "./conformance/memory.ts";
import { numberOf, TOKEN } from "./conformance/pair.ts";

const skip = native === undefined && `no addon: ${nativeProblem}`;
const scratch = mkdtempSync(join(tmpdir(), "kvferry-lifetimes-"));
after(() => rmSync(scratch, { recursive: true }));

interface Stage {
  readonly end: End;
  readonly port: number;
}

/** What the staying end has of one child. */
interface Guest {
  readonly connection: ConnectionId;
  readonly into: PlacementId;
  readonly out: PlacementId;
  /** What `out` sends. */
  readonly memory: Memory;
}

async function openStage(t: TestContext, kind: string): Promise<Stage> {
  const end = await End.open("stays", async (options) => (kind === "fake" ? createFakeLink(options) : createTcpLink(options)));
  t.after(() => end.link.close());
  const { port } = await end.link.listen({ host: "127.0.0.1", port: 0 });
  return { end, port };
}

/** Takes the `count`th child in, and sends it a chunk, so that chunks move both ways. */
async function welcome({ end }: Stage, count: number): Promise<Guest> {
  const { connection } = (await end.eventCount(count, "accepted")).at(-1) as { connection: ConnectionId };
  const memory = new Memory(CHILD_SHAPE.bytes, count);
  const target = new Memory(CHILD_SHAPE.bytes, count);
  const common = { ...CHILD_SHAPE.receiver, connection, generation: 1, chunks: CHILD_SHAPE.chunks, checksum: true };
  const into = end.place({ ...common, direction: "in", grant: CHILD_SENDS, region: target.region, standing: true });
  const out = end.place({ ...common, direction: "out", grant: CHILD_TAKES, region: memory.region });
  end.link.admitLanes(connection, TOKEN);
  assert.ok(end.link.send(connection, Uint8Array.of(1)));
  await end.event("committed", { placement: into });
  end.submit(out, [0, 1, 2]);
  await end.eventCount(10, "committed", { placement: into });
  return { connection, into, out, memory };
}

/** The guest is gone: its connection ends, and the memory comes back. */
async function farewell({ end }: Stage, { connection, into, out }: Guest): Promise<void> {
  await end.event("disconnected", { connection, code: numberOf("connection_lost") });
  await end.revoke(into);
  await end.revoke(out);
  end.check();
}

function startProcess(kind: string, port: number, ending: string) {
  return spawn(
    process.execPath,
    ["--import", import.meta.resolve("tsx"), join(import.meta.dirname, "child.ts"), kind, String(port), ending],
    {
      env: { ...process.env, KVFERRY_LINK_CHILD: "1" },
      stdio: ["ignore", "inherit", "inherit"],
    },
  );
}

function startWorker(kind: string, port: number, ending: string): Worker {
  const file = join(scratch, "worker.mjs");
  const body = new URL("./child.ts", import.meta.url).href;
  // Registers the TypeScript loader itself: a worker does not take --import.
  const loader = `import { register } from ${JSON.stringify(import.meta.resolve("tsx/esm/api"))}; register();`;
  writeFileSync(
    file,
    `${loader} (await import(${JSON.stringify(body)})).runChild(...process.argv.slice(2, 3), Number(process.argv[3]), process.argv[4]);`,
  );
  return new Worker(new URL(`file://${file}`), { execArgv: [], argv: [kind, String(port), ending] });
}

for (const kind of ["tcp", "fake"]) {
  describe(`lifetimes ${kind}`, { skip }, () => {
    test("workers that exit in the middle of it", async (t) => {
      const stage = await openStage(t, kind);
      for (const count of [1, 2, 3]) {
        const worker = startWorker(kind, stage.port, "exit");
        const gone = once(worker, "exit");
        const guest = await welcome(stage, count);
        assert.deepEqual(await gone, [0]);
        await farewell(stage, guest);
      }
    });

    test("workers that are terminated in the middle of it", async (t) => {
      const stage = await openStage(t, kind);
      for (const count of [1, 2, 3]) {
        const worker = startWorker(kind, stage.port, "hold");
        const guest = await welcome(stage, count);
        await worker.terminate();
        await farewell(stage, guest);
      }
    });
  });
}

describe("lifetimes of processes", { skip }, () => {
  test("processes that exit in the middle of it end in order", async (t) => {
    const stage = await openStage(t, "tcp");
    for (const count of [1, 2]) {
      const child = startProcess("tcp", stage.port, "exit");
      const gone = once(child, "exit");
      const guest = await welcome(stage, count);
      assert.deepEqual(await gone, [0, null]);
      await farewell(stage, guest);
    }
  });

  test("processes that are killed in the middle of it", async (t) => {
    const stage = await openStage(t, "tcp");
    for (const count of [1, 2]) {
      const child = startProcess("tcp", stage.port, "hold");
      const guest = await welcome(stage, count);
      child.kill("SIGKILL");
      await farewell(stage, guest);
    }
  });
});

describe("lifetimes of processes, further", { skip }, () => {
  test("a process that is stopped delays no revoke, and goes on when it is woken", async (t) => {
    const stage = await openStage(t, "tcp");
    const { end } = stage;
    const child = startProcess("tcp", stage.port, "hold");
    t.after(() => child.kill("SIGKILL"));
    const { connection, into, out, memory } = await welcome(stage, 1);
    await end.eventCount(3, "acked", { placement: out });
    child.kill("SIGSTOP");
    // Far more than the sockets' buffers hold: lanes stand in the middle of chunks.
    const shape = { ...CHILD_SHAPE.sender, chunks: CHILD_SHAPE.chunks };
    const outs = Array.from({ length: 40 }, () => {
      const common = { connection, generation: 1, region: memory.region, checksum: true };
      return end.place({ ...shape, ...common, direction: "out", grant: CHILD_TAKES });
    });
    for (const [index, placement] of outs.entries()) end.submit(placement, [0, 1, 2, 3, 4, 5], index + 2);
    end.link.revoke(into);
    for (const placement of [out, ...outs]) end.link.revoke(placement);
    for (const placement of [into, out, ...outs]) await end.event("revoked", { placement });
    // Nothing reads or writes it any more, whatever the sockets still hold.
    memory.write(0, new Uint8Array(memory.region.bytes).fill(0x55));
    child.kill("SIGCONT");
    const again = end.place({
      ...shape,
      connection,
      generation: 1,
      region: memory.region,
      checksum: true,
      direction: "out",
      grant: CHILD_TAKES,
    });
    // What the lanes stood in the middle of ends first: until then its chunk is busy.
    for (let sequence = 1_000; end.all("acked", { placement: again }).length < 6; sequence++) {
      const placed = new Set(end.all("acked", { placement: again }).map(({ chunk }) => chunk));
      end.submit(
        again,
        [0, 1, 2, 3, 4, 5].filter((chunk) => !placed.has(chunk)),
        sequence,
      );
      const answered = () =>
        end.all("acked", { placement: again, sequence }).length + end.all("failed", { placement: again, sequence }).length;
      await end.until(() => answered() === 6 - placed.size, "an answer to every chunk");
    }
    assert.ok(end.all("failed", { placement: again }).every(({ code }) => code === numberOf("chunk_busy")));
    memory.check("the memory that was taken back");
    assert.equal(end.all("laneDown").length, 0);
    await end.revoke(again);
    end.check();
  });
});
