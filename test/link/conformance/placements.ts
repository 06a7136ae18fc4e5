/** What `place` takes and refuses, and its table. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PlacementSpec, Plane } from "../../../transport/link/link.ts";
import { limits } from "../../../transport/limits.ts";
import { isError } from "./connections.ts";
import { finish, openPair, placeBoth, send, type Suite } from "./pair.ts";
import { flatShape, plainShape } from "./shapes.ts";

export function placementTests(suite: Suite): void {
  test("planes and chunks that leave the memory, or name what is not there, are refused", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const shape = flatShape(4, 1_000, 1_000);
    const transfer = placeBoth(pair, shape);
    const plane = shape.sender.planes[0] as Plane;
    const spec = transfer.outSpec;
    const refused = (code: string, changes: Partial<PlacementSpec>): void => {
      for (const direction of ["in", "out"] as const) {
        const end = direction === "in" ? pair.b : pair.a;
        const connection = direction === "in" ? pair.atB : pair.atA;
        const changed = { ...spec, grant: spec.grant + 5, direction, connection, ...changes };
        assert.throws(() => end.link.place(changed), isError(code), JSON.stringify(changes));
      }
    };
    const withPlane = (changes: Partial<Plane>): Partial<PlacementSpec> => ({ planes: [{ ...plane, ...changes }] });
    refused("range_invalid", withPlane({ offset: shape.bytes - 999 }));
    refused("range_invalid", withPlane({ blockStride: 2 ** 50 }));
    refused("range_invalid", withPlane({ elementBytes: shape.bytes }));
    refused("range_invalid", { blockLists: [Uint32Array.of(0, 2 ** 32 - 1, 1, 2)] });
    refused("range_invalid", withPlane({ heads: 2 ** 31, headStride: 2 ** 40 }));
    refused("range_invalid", { chunks: [{ plane: 0, start: 3_001, bytes: 1_000 }] });
    refused("range_invalid", { chunks: [{ plane: 0, start: 4_000, bytes: 1 }] });
    refused("invalid_argument", { chunks: [{ plane: 1, start: 0, bytes: 1_000 }] });
    refused("invalid_argument", { chunks: [{ plane: 0, start: 0, bytes: 0 }] });
    refused("invalid_argument", { chunks: [{ plane: 0, start: 0, bytes: limits.chunkBytesMax + 1 }] });
    refused("invalid_argument", { chunks: [] });
    refused("invalid_argument", { planes: [] });
    refused("invalid_argument", withPlane({ blockList: 1 }));
    refused("invalid_argument|range_invalid", withPlane({ tokens: 0 }));
    refused("invalid_argument|range_invalid", withPlane({ elementBytes: 0 }));
    refused("invalid_argument", { grant: 0 });
    refused("invalid_argument", { grant: 2 ** 53 });
    refused("invalid_argument", { grant: 1.5 });
    refused("invalid_argument", { generation: 2 ** 32 });
    refused("invalid_argument", { committed: [4] });
    // The link is none the worse.
    await send(transfer);
    await finish(pair, [transfer]);
  });

  test("a grant names one incoming placement of a connection at a time", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const transfer = placeBoth(pair, flatShape(2, 1_000, 1_000));
    assert.throws(() => pair.b.link.place({ ...transfer.inSpec, generation: 9 }), isError("invalid_argument"));
    const outs = [pair.a.place(transfer.outSpec), pair.a.place(transfer.outSpec)];
    assert.equal(new Set([transfer.out, ...outs]).size, 3, "a sender may place the same chunks again");
    await pair.b.revoke(transfer.into);
    const again = pair.b.place({ ...transfer.inSpec, generation: 2 });
    assert.notEqual(again, transfer.into);
    await pair.b.revoke(again);
  });

  test("a full table says so, and has room again when a placement was taken back", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1, limits: { placementsMax: 2 } });
    const shape = flatShape(2, 1_000, 1_000);
    const first = placeBoth(pair, shape);
    const second = placeBoth(pair, shape);
    assert.equal(pair.a.link.place(first.outSpec), "full");
    assert.equal(pair.b.link.place({ ...first.inSpec, grant: 77 }), "full");
    await pair.a.revoke(first.out);
    await pair.b.revoke(first.into);
    const third = placeBoth(pair, shape);
    await send(second);
    await send(third);
    await finish(pair, [second, third]);
  });

  test("lists that the caller changes after place change nothing", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const shape = flatShape(4, 500, 700);
    const blockLists = shape.receiver.blockLists.map((blocks) => blocks.slice());
    const own = { ...shape, receiver: { ...shape.receiver, blockLists } };
    const transfer = placeBoth(pair, own);
    for (const blocks of blockLists) blocks.fill(0);
    const unchanged = { ...transfer, shape };
    await send(unchanged);
    await finish(pair, [unchanged]);
  });

  test("revoke is idempotent and knows no strangers", async (t) => {
    const pair = await openPair(t, suite, { lanes: 1 });
    const transfer = placeBoth(pair, plainShape(1, 100));
    pair.a.link.revoke(transfer.out);
    pair.a.link.revoke(transfer.out);
    await pair.a.event("revoked", { placement: transfer.out });
    pair.a.link.revoke(transfer.out);
    pair.a.link.revoke(123_456_789);
    await pair.b.revoke(transfer.into);
    assert.equal(pair.a.all("revoked").length, 1);
    pair.a.check();
  });
}
