/**
 * Connections that come for no good, as many at a time as are asked for, from addresses of this host: they say nothing, garbage, half a preamble, half a
 * TLS handshake, or a preamble at a byte a second. One that is closed is dialled again after a while. A process of its own, which ends with its input;
 * a line of JSON every half second says how it fares.
 *
 *   node bench/crowd.js --port N [--count 10000] [--rate 2000] [--sources 50] [--redial-ms 5000]
 */
import { connect, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { connect as tlsConnect } from "node:tls";
import { parseArgs } from "node:util";
import { encodePreamble } from "../transport/link/frame.ts";

export interface CrowdReport {
  /** Since the start: connections made, closed by the other end, and that could not be made. */
  readonly dialled: number;
  readonly closed: number;
  readonly failed: number;
  /** Now. */
  readonly open: number;
}

const TICK_MS = 10;
const REPORT_MS = 500;
const TRICKLE_MS = 1_000;
const HOST = "127.0.0.1";

interface Member {
  readonly kind: number;
  readonly source: string;
  socket: Socket | undefined;
  saidBytes: number;
}

class Crowd {
  readonly #port: number;
  readonly #redialMs: number;
  readonly #waiting: Member[] = [];
  readonly #trickling = new Set<Member>();
  readonly #sayings: readonly Uint8Array[];
  readonly #preamble = encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) });
  #dialled = 0;
  #closed = 0;
  #failed = 0;
  #open = 0;

  constructor(port: number, count: number, sources: number, redialMs: number, hello: Uint8Array) {
    this.#port = port;
    this.#redialMs = redialMs;
    const garbage = new Uint8Array(200).fill(0x5a);
    // A length that a record may have, and not what it says there is.
    const record = Uint8Array.from([22, 3, 1, 0x3f, 0xff, ...garbage]);
    this.#sayings = [new Uint8Array(0), garbage, this.#preamble.subarray(0, 24), hello, hello.subarray(0, 100), record, new Uint8Array(0)];
    for (let index = 0; index < count; index++) {
      const source = `127.0.0.${2 + (index % sources)}`;
      this.#waiting.push({ kind: index % this.#sayings.length, source, socket: undefined, saidBytes: 0 });
    }
  }

  get report(): CrowdReport {
    return { dialled: this.#dialled, closed: this.#closed, failed: this.#failed, open: this.#open };
  }

  dial(most: number): void {
    for (const member of this.#waiting.splice(0, most)) this.#dial(member);
  }

  #dial(member: Member): void {
    const socket = connect({ host: HOST, port: this.#port, localAddress: member.source });
    let isOpen = false;
    socket.on("error", () => {});
    socket.once("connect", () => {
      isOpen = true;
      this.#dialled += 1;
      this.#open += 1;
      const saying = this.#sayings[member.kind] as Uint8Array;
      if (saying.length > 0) socket.write(saying);
      else if (member.kind > 0) this.#trickling.add(member);
    });
    // Whatever it is told, it takes.
    socket.resume();
    socket.once("close", () => {
      this.#trickling.delete(member);
      if (isOpen) {
        this.#open -= 1;
        this.#closed += 1;
      } else this.#failed += 1;
      setTimeout(() => this.#waiting.push(member), this.#redialMs);
    });
    member.socket = socket;
    member.saidBytes = 0;
  }

  trickle(): void {
    for (const member of this.#trickling) {
      member.socket?.write(this.#preamble.subarray(member.saidBytes, member.saidBytes + 1));
      member.saidBytes += 1;
    }
  }
}

/** What a TLS client says first. */
function clientHello(): Promise<Uint8Array> {
  return new Promise((resolve) => {
    const said = new Duplex({
      read() {},
      write(bytes: Uint8Array, _encoding, done) {
        resolve(bytes);
        done();
      },
    });
    tlsConnect({ socket: said, minVersion: "TLSv1.3", ALPNProtocols: ["kvferry/1"] }).on("error", () => {});
  });
}

const { values } = parseArgs({
  options: {
    port: { type: "string" },
    count: { type: "string", default: "10000" },
    rate: { type: "string", default: "2000" },
    sources: { type: "string", default: "50" },
    "redial-ms": { type: "string", default: "5000" },
  },
});
const crowd = new Crowd(
  Number(values.port),
  Number(values.count),
  Number(values.sources),
  Number(values["redial-ms"]),
  await clientHello(),
);
const perTick = Math.max(1, Math.round((Number(values.rate) * TICK_MS) / 1000));
setInterval(() => crowd.dial(perTick), TICK_MS);
setInterval(() => crowd.trickle(), TRICKLE_MS);
setInterval(() => process.stdout.write(`${JSON.stringify(crowd.report)}\n`), REPORT_MS);
process.stdin.resume().once("end", () => process.exit(0));
