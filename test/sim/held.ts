/** Lanes of a virtual link that came before their token was admitted: so many wait, and so long. */
import { limits } from "./limits.ts";
import type { Pipe } from "./network.ts";
import type { World } from "./world.ts";

export interface HeldLane {
  readonly pipe: Pipe;
  readonly lane: number;
  readonly token: string;
}

export class HeldLanes {
  readonly #world: World;
  readonly #lanes = new Set<HeldLane>();

  constructor(world: World) {
    this.#world = world;
  }

  get size(): number {
    return this.#lanes.size;
  }

  hold(held: HeldLane): void {
    if (this.#lanes.size >= limits.greetingsMax / 2) return held.pipe.close(1);
    this.#lanes.add(held);
    held.pipe.attach(1, { isReady: () => true, handleBroken: () => void this.#lanes.delete(held) });
    this.#world.after(limits.preambleTimeoutMs * 1000, () => {
      if (this.#lanes.delete(held)) held.pipe.close(1);
    });
  }

  /** Those that wait for this token, which do so no longer. */
  take(token: string): HeldLane[] {
    const taken = [...this.#lanes].filter((held) => held.token === token);
    for (const held of taken) this.#lanes.delete(held);
    return taken;
  }

  close(): void {
    for (const { pipe } of this.#lanes) pipe.close(1);
  }
}
