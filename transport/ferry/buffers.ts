/** Registered buffers: memory outside the pool that remote peers may read and write by its handle. */
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Region } from "../memory/region.ts";
import type { RangeContent } from "../peer/content.ts";
import type { ByteRange } from "../peer/messages.ts";
import { newHandle, unknownHandle } from "./handles.ts";

interface Entry {
  readonly region: Region;
  readonly owner: object;
  readonly namespace: string;
  users: number;
  dropped: boolean;
}

export class BufferTable {
  readonly #buffers = new Map<string, Entry>();
  readonly #incarnation: string;
  readonly #random: (count: number) => Uint8Array;

  constructor(incarnation: string, random: (count: number) => Uint8Array) {
    this.#incarnation = incarnation;
    this.#random = random;
  }

  get size(): number {
    return this.#buffers.size;
  }

  add(owner: object, region: Region, namespace: string): string {
    if (this.#buffers.size >= limits.buffersMax) throw new KvferryError("full", `${limits.buffersMax} buffers are registered`);
    const handle = newHandle(this.#incarnation, this.#random);
    this.#buffers.set(handle, { region, owner, namespace, users: 0, dropped: false });
    return handle;
  }

  /** Undefined: there is no such buffer. */
  namespaceOf(handle: string): string | undefined {
    return this.#buffers.get(handle)?.namespace;
  }

  /** Content for a transfer; call the returned `release` once when it has ended. `owner`: only that session's buffers. */
  use(handle: string, ranges: readonly ByteRange[], owner?: object): { readonly content: RangeContent; readonly release: () => void } {
    const entry = this.#buffers.get(handle);
    if (entry === undefined || entry.dropped || (owner !== undefined && entry.owner !== owner)) {
      throw unknownHandle(this.#incarnation, handle);
    }
    if (ranges.length === 0) throw new KvferryError("range_invalid", "no range is given");
    for (const { offset, bytes } of ranges) {
      if (offset + bytes > entry.region.bytes) {
        throw new KvferryError("range_invalid", `${offset} + ${bytes} leaves a buffer of ${entry.region.bytes} bytes`);
      }
    }
    entry.users += 1;
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      entry.users -= 1;
      if (entry.dropped && entry.users === 0) entry.region.close();
    };
    return { content: { kind: "ranges", region: entry.region, ranges }, release };
  }

  /** No new transfer may name it; its memory is let go when the last running one has ended. */
  remove(handle: string, owner: object): void {
    const entry = this.#buffers.get(handle);
    if (entry === undefined || entry.owner !== owner) throw unknownHandle(this.#incarnation, handle);
    this.#drop(handle, entry);
  }

  removeAll(owner?: object): void {
    for (const [handle, entry] of this.#buffers) if (owner === undefined || entry.owner === owner) this.#drop(handle, entry);
  }

  #drop(handle: string, entry: Entry): void {
    this.#buffers.delete(handle);
    entry.dropped = true;
    if (entry.users === 0) entry.region.close();
  }
}
