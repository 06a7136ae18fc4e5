/**
 * Coders that hold a path up: how fast they really go, and when a transfer goes as it is to see what the wire takes by now.
 * Method: readings one by one; then whole paths, on which transfers follow each other, chosen as a node does, over a wire and by coders of known rates.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chooseCodec, STORED } from "../../transport/policy/choose-codec.ts";
import { type CoderLoad, CoderRate } from "../../transport/policy/coder-rate.ts";
import { Path } from "../../transport/policy/path.ts";
import { READING_US } from "../../transport/policy/path-estimate.ts";
import { CountingLanes } from "./lanes.ts";

const MB = 1_000_000;
const SECOND_US = 1_000_000;
const WIRE = { bytesPerSecond: 1_000 * MB, looks: 9 };
const LANES = [0, 0].map((notSentBytes) => ({ notSentBytes, unansweredBytes: MB }));
/** Coded chunks wait, lanes do not. */
const HELD: CoderLoad = { lanes: LANES, lanesActive: 2, limit: "nothing to send", backlogBytes: 0, codedWireBytes: 3 * MB };
const FREE: CoderLoad = { ...HELD, codedWireBytes: 2 * MB };

class Readings {
  readonly coder = new CoderRate();
  nowUs = SECOND_US;

  /** So many tenths of a second in which `bytesPerSecond` went by each profile. */
  at(rates: Readonly<Record<string, number>>, readings: number, load = HELD): this {
    for (let reading = 0; reading < readings; reading++) {
      for (const [profile, rate] of Object.entries(rates)) this.coder.handleAcked((rate * READING_US) / SECOND_US, profile);
      this.coder.handleReading((this.nowUs += READING_US), load);
    }
    return this;
  }

  rate(profile = "p"): number {
    return Math.round(this.coder.rate(this.nowUs, profile) / MB);
  }
}

test("the rate of a profile is known from three intervals on at whose ends its coder was waited for, and for a minute", () => {
  const readings = new Readings().at({ p: 300 * MB }, 3);
  assert.equal(readings.rate(), 0, "the first reading ends no interval");
  assert.equal(readings.at({ p: 300 * MB }, 1).rate(), 300);
  assert.equal(readings.rate("q"), 0);
  for (let seconds = 1; seconds <= 60; seconds++) assert.equal(readings.at({}, 10, FREE).rate(), 300);
  assert.equal(readings.at({}, 1, FREE).rate(), 0);
  // What was then is no part of what is now.
  assert.equal(readings.at({ p: 100 * MB }, 4).rate(), 100);
});

test("what changes is found, and what the wire held up, or others had their part of, says nothing", () => {
  const readings = new Readings().at({ p: 300 * MB }, 5);
  assert.ok(readings.at({ p: 200 * MB }, 12).rate() <= 204);
  const before = readings.rate();
  assert.equal(readings.at({ p: 900 * MB }, 9, FREE).rate(), before);
  // The first held reading after the others begins an interval, and ends none.
  assert.equal(readings.at({ p: 900 * MB }, 1).rate(), before);
  assert.equal(readings.at({ p: 100 * MB, "": 50 * MB }, 9).rate(), before);
  assert.equal(readings.at({ p: 100 * MB, q: 100 * MB }, 9).rate(), before);
  assert.ok(readings.at({ p: 100 * MB, "": 5 * MB }, 20).rate() <= 102);
});

test("chunks wait for their coder where no lane has taken them, and one of those that might has nothing to send or the other end no room", () => {
  const busy = LANES.map((lane) => ({ ...lane, notSentBytes: 1 }));
  for (const [load, isHeld] of [
    [HELD, true],
    [FREE, false],
    [{ ...HELD, lanes: busy }, false],
    [{ ...HELD, lanes: busy, limit: "receiver" }, true],
    [{ ...HELD, lanes: busy, lanesActive: 3 }, true],
    [{ ...HELD, backlogBytes: 1 }, false],
  ] as const)
    assert.equal(new Readings().at({ p: 300 * MB }, 9, load).rate() > 0, isHeld, JSON.stringify(load));
});

test("after two seconds of it, and sixteen times what it costs, a transfer goes as it is; what is no news doubles the patience", () => {
  const readings = new Readings().at({ p: MB }, 20);
  assert.equal(readings.coder.explores(0, WIRE), false);
  readings.at({ p: MB }, 1);
  assert.equal(readings.coder.explores(126_000, WIRE), false, "two seconds pay for an eighth of one");
  assert.equal(readings.coder.explores(100_000, WIRE), true);
  assert.equal(readings.coder.explores(26_000, WIRE), false, "it is spent");
  const patience = (wire = WIRE): number => {
    for (let tenths = 1; ; tenths++) {
      if (!readings.at({ p: MB }, 1).coder.explores(0, wire)) continue;
      assert.equal(readings.coder.explores(0, { ...wire, looks: wire.looks + 8 }), false, "it has been seen");
      return tenths / 10;
    }
  };
  const faster = { ...WIRE, bytesPerSecond: 1.5 * WIRE.bytesPerSecond };
  assert.deepEqual([patience(), patience(), patience(), patience()], [2, 4, 8, 16]);
  assert.deepEqual([patience(faster), patience(faster), patience(faster)], [2, 2, 4]);
  for (let turn = 0; turn < 9; turn++) patience(faster);
  assert.equal(patience(faster), 128);
});

test("a look goes on until stored chunks have shown the wire often enough, with sixteen transfers at most", () => {
  const readings = new Readings().at({ p: MB }, 41);
  const tries = (looksOfEach: number): number => {
    for (let done = 0; ; done++) if (!readings.coder.explores(1_000, { ...WIRE, looks: 9 + done * looksOfEach })) return done;
  };
  assert.equal(tries(3), 3);
  assert.equal(readings.at({ p: MB }, 41).coder.explores(0, WIRE), true);
  assert.equal(tries(0), 15);
});

test("what waits and is not coded shows the wire: the time before does not count", () => {
  const readings = new Readings().at({ p: MB }, 21).at({ "": MB }, 1, { ...HELD, backlogBytes: 1 });
  assert.equal(readings.at({ p: MB }, 10).coder.explores(0, WIRE), false);
});

/** What happens to transfers of 40 MB, one after the other. */
class Scene {
  readonly path = new Path({ least: 4, most: 4, local: false, peerCap: 0, windowBytes: 64 * MB, chunkBytes: MB });
  readonly lanes = new CountingLanes(4, { rttUs: 1_000, minRttUs: 1_000 });
  readonly reasons: string[] = [];
  nowUs = SECOND_US;
  #readUs = 0;
  #delivered = 0;
  #readings = 0;
  #previous: string | undefined;

  /** @param promised what the codec is believed to do, `real` what it does; original bytes a second, as `ratio` is of them */
  go(
    seconds: number,
    wire: number,
    { promised, real, ratio }: { promised: number; real: number; ratio: number },
  ): { bytes: number; us: number } {
    const [startUs, endUs] = [this.nowUs, this.nowUs + seconds * SECOND_US];
    let bytes = 0;
    while (this.nowUs < endUs) {
      const isCoded = this.#choose({ promised, ratio });
      const rate = isCoded ? Math.min(real, wire * ratio) : wire;
      for (let chunk = 0; chunk < 40; chunk++) {
        const us = Math.round((MB * SECOND_US) / rate);
        const onTheWay = isCoded ? MB / ratio : MB;
        this.nowUs += us;
        this.#delivered += onTheWay;
        this.path.handleAcked(this.nowUs, onTheWay, us, isCoded ? { profile: "p", bytes: MB } : undefined);
        this.#read(isCoded, isCoded && real < wire * ratio);
      }
      bytes += 40 * MB;
    }
    return { bytes, us: this.nowUs - startUs };
  }

  #choose({ promised, ratio }: { promised: number; ratio: number }): boolean {
    const seenBytesPerSecond = this.path.codedRate(this.nowUs, "p");
    const speeds = { encodeBytesPerSecond: promised, decodeBytesPerSecond: promised, seenBytesPerSecond };
    const { profile, predictedUs, reason } = chooseCodec({
      ...{ bytes: 40 * MB, chunkBytes: MB, previous: this.#previous, goodputBytesPerSecond: this.path.wire(this.nowUs).bytesPerSecond },
      options: [{ profile: "p", lossless: true, ratio, ...speeds }],
    });
    const isTried = profile !== undefined && this.path.explores(this.nowUs, predictedUs.get(STORED)! - predictedUs.get(profile)!);
    this.reasons.push(isTried ? "explores" : reason);
    this.#previous = isTried ? undefined : profile;
    return this.#previous !== undefined;
  }

  #read(isCoded: boolean, isHeld: boolean): void {
    if (this.nowUs - this.#readUs < READING_US) return;
    // In half of the readings a coder's lanes are just sending.
    const notSentBytes = isHeld && ++this.#readings % 4 > 1 ? 0 : 500_000;
    const lanes = this.lanes
      .pass(this.nowUs - this.#readUs, this.#delivered)
      .map((lane) => ({ ...lane, notSentBytes: lane.lane === 0 ? 500_000 : notSentBytes }));
    const load = { lanesActive: 4, mostUrgent: "normal", tenantCap: 0, tenantSharing: 1 } as const;
    this.path.handleReading(this.nowUs, lanes, { ...load, backlogBytes: isCoded ? 0 : MB, codedWireBytes: isCoded ? MB : 0 });
    this.#readUs = this.nowUs;
    this.#delivered = 0;
  }
}

const CODER = { promised: 400 * MB, real: 400 * MB, ratio: 4 };

test("a wire that has become faster while its coder was waited for is found within seconds", () => {
  const scene = new Scene();
  scene.go(10, 125 * MB, CODER);
  assert.equal(scene.reasons.at(-1), "stays");
  // Twice as fast it is as well, and to code still pays.
  scene.go(10, 250 * MB, CODER);
  assert.equal(scene.reasons.at(-1), "stays");
  const before = scene.reasons.length;
  scene.go(20, 2_500 * MB, CODER);
  const after = scene.reasons.slice(before);
  assert.ok(after.includes("explores"), "it has looked");
  assert.equal(after.at(-1), "wire_is_faster");
  const coded = after.filter((reason) => reason === "stays" || reason === "pays").length;
  assert.ok(coded < 150, `${coded} transfers were coded`);
});

test("while the wire stays what it was, to look costs little, and ever less", () => {
  const scene = new Scene();
  const wire = 200 * MB;
  scene.go(5, wire, CODER);
  const [minute, hour] = [scene.go(60, wire, CODER), scene.go(3_600, wire, CODER)];
  const lost = ({ bytes, us }: typeof minute): number => 1 - bytes / (us / SECOND_US) / CODER.real;
  assert.ok(lost(minute) < 1 / 16, `${lost(minute)} of a minute`);
  assert.ok(lost(hour) < 1 / 256, `${lost(hour)} of an hour`);
  const looks = scene.reasons.filter((reason) => reason === "explores").length;
  assert.ok(looks > 8, `${looks} looks`);
});

test("a coder that does not do what its speed promises is found out, and tried again a minute later", () => {
  const hopeful = { promised: 600 * MB, real: 300 * MB, ratio: 4 };
  const wire = 400 * MB;
  const scene = new Scene();
  scene.go(5, wire, hopeful);
  const { bytes, us } = scene.go(300, wire, hopeful);
  assert.ok(bytes / (us / SECOND_US) > 0.98 * wire, `${bytes / (us / SECOND_US)}`);
  const coded = scene.reasons.filter((reason) => reason === "pays").length;
  assert.ok(coded >= 4 && coded < 40, `${coded} times`);
  // By then processors have less to do.
  scene.go(70, wire, { ...hopeful, real: 600 * MB });
  assert.equal(scene.reasons.at(-1), "stays");
});
