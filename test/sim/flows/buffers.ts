/** Registered buffers: ranges of another process's memory, read and written by handle. */
import type { Engine } from "../engine.ts";
import { hashText } from "../random.ts";
import type { Scene, Shelf } from "../scene.ts";
import { drawDeadlineMs, startTransfer } from "./start.ts";

const SHELF_BYTES = 8_192;
const LINE_BYTES = 16;

/** Keeps a few buffers registered, and takes one away now and then. */
export function tendShelves(scene: Scene): void {
  const engines = scene.ready();
  if (engines.length === 0) return;
  const { shelves, random } = scene;
  if (shelves.length > 0 && random.chance(shelves.length, 8)) {
    const shelf = random.pick(shelves);
    scene.shelves = shelves.filter((other) => other !== shelf);
    if (!shelf.engine.connected) return;
    void scene.act(shelf.engine, "unregister", () => shelf.engine.session.unregisterBuffer(shelf.handle));
    return;
  }
  const engine = random.pick(engines);
  void scene.act(engine, "register", async () => {
    const memory = new Uint8Array(SHELF_BYTES);
    const life = engine.node.lives;
    const { handle } = await engine.session.registerBuffer(memory);
    const pattern = hashText(handle);
    for (let at = 0; at < SHELF_BYTES / 2; at++) memory[at] = patternByte(pattern, at);

    scene.shelves.push({ engine, handle, memory, life, usedBytes: SHELF_BYTES / 2 });
  });
}

export function readRanges(scene: Scene): void {
  move(scene, "read");
}

export function writeRanges(scene: Scene): void {
  move(scene, "write");
}

function move(scene: Scene, kind: "read" | "write"): void {
  const { random, shelves } = scene;
  if (shelves.length === 0) return tendShelves(scene);
  const shelf = random.pick(shelves);
  const engines = scene.ready((engine) => engine.node !== shelf.engine.node);
  if (engines.length === 0) return;
  const engine = random.pick(engines);
  const remote = kind === "read" ? drawRanges(scene) : takeRanges(scene, shelf);
  if (remote.length > 0) void scene.act(engine, kind, () => moveRanges(scene, engine, shelf, kind, remote));
}

interface RemoteRange {
  readonly remote: number;
  readonly bytes: number;
}

async function moveRanges(
  scene: Scene,
  engine: Engine,
  shelf: Shelf,
  kind: "read" | "write",
  remote: readonly RemoteRange[],
): Promise<void> {
  let bytes = 0;
  const ranges = remote.map((range) => ({ ...range, local: (bytes += range.bytes) - range.bytes }));
  const memory = new Uint8Array(bytes);
  const { session } = engine;
  const { handle } = await session.registerBuffer(memory);
  const pattern = hashText(kind === "read" ? shelf.handle : handle);
  if (kind === "write") for (let at = 0; at < bytes; at++) memory[at] = patternByte(pattern, at);
  const deadlineMs = drawDeadlineMs(scene, engine);
  const request = { peer: shelf.engine.node.name, remote: shelf.handle, local: handle, ranges, deadlineMs };
  await startTransfer(scene, {
    kind,
    engine,
    deadlineMs,
    call: () => (kind === "read" ? session.read(request) : session.write(request)),
    onDone: () => {
      for (const { local, remote: there, bytes: length } of ranges) {
        for (let at = 0; at < length; at++) {
          const [is, offered] =
            kind === "read"
              ? [memory[local + at], patternByte(pattern, there + at)]
              : [shelf.memory[there + at], patternByte(pattern, local + at)];
          if (is !== offered) return scene.world.violate(`${kind} by ${engine.name}: byte ${there + at} is ${is} and not ${offered}`);
        }
      }
    },
    onEnd: async () => {
      if (engine.connected && engine.session === session) await session.unregisterBuffer(handle);
    },
  });
}

/** One to four ranges of the half that is only read. */
function drawRanges({ random }: Scene): RemoteRange[] {
  return Array.from({ length: random.between(1, 4) }, () => {
    const bytes = LINE_BYTES * random.between(1, 40);
    return { remote: LINE_BYTES * random.below((SHELF_BYTES / 2 - bytes) / LINE_BYTES + 1), bytes };
  });
}

/** The next ones of the half that is written once. */
function takeRanges({ random }: Scene, shelf: Shelf): RemoteRange[] {
  const ranges: RemoteRange[] = [];
  for (let count = random.between(1, 3); count > 0; count--) {
    const bytes = LINE_BYTES * random.between(1, 20);
    if (shelf.usedBytes + bytes > SHELF_BYTES) break;
    ranges.push({ remote: shelf.usedBytes, bytes });
    shelf.usedBytes += bytes;
  }
  return ranges;
}

function patternByte(pattern: number, at: number): number {
  return (Math.imul(pattern ^ at, 0x9e3779b1) >>> 13) & 0xff;
}
