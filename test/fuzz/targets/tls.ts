/**
 * Hostile clients at the port of a live link that speaks TLS: whatever stands where a handshake should. Nobody is let in by it, what is said back is what
 * wire.md says of plain preambles, or TLS's own records; and the good peer beside it is not disturbed. An input's first byte says in what pieces to
 * write the rest.
 */
import assert from "node:assert/strict";
import { KvferryError } from "../../../transport/errors.ts";
import { createJsLink } from "../../../transport/link/js.ts";
import { decodePreamble, encodePreamble } from "../../../transport/link/frame.ts";
import type { Endpoint, Link } from "../../../transport/link/link.ts";
import { createTcpLink } from "../../../transport/link/tcp.ts";
import { native, nativeProblem } from "../../../transport/native.ts";
import { tlsMaterial } from "../../link/certificates.ts";
import { mutate } from "../mutate.ts";
import type { Random } from "../random.ts";
import type { Session, Target } from "../target.ts";
import { Client, type Kind, pieceBytes, Polled } from "./live.ts";

const HELLO = 22;
const ALERT = 21;
const tls = tlsMaterial();

const TLS_KINDS: readonly Kind[] = [
  { name: "js", skip: "", native: false, make: (onWake) => createJsLink({ onWake, tls }) },
  {
    name: "tcp",
    native: true,
    skip: native === undefined ? `no addon: ${nativeProblem}` : "",
    make: (onWake): Link => createTcpLink({ onWake, ioThreads: 1, tls }),
  },
];

class TlsGreetingSession implements Session {
  readonly #listener: Polled;
  readonly #dialler: Polled;
  #endpoint: Endpoint = { host: "", port: 0 };
  #accepted = 0;
  #connected = 0;
  #ended = 0;

  constructor(kind: Kind) {
    this.#listener = new Polled(kind, (event) => {
      if (event.kind === "accepted") this.#accepted += 1;
      if (event.kind === "disconnected") this.#ended += 1;
    });
    this.#dialler = new Polled(kind, (event) => {
      if (event.kind === "connected") this.#connected += 1;
    });
  }

  async open(): Promise<this> {
    this.#endpoint = await this.#listener.link.listen({ host: "127.0.0.1", port: 0 });
    this.#dialler.link.dial(this.#endpoint, 10_000);
    // Each hears of it in its own time.
    await Promise.all([this.#listener.until(() => this.#accepted === 1), this.#dialler.until(() => this.#connected === 1)]);
    return this;
  }

  async run(input: Uint8Array): Promise<void> {
    const stream = input.subarray(1);
    const client = await Client.dial(this.#endpoint);
    client.say(stream, pieceBytes(input));
    // The other end then knows that no more is coming: what is a part of something is nothing.
    client.finish();
    const said = await client.rest();
    if (stream[0] === HELLO) assert.ok(said.length === 0 || said[0] === HELLO || said[0] === ALERT, "records of TLS, or nothing");
    else if (isControl(stream)) assert.ok(Buffer.from(said).includes("the peer wants TLS"), "a preamble is told what is wanted");
    else assert.equal(said.length, 0, "closed without a word");
    assert.deepEqual([this.#accepted, this.#connected, this.#ended], [1, 1, 0], "nobody is let in, and the good peer stays");
  }

  async close(): Promise<void> {
    await this.#dialler.link.close();
    await this.#listener.link.close();
  }
}

function isControl(stream: Uint8Array): boolean {
  try {
    return decodePreamble(stream)?.kind === "control";
  } catch (error) {
    if (error instanceof KvferryError) return false;
    throw error;
  }
}

function generate(random: Random, pool: readonly Uint8Array[]): Uint8Array {
  const stream = random.pick(pool).slice(1);
  const changed = random.chance(5, 6) ? mutate(stream, random, random.below(6)) : stream;
  // What is no longer the first byte of a handshake is soon done with.
  if (changed.length > 0 && random.chance(3, 4)) changed[0] = HELLO;
  return Uint8Array.of(random.below(256), ...changed);
}

export const tlsTargets: readonly Target[] = TLS_KINDS.map((kind) => ({
  name: `${kind.name}-tls-greeting`,
  corpus: "tls-greeting",
  about: "whatever stands where a handshake should, at a live listener over TLS: nobody is let in, the good peer stays",
  skip: kind.skip,
  native: kind.native,
  seeds: () => [Uint8Array.of(255, ...encodePreamble({ version: 1, kind: "control", lane: 0, token: new Uint8Array(16) }))],
  generate,
  open: () => new TlsGreetingSession(kind).open(),
}));
