/** TLS 1.3 records made by hand (RFC 8446, 5 and 7), for peers that say in them what no library would: a handshake by node:tls, and then its keys. */
import { createCipheriv, createDecipheriv, createHmac } from "node:crypto";
import { connect, type Socket } from "node:net";
import { Duplex } from "node:stream";
import type { TestContext } from "node:test";
import { connect as tlsConnect, createServer, type TLSSocket } from "node:tls";
import type { Endpoint } from "../../transport/link/link.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";
import { bareTls } from "./certificates.ts";
import { settled } from "./conformance/end.ts";

export const DATA = 23;
export const HANDSHAKE = 22;
export const ALERT = 21;
const HEAD_BYTES = 5;
const TAG_BYTES = 16;

/** TLS_AES_128_GCM_SHA256. */
class Key {
  #secret: Buffer;
  #sequence = 0;

  constructor(secret: Buffer, sequence = 0) {
    this.#secret = secret;
    this.#sequence = sequence;
  }

  advance(): void {
    this.#secret = expand(this.#secret, "traffic upd", 32);
    this.#sequence = 0;
  }

  /** A whole record; `padding`: zeros behind the type. */
  seal(type: number, content: Uint8Array, padding = 0): Buffer {
    const inner = Buffer.concat([content, Uint8Array.of(type), new Uint8Array(padding)]);
    const head = headOf(inner.length + TAG_BYTES);
    const cipher = createCipheriv("aes-128-gcm", expand(this.#secret, "key", 16), this.#nonce(), { authTagLength: TAG_BYTES });
    cipher.setAAD(head);
    return Buffer.concat([head, cipher.update(inner), cipher.final(), cipher.getAuthTag()]);
  }

  open(record: Buffer): { type: number; content: Buffer } {
    const cipher = createDecipheriv("aes-128-gcm", expand(this.#secret, "key", 16), this.#nonce(), { authTagLength: TAG_BYTES });
    cipher.setAAD(record.subarray(0, HEAD_BYTES));
    cipher.setAuthTag(record.subarray(-TAG_BYTES));
    const inner = Buffer.concat([cipher.update(record.subarray(HEAD_BYTES, -TAG_BYTES)), cipher.final()]);
    return { type: inner.at(-1) as number, content: inner.subarray(0, -1) };
  }

  #nonce(): Buffer {
    const nonce = expand(this.#secret, "iv", 12);
    const counter = Buffer.alloc(12);
    counter.writeBigUInt64BE(BigInt(this.#sequence++), 4);
    return Buffer.from(nonce.map((byte, at) => byte ^ (counter[at] as number)));
  }
}

export function headOf(bodyBytes: number): Buffer {
  return Buffer.of(DATA, 3, 3, bodyBytes >> 8, bodyBytes & 255);
}

export function keyUpdate(isAsked: boolean): Uint8Array {
  return Uint8Array.of(24, 0, 0, 1, isAsked ? 1 : 0);
}

function expand(secret: Buffer, label: string, bytes: number): Buffer {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Uint8Array.of(0, bytes, name.length), name, Uint8Array.of(0, 1)]);
  return createHmac("sha256", secret).update(info).digest().subarray(0, bytes);
}

/** Traffic secrets out of a key log. */
class Secrets {
  readonly client: Buffer[] = [];
  readonly server: Buffer[] = [];

  readonly note = (line: Buffer): void => {
    const [label, , secret = ""] = line.toString().trim().split(" ");
    if (label === "CLIENT_TRAFFIC_SECRET_0") this.client.push(Buffer.from(secret, "hex"));
    if (label === "SERVER_TRAFFIC_SECRET_0") this.server.push(Buffer.from(secret, "hex"));
  };
}

/** A peer whose records are made by hand. What comes is cut into records, and opened when it is asked for. */
export class RecordPeer {
  readonly #socket: Socket;
  readonly #sending: Key;
  readonly #receiving: Key;
  #come: Buffer = Buffer.alloc(0);
  isClosed = false;
  comeBytes = 0;

  constructor(socket: Socket, sending: Key, receiving: Key, come: Buffer) {
    this.#socket = socket;
    this.#sending = sending;
    this.#receiving = receiving;
    this.#come = come;
    socket.on("data", (bytes) => {
      this.#come = Buffer.concat([this.#come, bytes]);
      this.comeBytes += bytes.length;
    });
    for (const end of ["end", "close"]) socket.on(end, () => (this.isClosed = true));
  }

  say(content: Uint8Array, { type = DATA, padding = 0 } = {}): void {
    this.sayRaw(this.#sending.seal(type, content, padding));
  }

  sayRaw(bytes: Uint8Array): void {
    if (!this.#socket.destroyed) this.#socket.write(bytes);
  }

  /** Nothing more is said, and TLS is not told. */
  finish(): void {
    this.#socket.end();
  }

  /** What `say` would have said. */
  seal(content: Uint8Array, type = DATA): Buffer {
    return this.#sending.seal(type, content);
  }

  /** Says that it changes its key, and does. */
  changeKey(isAsked: boolean): void {
    this.say(keyUpdate(isAsked), { type: HANDSHAKE });
    this.#sending.advance();
  }

  /** From here on what comes is under the next key. */
  followKey(): void {
    this.#receiving.advance();
  }

  async record(): Promise<{ type: number; content: Buffer }> {
    const bytes = (): number => (this.#come.length < HEAD_BYTES ? Infinity : HEAD_BYTES + this.#come.readUInt16BE(3));
    await settled(() => this.#come.length >= bytes() || this.isClosed, "a record");
    const record = this.#come.subarray(0, bytes());
    this.#come = this.#come.subarray(record.length);
    return this.#receiving.open(record);
  }

  async closed(): Promise<void> {
    await settled(() => this.isClosed, "the end of the connection");
  }
}

/** What a TLSSocket of Node's says goes to a bare socket, and the other way, until the handshake is done. */
class Passage extends Duplex {
  readonly socket: Socket;
  isOpen = true;
  come: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    super();
    this.socket = socket;
    socket.on("data", (bytes) => {
      if (this.isOpen) this.push(bytes);
      else this.come = Buffer.concat([this.come, bytes]);
    });
    socket.on("error", () => {});
  }

  override _read(): void {}
  override _write(bytes: Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    if (this.isOpen) this.socket.write(bytes);
    done();
  }
}

/** Dials, and goes on with its own records: nothing has been sent under the client's key yet. */
export async function dialRecords(t: Pick<TestContext, "after">, endpoint: Endpoint, tls: TlsOptions): Promise<RecordPeer> {
  const socket = connect({ ...endpoint, noDelay: true });
  t.after(() => socket.destroy());
  const passage = new Passage(socket);
  const secrets = new Secrets();
  const client = tlsConnect({ socket: passage, host: endpoint.host, ...bareTls(tls), ciphers: "TLS_AES_128_GCM_SHA256" });
  client.on("keylog", secrets.note).on("error", () => {});
  await new Promise((resolve) => client.once("secureConnect", resolve));
  passage.isOpen = false;
  const [sending, receiving] = [secrets.client[0] as Buffer, secrets.server[0] as Buffer];
  return new RecordPeer(socket, new Key(sending), new Key(receiving), passage.come);
}

/** Takes a connection in, and goes on with its own records behind the tickets that Node has sent. */
export async function listenRecords(t: TestContext, tls: TlsOptions): Promise<{ endpoint: Endpoint; accept: () => Promise<RecordPeer> }> {
  const secrets = new Secrets();
  const server = createServer({ ...bareTls(tls), requestCert: true, ciphers: "TLS_AES_128_GCM_SHA256" });
  server.on("keylog", secrets.note);
  const secured = new Promise<TLSSocket>((resolve) => server.once("secureConnection", resolve));
  const bare = await new Promise<{ port: number; socket: Promise<Passage> }>((resolve) => {
    void import("node:net").then(({ createServer: listen }) => {
      const door = listen({ noDelay: true });
      const socket = new Promise<Passage>((taken) => {
        door.once("connection", (one) => {
          t.after(() => one.destroy());
          const passage = new Passage(one);
          taken(passage);
          server.emit("connection", passage);
        });
      });
      t.after(() => door.close());
      door.listen(0, "127.0.0.1", () => resolve({ port: (door.address() as { port: number }).port, socket }));
    });
  });
  return {
    endpoint: { host: "127.0.0.1", port: bare.port },
    accept: async () => {
      const passage = await bare.socket;
      await secured;
      // Node sends two tickets, each a record, before anything else can be said.
      await new Promise((resolve) => setImmediate(resolve));
      passage.isOpen = false;
      const [sending, receiving] = [secrets.server[0] as Buffer, secrets.client[0] as Buffer];
      return new RecordPeer(passage.socket, new Key(sending, 2), new Key(receiving), passage.come);
    },
  };
}
