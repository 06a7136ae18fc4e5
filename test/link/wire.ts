/** A network that knows nothing of what it carries: passes bytes on as it is told, counts the TLS records in them, and harms them. */
import { connect, createServer, type Socket } from "node:net";
import type { TestContext } from "node:test";
import type { Endpoint } from "../../transport/link/link.ts";

export interface Harm {
  /** The connection whose stream it is, in the order in which they were made. */
  readonly connection: number;
  /** The byte of what the dialler sends that is changed, or with which the connection ends. */
  readonly at: number;
  readonly cut?: boolean;
}

export interface Wire {
  readonly endpoint: Endpoint;
  /** Lengths of the records that the dialler's ends have sent, over all connections: type and bytes behind the head. */
  readonly records: { readonly type: number; readonly bytes: number }[];
  readonly passed: number[];
  harm: Harm | undefined;
  /** Pass on in writes of so many bytes, by turns; [] = as it came. */
  split: readonly number[];
}

const HEAD_BYTES = 5;

export async function startWire(t: TestContext, target: Endpoint): Promise<Wire> {
  const server = createServer({ noDelay: true });
  await new Promise<void>((resolve) => {
    server.listen({ host: "127.0.0.1", port: 0 }, resolve);
  });
  const sockets = new Set<Socket>();
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const wire: Wire = {
    endpoint: { host: "127.0.0.1", port: (server.address() as { port: number }).port },
    records: [],
    passed: [],
    harm: undefined,
    split: [],
  };
  server.on("connection", (client) => {
    const other = connect({ ...target, noDelay: true });
    for (const socket of [client, other]) sockets.add(socket.on("error", () => {}));
    const index = wire.passed.push(0) - 1;
    const records = recordsOf(wire);
    client.on("data", (bytes) => {
      records(bytes);
      pass(wire, index, bytes, client, other);
    });
    other.on("data", (bytes) => write(wire, bytes, other, client));
    client.on("close", () => other.destroy());
    other.on("close", () => client.destroy());
  });
  return wire;
}

function pass(wire: Wire, index: number, bytes: Buffer, client: Socket, other: Socket): void {
  const first = wire.passed[index] as number;
  wire.passed[index] = first + bytes.length;
  const { harm } = wire;
  const at = harm?.connection === index ? harm.at - first : -1;
  if (at >= 0 && at < bytes.length) {
    if (harm?.cut === true) {
      other.write(bytes.subarray(0, at), () => client.destroy());
      return;
    }
    bytes[at] = (bytes[at] as number) ^ 1;
  }
  write(wire, bytes, client, other);
}

function write({ split }: Wire, bytes: Uint8Array, from: Socket, to: Socket): void {
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const count = split[turn % split.length] ?? bytes.length;
    to.write(bytes.subarray(at, at + count));
    at += count;
  }
  if (to.writableLength < 65_536) return;
  from.pause();
  to.once("drain", () => from.resume());
}

/** Cuts a stream into records, in whatever pieces it comes. */
function recordsOf({ records }: Wire): (bytes: Uint8Array) => void {
  const head: number[] = [];
  let leftBytes = 0;
  return (bytes) => {
    for (let at = 0; at < bytes.length; ) {
      const count = Math.min(leftBytes, bytes.length - at);
      leftBytes -= count;
      at += count;
      if (leftBytes > 0 || at === bytes.length) continue;
      head.push(bytes[at++] as number);
      if (head.length < HEAD_BYTES) continue;
      const [type = 0, , , high = 0, low = 0] = head.splice(0);
      leftBytes = high * 256 + low;
      records.push({ type, bytes: leftBytes });
    }
  };
}
