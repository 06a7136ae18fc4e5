/**
 * Layouts of one remote by the bytes in which they travel. A remote says the same few again with every transfer, and to prove that no two blocks of
 * one lie on one byte (overlap.ts) takes longer than all else that is done for a small transfer. PURE.
 */
import type { Layout } from "./layout.ts";
import { parseLayoutJson } from "./parse.ts";

/** A node has as many layouts as models; what is beyond is parsed each time. */
const KEPT = 8;

export class LayoutCache {
  /** By age of last use, oldest first. */
  readonly #layouts = new Map<string, Layout>();

  /** As parseLayoutJson of a layout of another node. Throws invalid_argument. */
  parse(bytes: Uint8Array): Layout {
    // Byte for byte: what differs in one of them is another layout.
    const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
    const layout = this.#layouts.get(key) ?? parseLayoutJson(bytes);
    this.#layouts.delete(key);
    this.#layouts.set(key, layout);
    if (this.#layouts.size > KEPT) this.#layouts.delete(this.#layouts.keys().next().value as string);
    return layout;
  }
}
