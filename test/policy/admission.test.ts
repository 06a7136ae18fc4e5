/** Who is let in: each rule once, and as a property that bounds hold and nobody is shut out of an idle node. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type AdmissionLoad, admit } from "../../transport/policy/admission.ts";

const idle: AdmissionLoad = { transfers: 0, bytes: 0, peers: 0, transfersOfPeer: 0, bytesOfPeer: 0 };
const bounds = { transfersMax: 8, bytesMax: 1_000 };

test("an idle node takes whatever comes, larger than its bound too", () => {
  assert.equal(admit(idle, 5_000, bounds).admit, true);
  assert.equal(admit(idle, 10 ** 9).admit, true);
});

test("a full table and full memory are told apart", () => {
  const full = admit({ ...idle, transfers: 8, peers: 8, bytes: 10 }, 1, bounds);
  assert.deepEqual([full.admit, full.code], [false, "too_many_transfers"]);
  assert.match(full.reason, /8 of 8/);
  const heavy = admit({ ...idle, transfers: 1, peers: 1, bytes: 990 }, 20, bounds);
  assert.deepEqual([heavy.admit, heavy.code], [false, "full"]);
});

test("one peer alone may use everything", () => {
  for (let transfers = 0; transfers < 8; transfers++) {
    const load = {
      transfers,
      bytes: transfers * 100,
      peers: transfers === 0 ? 0 : 1,
      transfersOfPeer: transfers,
      bytesOfPeer: transfers * 100,
    };
    assert.equal(admit(load, 100, bounds).admit, true, `transfer ${transfers}`);
  }
});

test("beside another, a peer gets its share once the node is half full", () => {
  const busy = { transfers: 5, bytes: 50, peers: 2, transfersOfPeer: 4, bytesOfPeer: 40 };
  assert.equal(admit(busy, 10, bounds).code, "too_many_transfers");
  assert.equal(admit({ ...busy, transfersOfPeer: 1, bytesOfPeer: 10 }, 10, bounds).admit, true);
  const heavy = { transfers: 2, bytes: 600, peers: 2, transfersOfPeer: 1, bytesOfPeer: 450 };
  assert.equal(admit(heavy, 100, bounds).code, "full");
  assert.equal(admit({ ...heavy, bytesOfPeer: 150 }, 100, bounds).admit, true);
});

test("property: never more transfers than the bound, never more bytes unless alone, and every refusal has a code", () => {
  const mine = fc.record({ transfers: fc.nat(20), bytes: fc.nat(2_000) });
  const others = fc.record({ transfers: fc.nat(20), bytes: fc.nat(2_000), peers: fc.integer({ min: 1, max: 5 }) });
  fc.assert(
    fc.property(mine, others, fc.integer({ min: 1, max: 3_000 }), (of, rest, bytes) => {
      const load = {
        transfers: of.transfers + rest.transfers,
        bytes: of.bytes + rest.bytes,
        peers: rest.peers + (of.transfers > 0 ? 1 : 0),
        transfersOfPeer: of.transfers,
        bytesOfPeer: of.bytes,
      };
      const answer = admit(load, bytes, bounds);
      if (answer.admit) assert.ok(load.transfers < bounds.transfersMax && (load.bytes === 0 || load.bytes + bytes <= bounds.bytesMax));
      assert.equal(answer.code === "", answer.admit);
      assert.ok(answer.reason.length > 10);
    }),
  );
});
