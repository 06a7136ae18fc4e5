/** Runs a target for so many inputs or so long, from a seed. */
import { keepFailure, readCorpus } from "./corpus.ts";
import { Random } from "./random.ts";
import { nextInput, type Session, type Target } from "./target.ts";

/** An input that takes longer hangs. */
const INPUT_MS = 20_000;
/** How long a session that failed may take to close. */
const CLOSE_MS = 5_000;

export interface FuzzOptions {
  readonly seed: number;
  readonly runs: number;
  readonly seconds: number;
  readonly onProgress?: (runs: number) => void;
}

export class FuzzFailure extends Error {}

/** Returns how many inputs were run. Throws FuzzFailure with the input's file and how to run it again. */
export async function fuzz(target: Target, { seed, runs, seconds, onProgress }: FuzzOptions): Promise<number> {
  const random = new Random(seed);
  const pool = [...target.seeds(), ...readCorpus(target.corpus).map(({ input }) => input)];
  const session = await target.open();
  const endMs = performance.now() + seconds * 1000;
  let done = 0;
  let input: Uint8Array = new Uint8Array(0);
  try {
    for (; done < runs; done++) {
      if (performance.now() >= endMs) break;
      input = nextInput(target, random, pool);
      await runOne(session, input);
      if (done % 1000 === 999) {
        onProgress?.(done + 1);
        // A target that never waits must not keep the rest of the process from its turn.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await session.close();
  } catch (error) {
    const path = keepFailure(target.name, input, String(error));
    const again = `npm run fuzz -- --target=${target.name} --replay=${path}`;
    // What is still open would keep the process, and a whole suite, from its end.
    const closed = (async () => session.close())().catch(() => {});
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
    throw new FuzzFailure(`${target.name}: input ${done} of seed ${seed}: ${(error as Error).stack ?? String(error)}\nAgain: ${again}`, {
      cause: error,
    });
  }
  return done;
}

export async function runOne(session: Session, input: Uint8Array): Promise<void> {
  const running = session.run(input);
  if (running === undefined) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`an input of ${input.length} bytes took more than ${INPUT_MS} ms`)), INPUT_MS);
  });
  try {
    await Promise.race([running, late]);
  } finally {
    clearTimeout(timer);
  }
}
