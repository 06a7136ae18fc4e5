/** Numbers with units as people write them: sizes ("64MiB"), rates ("2Gbit"), durations ("2s"). undefined: it does not parse. */

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 2 ** 10,
  kib: 2 ** 10,
  kb: 1e3,
  m: 2 ** 20,
  mib: 2 ** 20,
  mb: 1e6,
  g: 2 ** 30,
  gib: 2 ** 30,
  gb: 1e9,
  t: 2 ** 40,
  tib: 2 ** 40,
  tb: 1e12,
};

/**
 * Bytes per second. SI, as on a network card's box; the words with "bit" in any case, the short forms by their capital: Gb is bits,
 * GB is bytes.
 * A bare K, M or G is refused: iperf3 means bits by it, dd means bytes.
 */
const RATE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  kB: 1e3,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  b: 1 / 8,
  kb: 125,
  Kb: 125,
  Mb: 125e3,
  Gb: 125e6,
  Tb: 125e9,
};
const BIT_UNITS: Readonly<Record<string, number>> = { bit: 1 / 8, kbit: 125, mbit: 125e3, gbit: 125e6, tbit: 125e9 };
const DURATION_UNITS: Readonly<Record<string, number>> = { "": 1, ms: 1, s: 1_000, m: 60_000, min: 60_000, h: 3_600_000 };

/** Bytes: a number, or digits with a unit. K, M, G and T alone are binary, as everywhere in memory. */
export function parseSize(value: unknown): number | undefined {
  return wholeOf(parseWithUnits(value, SIZE_UNITS));
}

/** Bytes per second: a number is bytes per second; "2Gbit", "2Gbit/s", "2Gbps" are bits; "250MB/s" and "1GiB" are bytes. */
export function parseRate(value: unknown): number | undefined {
  if (typeof value === "number") return wholeOf(value);
  if (typeof value !== "string") return undefined;
  const text = value.trim().replace(/bps$/, "b").replace(/\/s$/, "");
  return wholeOf(parseWithUnits(text, BIT_UNITS) ?? parseWithUnits(text, RATE_UNITS, true));
}

/** Milliseconds: a number is milliseconds; "2s", "500ms", "1m". */
export function parseDuration(value: unknown): number | undefined {
  return wholeOf(parseWithUnits(value, DURATION_UNITS));
}

export function parseBoolean(value: unknown): boolean | undefined {
  if (typeof value === "boolean") return value;
  if (typeof value !== "string") return undefined;
  const word = value.trim().toLowerCase();
  if (["true", "yes", "on", "1"].includes(word)) return true;
  if (["false", "no", "off", "0"].includes(word)) return false;
  return undefined;
}

/** "64 MiB"; exact where a binary unit divides it, otherwise with two decimals. */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  while (unit < units.length - 1 && Math.abs(value) >= 1024) {
    value /= 1024;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(2)} ${units[unit]}`;
}

/** "2 Gbit/s" from bytes per second. */
export function formatRate(bytesPerSecond: number): string {
  const units = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];
  let unit = 0;
  let value = bytesPerSecond * 8;
  while (unit < units.length - 1 && Math.abs(value) >= 1000) {
    value /= 1000;
    unit++;
  }
  return `${Number.isInteger(value) ? value : value.toFixed(2)} ${units[unit]}`;
}

function parseWithUnits(value: unknown, units: Readonly<Record<string, number>>, exactCase = false): number | undefined {
  if (typeof value === "number") return Number.isFinite(value) ? value : undefined;
  if (typeof value !== "string") return undefined;
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(value.trim());
  if (match === null) return undefined;
  const unit = exactCase ? match[2]! : match[2]!.toLowerCase();
  // Object.hasOwn: "constructor" is not a unit.
  return Object.hasOwn(units, unit) ? Number(match[1]) * units[unit]! : undefined;
}

function wholeOf(value: number | undefined): number | undefined {
  if (value === undefined) return undefined;
  const whole = Math.round(value);
  return Number.isSafeInteger(whole) && whole >= 0 && (Number.isInteger(value) || whole > 0) ? whole : undefined;
}
