/**
 * The addon's own checks: whatever a function of it is called with, it throws or does nothing. The wrappers in transport/
 * name what is wrong before; this is about what gets past them.
 * Method: every export and every method, called with arguments from a list of odd ones, and with right ones of which some are
 * odd (fast-check).
 */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import fc from "fast-check";
import { native, nativeProblem } from "../../transport/native.ts";

const skip = native === undefined ? `no addon: ${nativeProblem}` : false;
type Call = (...args: unknown[]) => unknown;

const numbers = fc.constantFrom(
  0,
  1,
  2,
  3,
  -1,
  0.5,
  64,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53,
  2 ** 64,
  Number.NaN,
  Number.POSITIVE_INFINITY,
);
const arrays = fc.oneof(
  fc.uint8Array({ maxLength: 32 }),
  fc.uint32Array({ maxLength: 8 }),
  fc.array(numbers, { maxLength: 33 }).map((values) => Float64Array.from(values)),
  fc.constantFrom(
    new Uint8Array(0),
    new DataView(new ArrayBuffer(8)),
    new ArrayBuffer(8),
    new Uint8Array(new SharedArrayBuffer(8)),
    [1, 2],
  ),
);
const others = fc.constantFrom(
  undefined,
  null,
  true,
  "",
  "/nonexistent/kvferry",
  "a\0b",
  7n,
  {},
  { connections: -1 },
  Symbol("odd"),
  () => {},
);
const odd = fc.array(fc.oneof(numbers, arrays, others), { maxLength: 9 });

/** A constructor is called as one. */
function attempt(call: Call, args: readonly unknown[]): void {
  try {
    const made = call(...args);
    // What was made by chance is closed: a region, a promise of one, a watch.
    if (made instanceof Promise) made.catch(() => {});
    else if (typeof made === "function") made();
    else (made as { close?: () => void } | undefined)?.close?.();
  } catch (error) {
    assert.ok(error instanceof Error);
  }
}

const region = native?.borrowRegion(new Uint8Array(65_536));
const plane = Float64Array.of(0, 0, 4_096, 2, 1_024, 2, 512, 256, 2, 2, 0);
const blocks = Uint32Array.of(0, 3);
const stream = [region?.id, plane, blocks];
/** Right arguments, by the name of what takes them: one or two are replaced by odd ones, so that the later ones are looked at too. */
const RIGHT: Readonly<Record<string, readonly unknown[]>> = {
  crc32c: [new Uint8Array(100), 0, "scalar"],
  crc32cCombine: [1, 2, 3],
  runs: [65_536, plane, blocks, 0, 4_096],
  makePoolRegion: ["/nonexistent/pool", 1 << 20, 1, -1],
  attachRegion: ["/nonexistent/pool", 4_096, false],
  attachBufferRegion: ["/nonexistent/buffer", 4_096],
  borrowRegion: [new Uint8Array(64)],
  watchProcess: [process.pid, () => {}],
  checksum: [1, ...stream],
  copy: [2, ...stream, ...stream],
  place: [1, 5, 1, 1, ...stream.slice(0, 2), [blocks], Float64Array.of(0, 0, 4_096), new Uint32Array(0)],
  dial: [1, ["127.0.0.1"], 1, 100],
  admitLanes: [1, new Uint8Array(16), 0, 65_536, "", 65_536, 10],
  openLane: [1, 0, new Uint8Array(16), 0, 65_536, "", 65_536, 10],
  tuneLane: [1, 0, 0, 65_536, "", 65_536, 10],
  abandon: [1, 21, "why"],
};

function argumentsOf(name: string): fc.Arbitrary<readonly unknown[]> {
  const right = RIGHT[name];
  // Gibibytes that the host may well have are nothing to ask for here.
  if (name === "makeBufferRegion") return odd.filter(([bytes]) => typeof bytes !== "number" || !(bytes > 65_536 && bytes < 2 ** 53));
  if (right === undefined) return odd;
  const change = fc.tuple(fc.nat(right.length - 1), fc.oneof(numbers, arrays, others));
  const changed = fc.array(change, { maxLength: 2 }).map((changes) => {
    const args = [...right];
    for (const [at, value] of changes) args[at] = value;
    return args;
  });
  return fc.oneof(odd, { arbitrary: changed, weight: 4 });
}

test("exported functions throw or do nothing", { skip }, () => {
  const functions = Object.entries(native ?? {}).filter(([name, value]) => typeof value === "function" && !name.startsWith("Native"));
  assert.ok(functions.length >= 6);
  for (const [name, call] of functions) {
    fc.assert(
      fc.property(argumentsOf(name), (args) => attempt(call as Call, args)),
      { numRuns: 500 },
    );
  }
});

test("a path is absolute, and not what stands before a zero in it", { skip }, () => {
  for (const path of ["relative", "", join(tmpdir(), "kvferry-cut\0short")]) {
    assert.throws(() => native?.makePoolRegion(path, 1 << 20, 0, -1));
    assert.throws(() => native?.attachRegion(path, 4_096, false));
    assert.throws(() => native?.attachBufferRegion(path, 4_096));
  }
  assert.equal(existsSync(join(tmpdir(), "kvferry-cut")), false);
});

test("constructors throw, and what is half made harms nobody", { skip }, () => {
  for (const constructor of [native?.NativeJobs, native?.NativeMover] as unknown as (new (
    ...args: unknown[]
  ) => { close(): void })[]) {
    // More threads than a test should start are left out.
    const few = odd.filter((args) => args.every((value) => typeof value !== "number" || !(value > 64)));
    fc.assert(
      fc.property(few, (args) => attempt((...given) => new constructor(...given), args)),
      { numRuns: 300 },
    );
    assert.throws(() => (constructor as unknown as Call)());
  }
});

test("methods of jobs throw or do nothing, on nothing, open or closed", { skip }, () => {
  assert.ok(native !== undefined);
  const jobs = new native.NativeJobs(1, 4, () => {});
  methods(jobs, ["checksum", "copy", "collect"]);
  jobs.close();
  methods(jobs, ["checksum", "copy", "collect", "close"]);
});

test("methods of a mover throw or do nothing, on nothing, open or closed", { skip }, () => {
  assert.ok(native !== undefined);
  const bounds = {
    ...{
      connections: 4,
      lanes: 4,
      placements: 4,
      submissions: 16,
      completions: 64,
      sendQueueChunks: 16,
      chunkBytes: 1 << 20,
      greetings: 4,
      recordsPerKey: 64,
    },
    ...{
      messageBytes: 4_096,
      greetingBytes: 4_096,
      queueBytes: 8_192,
      preambleTimeoutMs: 1_000,
      connectTimeoutMs: 1_000,
      notSentLowBytes: 65_536,
    },
  };
  for (const kind of ["fake", "tcp"] as const) {
    const mover = new native.NativeMover(kind, bounds, 1, () => {});
    const names = Object.getOwnPropertyNames(Object.getPrototypeOf(mover)).filter((name) => name !== "close" && name !== "constructor");
    assert.ok(names.length >= 15);
    methods(mover, names);
    mover.close();
    methods(mover, [...names, "close"]);
  }
});

function methods(target: object, names: readonly string[]): void {
  for (const name of names) {
    const method = (target as Record<string, Call>)[name] as Call;
    const property = fc.property(argumentsOf(name), (args) => attempt((...given) => Reflect.apply(method, target, given), args));
    fc.assert(property, { numRuns: 500 });
    assert.throws(() => Reflect.apply(method, {}, []), "on an object of another kind");
  }
}
