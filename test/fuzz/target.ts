/** What a fuzz target is. Add yours to targets.ts. */
import { KvferryError } from "../../transport/errors.ts";
import { cross, mutate } from "./mutate.ts";
import type { Random } from "./random.ts";

export interface Session {
  /** One input. Throws (or rejects) if the code under test did anything but what its format allows. */
  run(input: Uint8Array): void | Promise<void>;
  /** Throws if something came to light only now. */
  close(): void | Promise<void>;
}

export interface Target {
  readonly name: string;
  /** Folder of corpus/ whose inputs it runs; several targets may share one. */
  readonly corpus: string;
  /** One line: which parser, and what must hold. */
  readonly about: string;
  /** Why it cannot run here; "" if it can. */
  readonly skip: string;
  /** Its inputs reach the addon: with --asan it runs on one that watches its memory. */
  readonly native: boolean;
  /** Well-formed inputs to begin with; the corpus comes on top. */
  seeds(): readonly Uint8Array[];
  /** The next input; `pool` is seeds and corpus. Without it: seeds, mutated and crossed. */
  generate?(random: Random, pool: readonly Uint8Array[]): Uint8Array;
  open(): Promise<Session>;
}

/** A target that is one function of bytes: it may return or throw KvferryError, nothing else. */
export function pureTarget(name: string, about: string, seeds: () => readonly Uint8Array[], parse: (input: Uint8Array) => void): Target {
  return {
    name,
    corpus: name,
    about,
    skip: "",
    native: false,
    seeds,
    open: async () => ({
      run(input) {
        try {
          parse(input);
        } catch (error) {
          if (!(error instanceof KvferryError)) throw error;
        }
      },
      close() {},
    }),
  };
}

export function nextInput(target: Target, random: Random, pool: readonly Uint8Array[]): Uint8Array {
  if (target.generate !== undefined) return target.generate(random, pool);
  if (pool.length === 0 || random.chance(1, 50)) return random.bytes(random.below(200));
  const input = random.chance(1, 4) ? cross(random.pick(pool), random.pick(pool), random) : random.pick(pool);
  return mutate(input, random);
}
