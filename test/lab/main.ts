/** A program at an end of a link: sends bytes that a seed makes, takes them in, or times round trips; prints one line of JSON when it is done. */
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, createServer, type Socket } from "node:net";

const [, , role = "", host = "", amount = "0"] = process.argv;
const PORT = 7_000;
const PINGS_MIN = 20;
const PIECE = Buffer.alloc(1 << 20);

const roles: Readonly<Record<string, () => void>> = { receive, send, echo, ping, scatter };
roles[role]!();

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

/** Everything that one sender has, and its SHA-256. */
function receive(): void {
  const hash = createHash("sha256");
  let bytes = 0;
  const server = createServer((socket) => {
    server.close();
    socket.on("data", (part: Buffer) => {
      hash.update(part);
      bytes += part.length;
    });
    socket.on("end", () => say({ bytes, digest: hash.digest("hex") }));
  }).listen(PORT, host, () => say({ ready: true }));
}

/** `amount` MiB, each another. */
function send(): void {
  const hash = createHash("sha256");
  let left = Number(amount);
  const socket = connect(PORT, host, () => say({ ready: true }));
  const more = (): void => {
    while (left > 0) {
      const piece = Buffer.from(PIECE).fill(String(left));
      left--;
      hash.update(piece);
      if (!socket.write(piece)) return void socket.once("drain", more);
    }
    socket.end(() => say({ digest: hash.digest("hex") }));
  };
  more();
}

function echo(): void {
  const server = createServer((socket: Socket) => {
    server.close();
    socket.setNoDelay(true).pipe(socket);
  }).listen(PORT, host, () => say({ ready: true }));
}

/** Round trips of a byte, until one takes no more than `amount` ms: what a busy machine adds, it does not add to each. Says the least. */
function ping(): void {
  const socket = connect(PORT, host).setNoDelay(true);
  let [sentMs, leastMs, count] = [0, Number.POSITIVE_INFINITY, 0];
  const next = (): void => {
    sentMs = performance.now();
    socket.write("x");
  };
  socket.once("connect", next).on("data", () => {
    leastMs = Math.min(leastMs, performance.now() - sentMs);
    count++;
    if (count < PINGS_MIN || leastMs > Number(amount)) return next();
    socket.end();
    say({ leastMs });
  });
}

/** `amount` datagrams to nobody. */
function scatter(): void {
  const socket = createSocket("udp4");
  const packet = Buffer.alloc(1_000);
  let left = Number(amount);
  const next = (): void => {
    if (left-- > 0) socket.send(packet, PORT, host, next);
    else socket.close(() => say({ sent: Number(amount) }));
  };
  next();
}
