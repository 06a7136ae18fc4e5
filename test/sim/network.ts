/**
 * The virtual network: hosts, listeners, and pipes between them. A pipe is a TCP connection: what one end sends arrives whole and in order, or
 * not at all; its two ends learn of its end at different times. Paths between hosts can be cut; connections can be forgotten without a word.
 */
import type { Endpoint } from "../../transport/link/link.ts";
import type { Faults } from "./faults.ts";
import type { Random } from "./random.ts";
import type { World } from "./world.ts";

export interface Host {
  readonly name: string;
  /** A stopped host takes nothing from its sockets until then. */
  stoppedUntilUs: number;
}

export interface Listener {
  readonly host: Host;
  /** Somebody dialled: the other end of the pipe is side 1. */
  onDial(pipe: Pipe, first: unknown, remote: Endpoint): void;
}

/** One end of a pipe, as its owner hears of it. */
export interface PipeEnd {
  /** False: it has no room for so many bytes more at the moment. */
  isReady(bytes: number): boolean;
  /** The other end is gone, or the network says so. */
  handleBroken(): void;
}

interface Item {
  readonly atUs: number;
  readonly bytes: number;
  /** undefined: the sender has closed. */
  readonly deliver: (() => void) | undefined;
}

/** How soon a pipe looks again at an end that took nothing. */
const FULL_US = 100;

export class Network {
  readonly #listeners = new Map<string, Listener>();
  readonly #cutUntilUs = new Map<string, number>();
  readonly #pipes = new Set<Pipe>();
  readonly world: World;
  readonly random: Random;
  faults: Faults;
  #nextPort = 30_000;

  constructor(world: World, random: Random, faults: Faults) {
    this.world = world;
    this.random = random;
    this.faults = faults;
  }

  /** False: the address is in use. */
  listen({ host, port }: Endpoint, listener: Listener): boolean {
    if (this.#listeners.has(`${host}:${port}`)) return false;
    this.#listeners.set(`${host}:${port}`, listener);
    return true;
  }

  unlisten({ host, port }: Endpoint): void {
    this.#listeners.delete(`${host}:${port}`);
  }

  /** Calls back with a pipe (the caller is side 0) or "refused"; late or never, if the path is cut or the pipe ends first. */
  dial(from: Host, to: Endpoint, first: unknown, done: (pipe: Pipe | "refused") => void): void {
    const arrive = (): void => {
      const listener = this.#listeners.get(`${to.host}:${to.port}`);
      const openUs = this.cutUntilUs(from.name, to.host);
      if (openUs > this.world.nowUs) return this.world.at(openUs + 1_000, arrive);
      if (listener === undefined) return this.world.after(this.delayUs(), () => done("refused"));
      const pipe = new Pipe(this, from, listener.host);
      this.#pipes.add(pipe);
      pipe.send(1, 0, () => done(pipe));
      listener.onDial(pipe, first, { host: from.name, port: this.#nextPort++ });
    };
    this.world.after(this.delayUs(), arrive);
  }

  delayUs(): number {
    return this.random.between(this.faults.delayMinUs, this.faults.delayMaxUs);
  }

  cut(one: string, other: string, untilUs: number): void {
    this.#cutUntilUs.set(pathKey(one, other), untilUs);
  }

  cutUntilUs(one: string, other: string): number {
    if (this.#cutUntilUs.size === 0) return 0;
    return this.#cutUntilUs.get(pathKey(one, other)) ?? 0;
  }

  /** No connection between two hosts survives: the network resets some, and loses its memory of the others without a word. */
  forget(one: string, other: string): void {
    for (const pipe of [...this.#pipes]) {
      if (!pipe.joins(one, other)) continue;
      if (this.random.chance(1, 3)) pipe.break(this.random.below(2) as 0 | 1);
      else pipe.forget();
    }
  }

  healPaths(): void {
    this.#cutUntilUs.clear();
  }

  drop(pipe: Pipe): void {
    this.#pipes.delete(pipe);
  }
}

function pathKey(one: string, other: string): string {
  return one < other ? `${one} ${other}` : `${other} ${one}`;
}

export class Pipe {
  readonly hosts: readonly [Host, Host];
  readonly #network: Network;
  readonly #ends: [PipeEnd | undefined, PipeEnd | undefined] = [undefined, undefined];
  readonly #alive: [boolean, boolean] = [true, true];
  /** What each side has sent and the other has not got. */
  readonly #sent: [Item[], Item[]] = [[], []];
  readonly #pendingBytes: [number, number] = [0, 0];
  readonly #arrivesUs: [number, number] = [0, 0];
  readonly #pumping: [boolean, boolean] = [false, false];
  #forgotten = false;

  constructor(network: Network, first: Host, second: Host) {
    this.#network = network;
    this.hosts = [first, second];
  }

  attach(side: 0 | 1, end: PipeEnd): void {
    this.#ends[side] = end;
  }

  joins(one: string, other: string): boolean {
    const [first, second] = [this.hosts[0].name, this.hosts[1].name];
    return (first === one && second === other) || (first === other && second === one);
  }

  alive(side: 0 | 1): boolean {
    return this.#alive[side];
  }

  /** Bytes that this side has sent and that have not arrived. */
  pendingBytes(side: 0 | 1): number {
    return this.#pendingBytes[side];
  }

  send(side: 0 | 1, bytes: number, deliver: () => void): void {
    if (this.#alive[side]) this.#push(side, bytes, 0, deliver);
  }

  /** This side ends the pipe; what it sent before still arrives, unless `lose`. The other side learns `lagUs` late. */
  close(side: 0 | 1, lose = false, lagUs = 0): void {
    if (!this.#alive[side]) return;
    this.#alive[side] = false;
    if (lose) this.#lose(side);
    this.#push(side, 0, lagUs, undefined);
    this.#settle();
  }

  /** The network breaks it: `side` is told at once. */
  break(side: 0 | 1): void {
    const { random, faults } = this.#network;
    const lose = random.chance(faults.loseUnderWay, 100);
    const lagUs = faults.breakLagMaxUs === 0 ? 0 : random.below(faults.breakLagMaxUs);
    if (!this.#alive[side]) return;
    this.close(side, lose, lagUs);
    this.#ends[side]?.handleBroken();
  }

  forget(): void {
    this.#forgotten = true;
  }

  #push(side: 0 | 1, bytes: number, lagUs: number, deliver: (() => void) | undefined): void {
    const { world, random, faults } = this.#network;
    let atUs = world.nowUs + this.#network.delayUs() + lagUs;
    if (faults.clog > 0 && random.chance(faults.clog, 10_000)) atUs += random.below(faults.clogMaxUs);
    atUs = Math.max(this.#arrivesUs[side], atUs);
    this.#arrivesUs[side] = atUs;
    this.#sent[side].push({ atUs, bytes, deliver });
    this.#pendingBytes[side] += bytes;
    if (!this.#pumping[side]) this.#pumpAt(side, this.#sent[side][0]?.atUs ?? atUs);
  }

  #pumpAt(side: 0 | 1, atUs: number): void {
    this.#pumping[side] = true;
    this.#network.world.at(atUs, () => this.#pump(side));
  }

  #pump(side: 0 | 1): void {
    const { world } = this.#network;
    const other = (1 - side) as 0 | 1;
    this.#pumping[side] = false;
    const openUs = Math.max(this.#network.cutUntilUs(this.hosts[0].name, this.hosts[1].name), this.hosts[other].stoppedUntilUs);
    if (openUs > world.nowUs) return this.#pumpAt(side, openUs);
    const item = this.#sent[side][0];
    if (item === undefined || this.#forgotten) return;
    if (this.#alive[other] && this.#ends[other]?.isReady(item.bytes) === false) return this.#pumpAt(side, world.nowUs + FULL_US);
    this.#sent[side].shift();
    this.#pendingBytes[side] -= item.bytes;
    if (!this.#alive[other]) this.#handleReset(side);
    else if (item.deliver !== undefined) item.deliver();
    else {
      this.#alive[other] = false;
      this.#ends[other]?.handleBroken();
      this.#settle();
    }
    const next = this.#sent[side][0];
    if (next !== undefined && !this.#pumping[side]) this.#pumpAt(side, next.atUs);
  }

  #lose(side: 0 | 1): void {
    this.#sent[side].length = 0;
    this.#pendingBytes[side] = 0;
  }

  /** Who still sends to an end that is gone hears of it. */
  #handleReset(side: 0 | 1): void {
    this.#lose(side);
    if (!this.#alive[side]) return;
    this.#network.world.after(this.#network.delayUs(), () => {
      if (!this.#alive[side]) return;
      this.#alive[side] = false;
      this.#ends[side]?.handleBroken();
      this.#settle();
    });
  }

  #settle(): void {
    if (!this.#alive[0] && !this.#alive[1]) this.#network.drop(this);
  }
}
