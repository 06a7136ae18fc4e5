/** What `--impair` asks of the WAN lab (bench/lab/wan): a profile by name, values of its own, or both. Throws KvferryError (invalid_argument). */
import { expected } from "../transport/check.ts";

export const PROFILES = ["ideal", "metro", "regional", "continental", "lossy", "bursty", "congested", "blackout", "asymmetric"] as const;

type Range = readonly [low: number, high: number];

/** Least and most of each key, as the emulator has them; units as `--help` lists them. */
export const KEYS: Readonly<Record<string, Range>> = {
  rate: [0, 1e6],
  delay: [0, 10_000],
  jitter: [0, 10_000],
  queue: [1, 1e7],
  burst: [0, 1_000],
  loss: [0, 100],
  ge_p: [0, 100],
  ge_r: [0, 100],
  ge_loss: [0, 100],
  reorder: [0, 100],
  reorder_ms: [0, 10_000],
  corrupt: [0, 100],
  down: [0, 1],
  hold: [0, 1],
};

/** End b of every link; a, where this side measures, is 10.77.0.1. */
export const LAB_HOST = "10.77.0.2";

export interface Impairment {
  /** "" = none: everything as the emulator begins. */
  readonly profile: string;
  /** On top of the profile: numbers, and the path of a timeline. */
  readonly keys: Readonly<Record<string, number | string>>;
}

export const IMPAIRMENT_HELP = `
--impair PROFILE, KEY=VALUE,... or PROFILE,KEY=VALUE,...: both ends run on this machine, at the two ends of an emulated WAN
(bench/lab/wan/README.md; Linux, root, /dev/net/tun, iproute2, a C compiler).
  Profiles  ${PROFILES.join(" ")}
  Keys      rate (Mbit/s; 0: unlimited), delay (ms ONE WAY, half of the round trip), jitter (ms), queue (KiB, default: 4096), burst (ms),
            loss (%), ge_p ge_r ge_loss (%, Gilbert-Elliott), reorder (%), reorder_ms, corrupt (%), down, hold (0 or 1), timeline (a file)
            for both directions, or for one: ab.KEY from the client to the server, ba.KEY back`;

export function parseImpairment(value: string): Impairment {
  const [first = "", ...rest] = value.split(",");
  const profile = PROFILES.find((name) => name === first) ?? "";
  const keys: Record<string, number | string> = {};
  for (const word of profile === "" ? [first, ...rest] : rest) {
    const [, name = "", text = ""] = /^((?:ab\.|ba\.)?\w+)=(.*)$/.exec(word) ?? [];
    const range = rangeOf(name);
    if (range === undefined && name !== "timeline") {
      const profiles = profile === "" && Object.keys(keys).length === 0 ? `a profile (${PROFILES.join(", ")}) or ` : "";
      throw expected(`${profiles}KEY=VALUE (${keyNames()})`, "--impair", word);
    }
    if (keys[name] !== undefined) throw expected(`each key once, and not ${name} again,`, "--impair", value);
    keys[name] = range === undefined ? fileOf(text) : numberOf(name, range, text);
  }
  return { profile, keys };
}

/** The command that runs this one at an end of a link. */
export function atEnd(name: string, end: "a" | "b", command: readonly string[]): string[] {
  return ["ip", "netns", "exec", `${name}${end}`, ...command];
}

/** As wan.sh takes it. */
export function wordsOf({ profile, keys }: Impairment): string[] {
  return [...(profile === "" ? [] : [profile]), ...Object.entries(keys).map(([name, value]) => `${name}=${value}`)];
}

function keyNames(): string {
  return `${[...Object.keys(KEYS), "timeline"].join(", ")}; of one direction: ab.KEY, ba.KEY`;
}

function rangeOf(name: string): Range | undefined {
  const key = name.replace(/^(?:ab|ba)\./, "");
  return Object.hasOwn(KEYS, key) ? KEYS[key] : undefined;
}

function numberOf(name: string, [low, high]: Range, text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= low && value <= high)) throw expected(`a number from ${low} to ${high}`, `--impair ${name}`, text);
  return value;
}

/** The lab's words are parted by blanks. */
function fileOf(text: string): string {
  if (!/^\S+$/.test(text)) throw expected("a file without blanks in its path", "--impair timeline", text);
  return text;
}
