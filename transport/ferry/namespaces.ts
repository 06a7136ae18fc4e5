/**
 * Under which namespace each published block was published: what another tenant may find by key is decided by it, not by the model that a question names.
 * Kept in memory alone. What a former start published is nobody's but its own tenant's, until it is published again.
 */
import type { Blocks } from "../memory/pool.ts";
import type { Sight } from "../policy/tenancy.ts";

export class BlockNamespaces {
  readonly #published = new Map<number, { readonly generation: number; readonly namespace: string }>();

  note(blocks: Blocks, namespace: string): void {
    blocks.ids.forEach((block, at) => this.#published.set(block, { generation: blocks.generations[at] as number, namespace }));
  }

  /** How many of the blocks, from the first, exist for somebody. */
  countSeen({ ids, generations }: Blocks, sight: Sight): number {
    for (let at = 0; at < ids.length; at++) {
      const found = this.#published.get(ids[at] as number);
      if (found === undefined || found.generation !== generations[at] || !sight(found.namespace)) return at;
    }
    return ids.length;
  }
}
