/** Replays every input of the corpus, and every seed, on its targets: what once went wrong, and one of each kind of input that is known. */
import { test } from "node:test";
import { readCorpus } from "./corpus.ts";
import { runOne } from "./run.ts";
import { targets } from "./targets.ts";

for (const target of targets) {
  test(`corpus of ${target.name}`, { skip: target.skip === "" ? false : target.skip }, async () => {
    const seeds = target.seeds().map((input, at) => ({ name: `seed ${at}`, input }));
    const session = await target.open();
    for (const { name, input } of [...seeds, ...readCorpus(target.corpus)]) {
      try {
        await runOne(session, input);
      } catch (error) {
        throw new Error(`${target.name}, ${name}: ${(error as Error).message}`, { cause: error });
      }
    }
    await session.close();
  });
}
