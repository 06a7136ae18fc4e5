/** What BBR would have given. Method: runs made by hand. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { bbrText, type WithoutBbr } from "../../bench/bbr.ts";

const interval = (megabits: number, retransmits: number, more: object = {}) => {
  const bytes = (megabits * 1e6) / 8;
  return {
    case: "a",
    min_rtt: 50_000,
    sum: { bytes, wire_bytes: bytes, bits_per_second: megabits * 1e6, retransmits, omitted: false, ...more },
  };
};

function text(more: Partial<Record<keyof WithoutBbr, unknown>> = {}): string {
  const intervals = [interval(40, 4), interval(60, 5), interval(900, 900, { omitted: true }), { ...interval(800, 9), case: "b" }];
  const run = { congestion: "cubic", result: { case: "a", bw_avg_bits_per_second: 50e6 }, intervals, link: null, ...more };
  return bbrText(run as unknown as WithoutBbr, "m");
}

test("on a link whose rate is known, and on one that showed what it carries", () => {
  // 9 segments of 12.5 MB: 0.104 %.
  const known = text({ link: { rate_mbit: 1_000 } });
  assert.match(
    known,
    /^with BBR about 998\.96 Mbit\/s instead of 50\.00 Mbit\/s \(estimate: cubic sent 0\.104 % again, where one flow of cubic averages 8\.610 /,
  );
  assert.match(known, /BBR fills the link's rate whatever is lost/);
  assert.match(text(), /^with BBR about 59\.94 Mbit\/s instead of 50\.00 .*fills the most that it carried in an interval/);
  assert.match(text({ link: { rate_mbit: 0 } }), /about 59\.94 /, "no rate is no bound");
});

test("nothing is said of BBR itself, of links without TCP, nor where nothing was lost", () => {
  for (const congestion of ["bbr", "bbr3", ""]) assert.equal(text({ congestion }), "");
  assert.equal(text({ intervals: [interval(40, 0)] }), "");
  assert.equal(text({ intervals: [{ ...interval(800, 9), case: "b" }] }), "");
});
