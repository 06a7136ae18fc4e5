/**
 * One end of a native link in a process or thread of its own: dials `port`, opens three lanes, sends a standing chunk over and over, and
 * lets the other end write into its memory. Ends as it is told to: `exit` after some chunks, or never (`hold`).
 */
import { createFakeLink } from "../../transport/link/fake.ts";
import type { ConnectionId, LinkEvent, PlacementId } from "../../transport/link/link.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { privateRegion } from "../../transport/memory/region.ts";
import { LANE, TOKEN } from "./conformance/pair.ts";
import { plainShape } from "./conformance/shapes.ts";

export const CHILD_SHAPE = plainShape(6, 300_000);
/** Grants: what the child sends into, and what it lets be written. */
export const CHILD_SENDS = 11;
export const CHILD_TAKES = 12;

export function runChild(kind: string, port: number, end: string): void {
  let out: PlacementId = 0;
  let acked = 0;
  let committed = 0;
  const submit = (chunk: number, sequence: number): void => {
    link.submit([{ placement: out, chunk, sequence }]);
  };
  const place = (direction: "in" | "out", connection: ConnectionId, grant: number): PlacementId => {
    const region = privateRegion(CHILD_SHAPE.bytes);
    const spec = { ...CHILD_SHAPE.sender, direction, connection, grant, generation: 1, region, chunks: CHILD_SHAPE.chunks, checksum: true };
    return link.place({ ...spec, standing: true }) as PlacementId;
  };
  const handle = (event: LinkEvent): void => {
    if (event.kind === "connected") {
      place("in", event.connection, CHILD_TAKES);
      out = place("out", event.connection, CHILD_SENDS);
    } else if (event.kind === "message") {
      for (let lane = 0; lane < 3; lane++) link.openLane(event.connection, lane, TOKEN, LANE);
    } else if (event.kind === "laneUp") {
      for (const chunk of [0, 1]) submit(event.lane * 2 + chunk, 1);
    } else if (event.kind === "acked") {
      acked += 1;
      if (end === "exit" && acked >= 40 && committed > 0) process.exit(0);
      submit(event.chunk, event.sequence + 1);
    } else if (event.kind === "committed") {
      committed += 1;
    }
  };
  const options = { onWake: () => void link.poll(handle, 1_000) };
  const link = kind === "fake" ? createFakeLink(options) : createTcpLink(options);
  link.dial({ host: "127.0.0.1", port }, 10_000);
}

const [, , kind, port, end] = process.argv;
if (process.env["KVFERRY_LINK_CHILD"] === "1") runChild(kind ?? "tcp", Number(port), end ?? "hold");
