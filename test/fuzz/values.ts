/** Changes to structured values (what JSON and msgpack can say), for parsers behind a parser: the shape stays near enough to get deep inside. */
import type { Random } from "./random.ts";

/** Numbers at which bounds break. */
export const ABSURD_NUMBERS: readonly number[] = [
  ...[0, -0, 1, -1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 1_023, 1_024, 65_535, 65_536, 65_537, 0.5, 1.5, -0.1, 1e-300],
  ...[
    2 ** 20,
    2 ** 22,
    2 ** 30,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32 - 1,
    2 ** 32,
    2 ** 40,
    2 ** 52,
    2 ** 53 - 1,
    2 ** 53,
    2 ** 63,
    2 ** 64,
    1e308,
    -1e308,
  ],
];

const ABSURD_TEXTS: readonly string[] = [
  ...[
    "",
    " ",
    "0",
    "-1",
    "1e9",
    "true",
    "null",
    "a",
    "é",
    "\0",
    "\n",
    '"',
    "constructor",
    "__proto__",
    "toString",
    "../../etc",
    "/dev/null",
  ],
  ...["x".repeat(65), "x".repeat(300), "0".repeat(5_000), "\ud800", "\u202e", "１２"],
];

/** A copy with one to a few things in it changed: numbers and texts made absurd, fields lost, doubled, swapped, renamed. */
export function mutateValue(value: unknown, random: Random, most = 3): unknown {
  const root = { value: structuredClone(value) };
  for (let left = random.between(1, most); left > 0; left--) changeOne(root, random);
  return root.value;
}

export function absurdValue(random: Random): unknown {
  switch (random.below(8)) {
    case 0:
    case 1:
    case 2:
      return random.pick(ABSURD_NUMBERS);
    case 3:
    case 4:
      return random.pick(ABSURD_TEXTS);
    case 5:
      return random.pick([null, true, false]);
    case 6:
      return random.pick([[], {}, [[]], [null], { length: 1 }, Array.from({ length: 70 }, () => 0)]);
    default:
      return nest(random.between(1, 12));
  }
}

interface Place {
  readonly holder: Record<string, unknown>;
  readonly key: string;
}

function changeOne(root: Record<string, unknown>, random: Random): void {
  const places = placesOf(root);
  const { holder, key } = random.pick(places);
  const present = holder[key];
  switch (random.below(8)) {
    case 0:
      if (holder !== root) drop(holder, key);
      return;
    case 1:
      if (Array.isArray(holder)) holder.splice(Number(key), 0, structuredClone(present));
      else if (holder !== root) put(holder, random.pick([`${key}x`, "x", "__proto__", key.toUpperCase()]), present);
      return;
    case 2: {
      const other = random.pick(places);
      put(holder, key, structuredClone(other.holder[other.key]));
      return;
    }
    case 3:
    case 4:
      if (typeof present === "number") return put(holder, key, near(present, random));
      if (ArrayBuffer.isView(present)) return put(holder, key, resized(present, random));
      if (typeof present === "string") return put(holder, key, damaged(present, random));
      return put(holder, key, absurdValue(random));
    default:
      put(holder, key, typeof present === "number" && random.chance(3, 4) ? random.pick(ABSURD_NUMBERS) : absurdValue(random));
  }
}

function placesOf(root: Record<string, unknown>): Place[] {
  const places: Place[] = [];
  const walk = (holder: Record<string, unknown>): void => {
    for (const key of Object.keys(holder)) {
      places.push({ holder, key });
      const inner = holder[key];
      if (typeof inner === "object" && inner !== null && !ArrayBuffer.isView(inner)) walk(inner as Record<string, unknown>);
    }
  };
  walk(root);
  return places;
}

/** As a field of its own, whatever its name: JSON can say "__proto__" too. */
function put(holder: Record<string, unknown>, key: string, value: unknown): void {
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });
}

function drop(holder: Record<string, unknown>, key: string): void {
  if (Array.isArray(holder)) holder.splice(Number(key), 1);
  else delete holder[key];
}

function near(number: number, random: Random): number {
  return random.pick([number + 1, number - 1, -number, number * 2, Math.floor(number / 2), number + 0.5, number * 4_096]);
}

function damaged(text: string, random: Random): string {
  const at = random.below(text.length + 1);
  return random.pick([
    text.slice(0, at),
    text + text,
    text.slice(0, at) + random.pick(ABSURD_TEXTS) + text.slice(at),
    text.slice(0, at) + String.fromCharCode(random.below(256)) + text.slice(at + 1),
    text.toUpperCase(),
  ]);
}

function resized(view: ArrayBufferView, random: Random): Uint8Array {
  const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  const changed = new Uint8Array(Math.max(0, bytes.length + random.pick([-32, -4, -1, 0, 0, 1, 4, 32])));
  changed.set(bytes.subarray(0, changed.length));
  if (changed.length > 0) changed[random.below(changed.length)] = random.below(256);
  return changed;
}

function nest(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}
