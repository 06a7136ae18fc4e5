/**
 * The block table in front of a pool's data, as schemas/pool.md lays it out. It is a journal for the next owner and a read-only view for
 * engines: the running owner decides from its own arrays and writes through, so nothing that is scribbled here can mislead it.
 */
import { assert } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { crc32cWords } from "./crc32c.ts";
import { KEY_WORDS } from "./pool-index.ts";

export const POOL_VERSION = 1;
/** Slots of the holder table: part of the format. */
export const HOLDER_SLOTS = 2_048;
/** Holder number of a block whose writer is unknown. Real holders count from 1; 0 is the owner itself. */
export const HOLDER_UNKNOWN = 0xffffffff;

export const STATE = Object.freeze({ free: 0, held: 1, sealing: 2, published: 3, quarantined: 4, ending: 5 });
export const STATE_COUNT = 6;

export interface TableShape {
  readonly regionBytes: number;
  readonly blockBytes: number;
  readonly blockCount: number;
  readonly dataOffset: number;
}

export interface PoolHeader extends TableShape {
  readonly sequence: number;
  readonly ownerProcess: number;
  readonly ownerStartTicks: number;
  readonly holderNext: number;
  readonly incarnation: Uint8Array;
  readonly layoutHash: Uint8Array;
}

export interface HolderRecord {
  readonly holder: number;
  readonly processId: number;
  readonly startTicks: number;
}

export interface EntryRecord {
  generation: number;
  state: number;
  holder: number;
  group: number;
  tokens: number;
  checksum: number;
  leases: number;
}

const HEADER_SLOT_BYTES = 256;
const HEADER_WORDS = 36;
const HOLDERS_OFFSET = 4096;
const HOLDER_BYTES = 32;
const ENTRIES_OFFSET = HOLDERS_OFFSET + HOLDER_SLOTS * HOLDER_BYTES;
const ENTRY_BYTES = 64;
const ENTRY_WORDS = ENTRY_BYTES / 4;
const MAGIC_LOW = 0x5946564b; // "KVFY"
const MAGIC_HIGH = 0x4c4f4f50; // "POOL"
const TWO_32 = 0x1_0000_0000;
const PAGE_BYTES = 4096;
const HUGE_PAGE_BYTES = 2 * 1024 * 1024;
/** From this size on the data area starts on a huge page. */
const HUGE_REGION_BYTES = 256 * 1024 * 1024;

/** How many blocks fit a region beside their table. Throws memory_unavailable if not one does. */
export function tableShape(regionBytes: number, blockBytes: number): TableShape {
  const align = regionBytes >= HUGE_REGION_BYTES ? HUGE_PAGE_BYTES : PAGE_BYTES;
  const dataOffsetOf = (count: number): number => Math.ceil((ENTRIES_OFFSET + count * ENTRY_BYTES) / align) * align;
  let blockCount = Math.floor((regionBytes - ENTRIES_OFFSET) / (blockBytes + ENTRY_BYTES));
  blockCount = Math.min(blockCount, limits.poolBlocksMax);
  while (blockCount > 0 && dataOffsetOf(blockCount) + blockCount * blockBytes > regionBytes) blockCount--;
  if (blockCount < 1) {
    throw new KvferryError("memory_unavailable", `a region of ${regionBytes} bytes has no room for one block of ${blockBytes} bytes`);
  }
  return { regionBytes, blockBytes, blockCount, dataOffset: dataOffsetOf(blockCount) };
}

export class PoolTable {
  readonly #words: Uint32Array;
  readonly #shape: TableShape;
  #sequence = 0;

  /** @param view the region's memory, at least up to the shape's data offset. */
  constructor(view: Uint8Array, shape: TableShape) {
    assert(new Uint8Array(new Uint32Array([1]).buffer)[0] === 1, "the table is little-endian, as is every host that kvferry builds on");
    assert(view.byteOffset % 4 === 0 && view.length >= shape.dataOffset, "the table lies aligned within the region's view");
    this.#words = new Uint32Array(view.buffer, view.byteOffset, shape.dataOffset / 4);
    this.#shape = shape;
  }

  /** The newer of the two header slots that are whole, or undefined. */
  readHeader(): PoolHeader | undefined {
    let newest: PoolHeader | undefined;
    for (const slot of [0, 1]) {
      const header = this.#readHeaderSlot((slot * HEADER_SLOT_BYTES) / 4);
      if (header !== undefined && (newest === undefined || header.sequence > newest.sequence)) newest = header;
    }
    if (newest !== undefined) this.#sequence = newest.sequence;
    return newest;
  }

  /** Goes to the slot that does not hold the newest header, so that a writer killed half-way leaves the former one whole. */
  writeHeader(header: Omit<PoolHeader, keyof TableShape | "sequence">): void {
    this.#sequence++;
    const at = ((this.#sequence % 2) * HEADER_SLOT_BYTES) / 4;
    const words = this.#words;
    const shape = this.#shape;
    words.set([MAGIC_LOW, MAGIC_HIGH, POOL_VERSION, shape.blockBytes, shape.blockCount, HOLDER_SLOTS], at);
    words.set([HOLDERS_OFFSET, ENTRIES_OFFSET], at + 6);
    this.#writeWide(at + 8, shape.dataOffset);
    this.#writeWide(at + 10, shape.regionBytes);
    this.#writeWide(at + 12, this.#sequence);
    this.#writeWide(at + 14, header.ownerStartTicks);
    words[at + 16] = header.ownerProcess;
    words[at + 17] = header.holderNext;
    this.#writeBytes(at + 18, header.incarnation, 4);
    this.#writeBytes(at + 22, header.layoutHash, 8);
    words.fill(0, at + 30, at + HEADER_WORDS - 1);
    words[at + HEADER_WORDS - 1] = crc32cWords(words, at, HEADER_WORDS - 1);
  }

  /** No header and no holders: what a writer killed from here on leaves is not taken for a pool. */
  wipe(): void {
    this.#words.fill(0, 0, ENTRIES_OFFSET / 4);
    this.#sequence = 0;
  }

  /** The holder in a slot; "empty", or "damaged" if its checksum is wrong. */
  readHolder(slot: number): HolderRecord | "empty" | "damaged" {
    const at = this.#holderAt(slot);
    const words = this.#words;
    if (isZero(words, at, 8)) return "empty";
    if (words[at + 7] !== crc32cWords(words, at, 7) || words[at] === 0) return "damaged";
    return { holder: words[at]!, processId: words[at + 1]!, startTicks: this.#readWide(at + 2) };
  }

  writeHolder(slot: number, record: HolderRecord): void {
    const at = this.#holderAt(slot);
    this.#words.fill(0, at, at + 8);
    this.#words[at] = record.holder;
    this.#words[at + 1] = record.processId;
    this.#writeWide(at + 2, record.startTicks);
    this.#words[at + 7] = crc32cWords(this.#words, at, 7);
  }

  clearHolder(slot: number): void {
    const at = this.#holderAt(slot);
    this.#words.fill(0, at, at + 8);
  }

  /** Fills `into` and says whether the entry is whole and makes sense by itself. */
  readEntry(block: number, into: EntryRecord): boolean {
    const at = this.#entryAt(block);
    const words = this.#words;
    into.generation = words[at]!;
    into.state = words[at + 1]!;
    into.holder = words[at + 2]!;
    into.group = words[at + 3]!;
    into.tokens = words[at + 4]!;
    into.checksum = words[at + 5]!;
    into.leases = words[at + 14]!;
    if (words[at + 15] !== (crc32cWords(words, at, 14) ^ block) >>> 0) return false;
    return into.generation > 0 && into.state < STATE_COUNT && into.group < limits.groupsMax;
  }

  /** A copy of the 32-byte key in an entry. */
  readKey(block: number): Uint8Array {
    const at = this.#entryAt(block) + 6;
    return new Uint8Array(this.#words.slice(at, at + KEY_WORDS).buffer);
  }

  /**
   * Positional, because an object for each entry would be garbage in the hottest path. `keys` holds the key at word
   * block * 8 and is read for
   * published blocks only; other entries carry zeros.
   */
  writeEntry(
    block: number,
    state: number,
    generation: number,
    holder: number,
    group: number,
    tokens: number,
    checksum: number,
    keys: Uint32Array,
  ): void {
    const at = this.#entryAt(block);
    const words = this.#words;
    words[at] = generation;
    words[at + 1] = state;
    words[at + 2] = holder;
    words[at + 3] = group;
    words[at + 4] = tokens;
    words[at + 5] = checksum;
    const keyed = state === STATE.published;
    for (let word = 0; word < KEY_WORDS; word++) words[at + 6 + word] = keyed ? keys[block * KEY_WORDS + word]! : 0;
    words[at + 15] = crc32cWords(words, at, 14) ^ block;
  }

  /** Outside the entry's checksum: it changes with every lease and only errs towards keeping a block. */
  writeLeases(block: number, leases: number): void {
    this.#words[this.#entryAt(block) + 14] = leases;
  }

  #readHeaderSlot(at: number): PoolHeader | undefined {
    const words = this.#words;
    if (words[at] !== MAGIC_LOW || words[at + 1] !== MAGIC_HIGH || words[at + 2] !== POOL_VERSION) return undefined;
    if (words[at + HEADER_WORDS - 1] !== crc32cWords(words, at, HEADER_WORDS - 1)) return undefined;
    if (words[at + 5] !== HOLDER_SLOTS || words[at + 7] !== ENTRIES_OFFSET) return undefined;
    return {
      blockBytes: words[at + 3]!,
      blockCount: words[at + 4]!,
      dataOffset: this.#readWide(at + 8),
      regionBytes: this.#readWide(at + 10),
      sequence: this.#readWide(at + 12),
      ownerStartTicks: this.#readWide(at + 14),
      ownerProcess: words[at + 16]!,
      holderNext: words[at + 17]!,
      incarnation: this.#readBytes(at + 18, 4),
      layoutHash: this.#readBytes(at + 22, 8),
    };
  }

  #holderAt(slot: number): number {
    return (HOLDERS_OFFSET + slot * HOLDER_BYTES) / 4;
  }

  #entryAt(block: number): number {
    return ENTRIES_OFFSET / 4 + block * ENTRY_WORDS;
  }

  #readWide(at: number): number {
    return this.#words[at]! + this.#words[at + 1]! * TWO_32;
  }

  #writeWide(at: number, value: number): void {
    this.#words[at] = value % TWO_32;
    this.#words[at + 1] = Math.floor(value / TWO_32);
  }

  #readBytes(at: number, wordCount: number): Uint8Array {
    return new Uint8Array(this.#words.slice(at, at + wordCount).buffer);
  }

  #writeBytes(at: number, bytes: Uint8Array, wordCount: number): void {
    assert(bytes.length === wordCount * 4, "a field is written whole");
    const copy = bytes.slice();
    this.#words.set(new Uint32Array(copy.buffer, copy.byteOffset, wordCount), at);
  }
}

function isZero(words: Uint32Array, at: number, count: number): boolean {
  for (let word = at; word < at + count; word++) if (words[word] !== 0) return false;
  return true;
}
