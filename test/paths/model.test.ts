/**
 * The link model against the lab: what was measured there (measured.ts) comes out of the model within a tenth. And the model by itself: the same seed
 * gives the same bytes, nothing arrives that was not sent, and several BBR lanes overflow a queue that one does not.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Random } from "../sim/random.ts";
import { runFixed } from "./fixed.ts";
import { MEASURED } from "./measured.ts";
import { modelled } from "./model.ts";
import { Network } from "./network.ts";
import { PROFILES } from "./profiles.ts";

const TOLERANCE = 0.1;

for (const measured of MEASURED) {
  const { profile, how, control, values } = measured;
  test(`${profile}, ${how}, ${control}: within a tenth of the lab`, () => {
    for (const [lanes, value] of Object.entries(values)) {
      const model = modelled(measured, Number(lanes));
      assert.ok(Math.abs(model / value - 1) <= TOLERANCE, `${lanes} lanes: ${value} in the lab, ${model.toFixed(4)} in the model`);
    }
  });
}

test("several BBR lanes overflow a queue that one leaves empty, as in the lab (64 and 5,000 repeats a second)", () => {
  const load = { fromSeconds: 5, toSeconds: 20 };
  const [one, four, sixteen] = [1, 4, 16].map((lanes) => runFixed(PROFILES.continental, { lanes, ...load }, 1));
  assert.ok(one!.repeatsPerSecond < 130 && one!.meanQueueUs < 5_000, `one lane: ${JSON.stringify(one)}`);
  for (const many of [four!, sixteen!])
    assert.ok(many.repeatsPerSecond > 1_000 && many.meanQueueUs > 25_000, `several lanes: ${JSON.stringify(many)}`);
});

test("the same seed gives the same bytes, another one others", () => {
  const bytes = (seed: number): number => runFixed(PROFILES.bursty, { lanes: 4, fromSeconds: 1, toSeconds: 4 }, seed).bytesPerSecond;
  assert.equal(bytes(7), bytes(7));
  assert.notEqual(bytes(7), bytes(8));
});

test("what arrives was sent, and is no more than the link takes", () => {
  for (const profile of Object.values(PROFILES)) {
    for (const control of ["bbr", "cubic"] as const) {
      const network = new Network({ ...profile, control }, new Random(3));
      for (let lane = 0; lane < 5; lane++) network.openOurs(lane, 0);
      const flows = network.ours;
      let taken = 0;
      let room = 0;
      while (network.nowUs < 12_000_000) {
        taken += network.step(5e6);
        room += (network.capacity * network.stepUs) / 1_000_000;
        for (const { deliveredBytes, sentBytes, repeatedBytes, inflightBytes } of flows) {
          assert.ok(deliveredBytes <= sentBytes && repeatedBytes <= sentBytes && inflightBytes >= 0);
        }
      }
      const delivered = flows.reduce((sum, flow) => sum + flow.deliveredBytes, 0);
      // Rounding aside, and what the queue held when the link died.
      assert.ok(delivered > 0 && delivered <= taken * 1.000001 && delivered <= room * 1.01, `${delivered} of ${taken}, room for ${room}`);
    }
  }
});
