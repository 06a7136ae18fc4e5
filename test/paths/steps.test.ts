/**
 * The policies of a path on links that are made for one rule each: a step of the rate, the recorded trace, others' traffic, a cap, windows and processors
 * that bound a lane. Method: a run of so many seconds on the model, and what came out of it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../sim/random.ts";
import { Drive, type DriveOptions, type Reading } from "./drive.ts";
import { PROFILES } from "./profiles.ts";
import { type LinkSpec, linkSpec, OPEN_HOST } from "./spec.ts";

const MBIT = 1_000_000;
const SECOND = 1_000_000;
const MiB = 1024 * 1024;

interface Run {
  /** Of the seconds after `fromSeconds`: payload in bit/s, ours and of all foreign flows. */
  readonly ours: number;
  readonly foreign: number;
  /** What the link took in them at most. */
  readonly capacity: number;
  readonly readings: readonly Reading[];
  readonly lanes: number;
}

function run(spec: LinkSpec, options: DriveOptions & { readonly fromSeconds: number }, seed = 1): Run {
  const readings: Reading[] = [];
  const drive = new Drive(spec, { ...options, onReading: (reading) => readings.push(reading) }, new Random(seed));
  const { network } = drive;
  const foreign = (): number => network.foreign.reduce((sum, flow) => sum + flow.deliveredBytes, 0);
  let [ours, others, capacity] = [0, 0, 0];
  drive.run(() => {
    if (network.nowUs <= options.fromSeconds * SECOND) [ours, others] = [drive.deliveredBytes, foreign()];
    else capacity += network.capacity * network.stepUs;
  });
  const seconds = options.seconds - options.fromSeconds;
  return {
    ours: ((drive.deliveredBytes - ours) * 8) / seconds,
    foreign: ((foreign() - others) * 8) / seconds,
    capacity: (capacity * 8) / SECOND / seconds,
    readings,
    lanes: drive.lanes,
  };
}

const long = { bitsPerSecond: 1_000 * MBIT, rttUs: 50_000, queueBytes: 6 * MiB };

/** One lane of BBR finds a quarter more in eight round trips; two have a queue between them, and what is new at once. */
const STEPS: readonly { readonly rttUs: number; readonly from: number; readonly to: readonly number[] }[] = [
  { rttUs: 20_000, from: 1_000, to: [800, 500, 250] },
  { rttUs: 20_000, from: 500, to: [600, 750, 1_000] },
  { rttUs: 50_000, from: 1_000, to: [800, 500, 250] },
  { rttUs: 50_000, from: 500, to: [600, 750, 1_000] },
];

for (const { rttUs, from, to } of STEPS) {
  test(`a step from ${from} Mbit/s at ${rttUs / 1_000} ms is in the estimate within a second`, () => {
    for (const rate of to) {
      for (const seed of [1, 2, 3]) {
        const timeline = [{ us: 15 * SECOND, bitsPerSecond: rate * MBIT }];
        const spec = linkSpec({ ...long, bitsPerSecond: from * MBIT, reverseBitsPerSecond: 1_000 * MBIT, rttUs, loss: 0.0005, timeline });
        const { readings } = run(spec, { seconds: 17, fromSeconds: 0 }, seed);
        const { estimate, capacity, nowUs } = readings.find((reading) => reading.nowUs >= 16 * SECOND)!;
        const ratio = estimate.goodputBytesPerSecond / capacity;
        assert.ok(
          Math.abs(ratio - 1) <= 0.1,
          `to ${rate}, seed ${seed}: ${ratio.toFixed(2)} of the truth at ${nowUs} us, ${estimate.reason}`,
        );
      }
    }
  });
}

test("the recorded trace is used to 0.92 and more of what it offers, with either congestion control", () => {
  for (const control of ["bbr", "cubic"] as const) {
    const { ours, capacity } = run({ ...PROFILES.congested, control }, { seconds: 61, fromSeconds: 0 });
    assert.ok(ours >= 0.92 * capacity, `${control}: ${(ours / capacity).toFixed(3)}`);
  }
});

test("background leaves a foreign BBR flow four fifths of what it had alone, and moves; without others it has the path", () => {
  for (const rttUs of [2_000, 20_000, 50_000]) {
    const spec = linkSpec({ ...long, rttUs, foreignFlows: 1 });
    const alone = run(spec, { seconds: 25, fromSeconds: 10, peerCap: 1 });
    const beside = run(spec, { seconds: 25, fromSeconds: 10, isBackground: true });
    assert.ok(beside.foreign >= 0.8 * alone.foreign, `${rttUs} us: ${beside.foreign} of ${alone.foreign}`);
    assert.ok(beside.ours >= 1 * MBIT, `${rttUs} us: background at ${beside.ours}`);
    const empty = run({ ...spec, foreignFlows: 0 }, { seconds: 25, fromSeconds: 10, isBackground: true });
    assert.ok(empty.ours >= 0.9 * empty.capacity, `${rttUs} us: ${empty.ours} of ${empty.capacity} without others`);
  }
});

test("a cap of 300 Mbit/s is held within 3 %, over one lane and over many", () => {
  for (const lanes of [1, 4, 16]) {
    for (const control of ["bbr", "cubic"] as const) {
      const { ours } = run(linkSpec({ ...long, control }), { seconds: 15, fromSeconds: 5, least: lanes, most: lanes, peerCap: 37_500_000 });
      assert.ok(Math.abs(ours / (300 * MBIT) - 1) <= 0.03, `${lanes} lanes of ${control}: ${ours}`);
    }
  }
});

test("BBR begins with many lanes on a long path and ends with few, and hardly loses goodput on the way", () => {
  for (const profile of ["regional", "continental", "lossy", "bursty"] as const) {
    const { lanes, ours, capacity, readings } = run(PROFILES[profile], { seconds: 30, fromSeconds: 2 });
    assert.equal(readings[0]!.decision.lanes.lanes, 16);
    assert.ok(lanes <= 4 && ours >= 0.93 * capacity, `${profile}: ${lanes} lanes, ${(ours / capacity).toFixed(3)}`);
  }
});

test("no lanes are added where a queue stands, whoever makes it", () => {
  const specs = [
    linkSpec({ ...long, foreignFlows: 2, foreignControl: "cubic" }),
    linkSpec({ ...long, foreignFlows: 2, foreignControl: "bbr" }),
    linkSpec({ ...long, control: "cubic", foreignFlows: 1, foreignControl: "cubic" }),
  ];
  for (const spec of specs) {
    const { readings } = run(spec, { seconds: 25, fromSeconds: 0 });
    readings.forEach(({ decision }, at) => {
      const before = readings[at - 1];
      // Lanes that were given up may come back.
      if (before === undefined || decision.lanes.lanes <= Math.max(...readings.slice(0, at).map((one) => one.decision.lanes.lanes))) return;
      const queues = readings.slice(Math.max(at - 4, 0), at).map(({ estimate }) => estimate.queueUs);
      assert.ok(Math.min(...queues) < spec.rttUs / 8, `${decision.lanes.reason}: queues ${queues.join(", ")}`);
    });
  }
});

test("cubic with losses climbs to as many lanes as help, and no further than allowed", () => {
  const lossy = run({ ...PROFILES.continental, control: "cubic" }, { seconds: 30, fromSeconds: 15 });
  assert.equal(lossy.lanes, 64);
  assert.ok(lossy.ours >= 0.5 * lossy.capacity, String(lossy.ours));
  const capped = run({ ...PROFILES.continental, control: "cubic" }, { seconds: 30, fromSeconds: 15, most: 24 });
  assert.equal(capped.lanes, 24);
  const clean = run({ ...PROFILES.lossless, control: "cubic" }, { seconds: 30, fromSeconds: 15 });
  assert.ok(clean.lanes <= 8 && clean.ours >= 0.95 * clean.capacity, `${clean.lanes} lanes, ${clean.ours}`);
});

test("lanes that wait for a window, or for a processor, become as many as the path needs", () => {
  const narrow = { ...OPEN_HOST, sendBufferBytes: 4 * MiB };
  const windows = run(linkSpec({ ...long, bitsPerSecond: 10_000 * MBIT, queueBytes: 32 * MiB, host: narrow }), {
    seconds: 30,
    fromSeconds: 15,
  });
  assert.ok(windows.lanes >= 14 && windows.ours >= 0.9 * windows.capacity, `${windows.lanes} lanes, ${windows.ours / windows.capacity}`);
  const slow = { ...OPEN_HOST, laneBytesPerSecond: 1.5e9 };
  const processors = run(linkSpec({ bitsPerSecond: 100_000 * MBIT, rttUs: 500, host: slow }), { seconds: 20, fromSeconds: 10 });
  assert.ok(processors.lanes >= 8 && processors.ours >= 0.9 * processors.capacity, `${processors.lanes} lanes, ${processors.ours}`);
});
