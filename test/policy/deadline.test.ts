/** The default deadline. Method: its parts, then that it grows with what makes a transfer longer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { defaultDeadline } from "../../transport/policy/deadline.ts";

const DEFAULTS = { localMs: 2_000, remoteMs: 30_000 };

test("two seconds on a host, thirty across, and the time of its bytes at 1 Gbit/s", () => {
  assert.equal(defaultDeadline(DEFAULTS, true, 0).deadlineMs, 2_000);
  assert.equal(defaultDeadline(DEFAULTS, false, 0).deadlineMs, 30_000);
  assert.equal(defaultDeadline(DEFAULTS, true, 125_000_000).deadlineMs, 3_000);
  assert.match(defaultDeadline(DEFAULTS, true, 1).reason, /2000 ms for a peer here, 1 ms for 1 bytes/);
});

test("property: more bytes never have less time, and elsewhere never has less than here", () => {
  const bytes = fc.integer({ min: 0, max: 2 ** 46 });
  fc.assert(
    fc.property(bytes, bytes, (a, b) => {
      const [few, many] = [Math.min(a, b), Math.max(a, b)];
      for (const local of [true, false])
        assert.ok(defaultDeadline(DEFAULTS, local, few).deadlineMs <= defaultDeadline(DEFAULTS, local, many).deadlineMs);
      assert.ok(defaultDeadline(DEFAULTS, true, few).deadlineMs < defaultDeadline(DEFAULTS, false, few).deadlineMs);
    }),
  );
});
