/** How every transfer of the simulation begins: entered in the ledger, followed to its end, now and then cancelled. */
import { KvferryError } from "../../../transport/errors.ts";
import type { FerryEvent, Transfer } from "../../../transport/ferry/ferry.ts";
import type { Engine } from "../engine.ts";
import type { Scene } from "../scene.ts";

export interface Start {
  readonly kind: string;
  readonly engine: Engine;
  readonly deadlineMs: number;
  readonly call: () => Promise<Transfer>;
  /** Bytes are all there: look at them. */
  readonly onDone: () => void;
  readonly onLayer?: (layer: number) => void;
  /** After either end: give back. */
  readonly onEnd: () => Promise<void>;
}

export async function startTransfer(scene: Scene, { kind, engine, deadlineMs, call, onDone, onLayer, onEnd }: Start): Promise<void> {
  const { session } = engine;
  const entry = scene.ledger.begin(kind, engine.node, deadlineMs);
  let transfer: Transfer;
  try {
    transfer = await call();
  } catch (error) {
    if (error instanceof KvferryError) scene.ledger.end(entry, error.code);
    await onEnd();
    throw error;
  }
  engine.follow(transfer, entry, (event: FerryEvent) => {
    if (event.kind === "layer") onLayer?.(event.layer);
    if (event.kind === "done") onDone();
    if (event.kind === "done" || event.kind === "failed") void scene.act(engine, `${kind} end`, onEnd);
  });
  if (scene.healed || !engine.random.chance(scene.swarm.cancelParts, 100)) return;
  scene.world.after(engine.random.below(engine.random.pick([500, 5_000, 500_000])), () => {
    if (engine.isStill(session)) transfer.cancel();
  });
}

/** Deadlines in use: too short for a slow network, usual, long. */
export function drawDeadlineMs(scene: Scene, engine: Engine): number {
  return scene.healed ? 20_000 : engine.random.pick(scene.swarm.deadlinesMs);
}
