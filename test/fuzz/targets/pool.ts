/**
 * The pool's table as the next owner finds it: damaged by flips and torn writes (`pool-table`), or forged with right checksums
 * (`pool-forged`). An input is a list of damages to one used pool. Whatever is there: no crash, no block in two hands; and where checksums
 * tell, no block of a living process is given away and no key finds another block than it named.
 */
import assert from "node:assert/strict";
import { KvferryError } from "../../../transport/errors.ts";
import { crc32cWords } from "../../../transport/memory/crc32c.ts";
import type { Blocks, Pool } from "../../../transport/memory/pool.ts";
import type { Region } from "../../../transport/memory/region.ts";
import { FakeProcesses, keyOf, keysOf, openPool, plainRegion } from "../../memory/regions.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { ABSURD_NUMBERS } from "../values.ts";

const BLOCK_BYTES = 64;
const BLOCKS = 12;
const HOLDERS_AT = 4_096;
const ENTRIES_AT = HOLDERS_AT + 2_048 * 32;
const ENTRY_BYTES = 64;
const REGION_BYTES = ENTRIES_AT + 4_096 + BLOCKS * BLOCK_BYTES;
/** Keys 1..4 are published in blocks 0..3; processes 11 and 12 were using blocks 4..9. */
const PUBLISHED = 4;
const IN_USE = [4, 5, 6, 7, 8, 9];

/** 4 published (one leased), 5 held by two processes, 1 being sealed, 2 free; holder 3 is the former owner's own. */
function usedPool(): Uint8Array {
  const region = plainRegion(REGION_BYTES);
  const { pool } = openPool(region, BLOCK_BYTES, new FakeProcesses());
  assert.equal(pool.blockCount, BLOCKS);
  pool.addHolder(1, 11);
  pool.addHolder(2, 12);
  const published = pool.alloc(1, PUBLISHED);
  pool.beginSeal(1, published);
  pool.seal(published, keysOf([1, 2, 3, 4]), Uint32Array.of(71, 72, 73, 74), 0, 16);
  pool.lease(2, keyOf(2), 0, false);
  pool.alloc(1, 3);
  pool.alloc(2, 2);
  pool.beginSeal(1, pool.alloc(1, 1));
  return region.view;
}

/** Eight bytes each: kind, where (u24), value (u32). The first byte of an input says which processes die with the owner. */
const DAMAGE_BYTES = 8;

function damage(view: Uint8Array, input: Uint8Array, forges: boolean): void {
  const words = new Uint32Array(view.buffer, 0, Math.floor(view.length / 4));
  const given = new DataView(input.buffer, input.byteOffset, input.length);
  for (let at = 1; at + DAMAGE_BYTES <= input.length; at += DAMAGE_BYTES) {
    const where = given.getUint32(at, true) >>> 8;
    const value = given.getUint32(at + 4, true);
    const byte = placeOf(where);
    switch ((input[at] as number) % 6) {
      case 0:
        view[byte] = (view[byte] as number) ^ (1 << (value % 8));
        break;
      case 1:
        words[byte >>> 2] = value;
        break;
      case 2:
        view.fill(value, byte, byte + (value % 97));
        break;
      case 3: // A write that stopped half-way: the beginning of one record over another.
        view.copyWithin(byte & ~31, placeOf(value) & ~31, (placeOf(value) & ~31) + 4 * (where % 16));
        break;
      case 4:
        view.copyWithin(byte & ~63, placeOf(value) & ~63, (placeOf(value) & ~63) + 64);
        break;
      default:
        words[byte >>> 2] = value;
        if (forges) seal(words, byte);
    }
  }
}

/** Where something is: headers, the first holders, the entries; now and then anywhere. */
function placeOf(number: number): number {
  const rest = number >>> 2;
  if (number % 4 === 0) return ENTRIES_AT + (rest % (BLOCKS * ENTRY_BYTES));
  if (number % 4 === 1) return HOLDERS_AT + (rest % 128);
  if (number % 4 === 2) return rest % 512;
  return rest % (ENTRIES_AT + BLOCKS * ENTRY_BYTES);
}

/** Makes the checksum of the record around `byte` right. */
function seal(words: Uint32Array, byte: number): void {
  if (byte >= ENTRIES_AT) {
    const block = Math.floor((byte - ENTRIES_AT) / ENTRY_BYTES);
    const at = ENTRIES_AT / 4 + block * 16;
    words[at + 15] = crc32cWords(words, at, 14) ^ block;
  } else if (byte >= HOLDERS_AT) {
    const at = (byte & ~31) / 4;
    words[at + 7] = crc32cWords(words, at, 7);
  } else {
    const at = byte < 256 ? 0 : 64;
    words[at + 35] = crc32cWords(words, at, 35);
  }
}

class PoolSession implements Session {
  readonly #used = usedPool();
  readonly #forges: boolean;

  constructor(forges: boolean) {
    this.#forges = forges;
  }

  run(input: Uint8Array): void {
    const region = plainRegion(REGION_BYTES);
    region.view.set(this.#used);
    const processes = new FakeProcesses();
    const dead = (input[0] ?? 0) % 4;
    if ((dead & 1) > 0) processes.kill(11);
    if ((dead & 2) > 0) processes.kill(12);
    damage(region.view, input, this.#forges);
    const known = dead === 0 && tellsOfWriters(region.view, this.#used);
    // The next owner, and the one after it: what the first one wrote must be as safe as what it found.
    for (let owner = 0; owner < 2; owner++) if (!this.#adopt(region, processes, dead, known)) return;
  }

  #adopt(region: Region, processes: FakeProcesses, dead: number, known: boolean): boolean {
    const pool = opened(region, processes);
    if (pool === undefined) return false;
    checkCounts(pool);
    const trusts = !this.#forges && !pool.adopted.fresh;
    const holder = pool.nextHolder;
    try {
      pool.addHolder(holder, 0);
    } catch (error) {
      // A forged header may say that no holder's number is left.
      assert.ok(error instanceof KvferryError && ["full", "invalid_argument"].includes(error.code), (error as Error).stack);
      return false;
    }
    const given = pool.alloc(holder, pool.stats().free);
    checkGiven(pool, given);
    if (trusts && known) for (const block of IN_USE) assert.ok(!given.ids.includes(block), `block ${block} is in use`);
    for (let key = 1; key <= PUBLISHED; key++) checkKey(pool, holder, key, given, trusts);
    pool.free(holder, given);
    pool.removeHolder(holder);
    checkCounts(pool);
    if (dead === 3) return true;
    // Late deaths: what waited for them comes back, once.
    const next = opened(region, processes);
    if (next === undefined) return true;
    for (const process of [11, 12]) processes.kill(process);
    checkCounts(next);
    assert.equal(processes.watched, 0);
    return false;
  }

  close(): void {}
}

/** Whether anything is left that speaks of the living: a holder's slot, whole or not, or one whole entry of theirs. */
function tellsOfWriters(view: Uint8Array, used: Uint8Array): boolean {
  if (view.subarray(HOLDERS_AT, ENTRIES_AT).some((byte) => byte !== 0)) return true;
  return IN_USE.some((block) => {
    const at = ENTRIES_AT + block * ENTRY_BYTES;
    return Buffer.compare(view.subarray(at, at + ENTRY_BYTES), used.subarray(at, at + ENTRY_BYTES)) === 0;
  });
}

function opened(region: Region, processes: FakeProcesses): Pool | undefined {
  try {
    return openPool(region, BLOCK_BYTES, processes).pool;
  } catch (error) {
    assert.ok(error instanceof KvferryError && error.code === "memory_unavailable", (error as Error).stack);
    return undefined;
  }
}

function checkCounts(pool: Pool): void {
  const { free, held, published, quarantined, leased, pinned } = pool.stats();
  assert.equal(free + held + published + quarantined, BLOCKS, "every block is in one state");
  assert.ok(leased <= published + held && pinned === 0, "leases are of blocks that are there");
}

function checkGiven(pool: Pool, given: Blocks): void {
  assert.equal(new Set(given.ids).size, given.ids.length, "no block twice");
  assert.ok(given.ids.every((block) => block < BLOCKS) && given.generations.every((generation) => generation > 0), "real blocks are given");
  assert.equal(pool.stats().free, 0);
}

function checkKey(pool: Pool, holder: number, key: number, given: Blocks, trusts: boolean): void {
  if (pool.lookup(keyOf(key), 0) === 0) return;
  const leased = pool.lease(holder, keyOf(key), 0, false);
  const block = leased.ids[0] as number;
  assert.ok(!given.ids.includes(block), "a published block is not given away");
  if (trusts) assert.deepEqual([block, pool.checksums(leased)[0]], [key - 1, 70 + key], "a key finds the block that it named");
  pool.release(holder, leased);
}

function generate(random: Random): Uint8Array {
  const input = random.bytes(1 + DAMAGE_BYTES * random.between(1, random.pick([1, 3, 12])));
  const given = new DataView(input.buffer);
  for (let at = 1; at < input.length; at += DAMAGE_BYTES) {
    if (random.chance(1, 2))
      given.setUint32(at + 4, random.chance(1, 2) ? random.below(16) : Math.abs(random.pick(ABSURD_NUMBERS)) % 2 ** 32, true);
    // Whole fields of entries, holders and headers.
    if (random.chance(1, 2)) given.setUint32(at, (random.between(0, 2) + 4 * 4 * random.below(192)) * 256 + random.pick([1, 5]), true);
  }
  return input;
}

const poolTarget = (name: string, forges: boolean, about: string): Target => ({
  name,
  corpus: name,
  about,
  skip: "",
  native: false,
  seeds: () => [Uint8Array.of(0), Uint8Array.of(1), Uint8Array.of(3)],
  generate,
  open: async () => new PoolSession(forges),
});

export const poolTargets: readonly Target[] = [
  poolTarget("pool-table", false, "adoption of a flipped or torn table: no crash, no block of a living process given away, no key astray"),
  poolTarget("pool-forged", true, "adoption of a table forged with right checksums: no crash, every block in one state and in one hand"),
];
