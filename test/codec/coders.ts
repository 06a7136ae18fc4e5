/** Around the addon's coders: every implementation at once, and symbols as a table says. */
import assert from "node:assert/strict";
import type { NativeCoders } from "../../transport/native-codec.ts";
import { native } from "../../transport/native.ts";
import type { Random } from "../fuzz/random.ts";

/** The bytes of the scalar code, which those of all others equal. */
function encoded(what: string, encode: (coders: NativeCoders, isa: string) => Uint8Array | undefined): Uint8Array {
  const coders = (native as NonNullable<typeof native>).codecCoders;
  const expected = encode(coders, "scalar");
  assert.ok(expected !== undefined, `${what} encodes`);
  for (const isa of coders.isas) assert.ok(Buffer.compare(encode(coders, isa) ?? new Uint8Array(0), expected) === 0, `${what} by ${isa}`);
  return expected;
}

export function encodeRans(symbols: Uint8Array, tables: Uint16Array, columns: Uint8Array): Uint8Array {
  return encoded("rANS", (coders, isa) => coders.encodeRans(symbols, tables, columns, isa));
}

export function encodeExponents(values: Uint8Array, columns: number): Uint8Array {
  return encoded("exponents", (coders, isa) => coders.encodeExponents(values, columns, isa));
}

export function pack(levels: number, codes: Uint8Array): Uint8Array {
  return encoded(`${levels} levels`, (coders, isa) => coders.pack(levels, codes, isa));
}

/** 256 frequencies. */
export function tableOf(frequencies: Readonly<Record<number, number>>): Uint16Array {
  return Uint16Array.from({ length: 256 }, (_, symbol) => frequencies[symbol] ?? 0);
}

/** A matrix whose columns are drawn from their tables; now and then any symbol that a table has. */
export function draw(random: Random, rows: number, tables: Uint16Array, columns: Uint8Array): Uint8Array {
  const slots = Array.from({ length: tables.length / 256 }, (_, table) => slotsOf(tables.subarray(256 * table, 256 * table + 256)));
  const symbols = new Uint8Array(rows * columns.length);
  for (let at = 0; at < symbols.length; at++) {
    const slotsHere = slots[columns[at % columns.length] as number] as Uint8Array;
    symbols[at] = slotsHere[random.chance(1, 50) ? 4095 : random.below(4096)] as number;
  }
  return symbols;
}

function slotsOf(table: Uint16Array): Uint8Array {
  const slots = new Uint8Array(4096);
  let at = 0;
  for (const [symbol, frequency] of table.entries()) slots.fill(symbol, at, (at += frequency));
  return slots;
}
