/**
 * Which blocks came through a profile that loses something. Under an identity that does not name that profile they are neither published nor offered: who finds
 * them there would take them for what the model computed. Kept in memory alone; a block that is given away anew is another one.
 */
import { KvferryError } from "../errors.ts";
import type { Blocks } from "../memory/pool.ts";

export class BlockOrigins {
  readonly #lossy = new Map<number, { readonly generation: number; readonly profile: string }>();

  note({ ids, generations }: Blocks, profile: string): void {
    ids.forEach((block, at) => {
      const generation = generations[at] as number;
      const before = this.#lossy.get(block);
      // What came through two of them is what no identity names.
      const both = before?.generation === generation && before.profile !== profile ? `${before.profile} ${profile}` : profile;
      this.#lossy.set(block, { generation, profile: both });
    });
  }

  /** Throws profile_refused. @param profile of the identity under which others are to find them; "" = exact */
  check({ ids, generations }: Blocks, profile: string): void {
    ids.forEach((block, at) => {
      const found = this.#lossy.get(block);
      if (found === undefined || found.generation !== generations[at] || found.profile === profile) return;
      const named = profile === "" ? "no profile" : `the profile ${profile}`;
      throw new KvferryError("profile_refused", `block ${block} came through ${found.profile}, and its model's identity names ${named}`);
    });
  }
}
