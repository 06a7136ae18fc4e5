/**
 * The promises of DESIGN.md, kept watch over after every event:
 * each chunk is committed at most once and nothing is written into memory that was given back; in flight <= window <= limit and no queue above its
 * limit; what a pool says of itself adds up; transfers end in time (ledger.ts); bytes are those that were offered (content.ts, at each delivery).
 * Queues of the link and flights of senders are judged where they grow, for that is the only moment at which they can break their promise.
 */
import type { Blocks } from "../../transport/memory/pool.ts";
import type { Link } from "../../transport/link/link.ts";
import { LEAST_SHARE } from "./codecs.ts";
import { compare } from "./content.ts";
import type { Placement } from "./exchange.ts";
import { limits } from "./limits.ts";
import type { VirtualLink } from "./link.ts";
import { VirtualRegion } from "./memory.ts";
import type { SimNode } from "./node.ts";
import type { Scene } from "./scene.ts";
import type { Flight } from "./windows.ts";

export class Promises {
  readonly #scene: Scene;
  /** Chunks committed under each grant, over all its generations. */
  readonly #committed = new Map<string, Set<number>>();

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  handleCommitted(link: VirtualLink, { spec, revoked }: Placement, chunk: number): void {
    const { world } = this.#scene;
    const name = `${link.host.name} ${spec.grant}`;
    let chunks = this.#committed.get(name);
    if (chunks === undefined) {
      chunks = new Set();
      this.#committed.set(name, chunks);
    }
    if (chunks.has(chunk)) world.violate(`chunk ${chunk} of grant ${spec.grant} was committed twice`);
    if (revoked) world.violate(`chunk ${chunk} of grant ${spec.grant} was committed after its memory was taken back`);
    chunks.add(chunk);
  }

  handleWrite(link: VirtualLink, { spec, over }: Placement): void {
    if (over) this.#scene.world.violate(`${link.host.name} wrote into memory that it had given back`);
    const { region } = spec;
    if (region instanceof VirtualRegion && region.closed)
      this.#scene.world.violate(`${link.host.name} wrote into a buffer that was let go`);
  }

  /** What the link counts, apart from what the sender believes. One chunk may always be under way, or a small window would stop everything. */
  handleSubmitted(link: VirtualLink, { outstandingBytes: originalBytes, outstandingChunks, spec }: Placement): void {
    const node = this.#nodeOf(link);
    if (node === undefined) return;
    const { windowBytes } = node.spec.settings;
    const outstandingBytes = spec.coding === undefined ? originalBytes : originalBytes * LEAST_SHARE;
    if (outstandingChunks > limits.windowChunksMax) this.#scene.world.violate(`${outstandingChunks} chunks in flight at ${node.name}`);
    if (outstandingChunks > 1 && outstandingBytes > windowBytes) {
      this.#scene.world.violate(`${outstandingBytes} bytes in flight at ${node.name}, more than its window of ${windowBytes}`);
    }
  }

  /** in flight <= window <= limit. */
  handleFlight(flight: Flight | undefined): void {
    const { world } = this.#scene;
    if (flight === undefined) return world.violate("chunks were sent without a look at the window");
    const { window, chunks, bytes } = flight;
    const node = this.#nodeOf(flight.link);
    if (node === undefined) return;
    const bytesMax = Math.min(node.spec.settings.windowBytes, limits.windowBytesMax);
    const allowed = window.bytes > 0 && window.bytes <= bytesMax && window.chunks > 0 && window.chunks <= limits.windowChunksMax;
    if (!allowed) world.violate(`a window of ${window.bytes} bytes and ${window.chunks} chunks at ${node.name} (${window.reason})`);
    if (chunks > 1 && (bytes > window.bytes || chunks > window.chunks)) {
      world.violate(
        `${bytes} bytes in ${chunks} chunks in flight at ${node.name}, of ${window.bytes} and ${window.chunks} (${window.reason})`,
      );
    }
  }

  handleQueue(link: VirtualLink, queue: string, length: number, max: number): void {
    if (length > max) this.#scene.world.violate(`${queue} of ${link.host.name}: ${length}, at most ${max}`);
    if (length < 0) this.#scene.world.violate(`${queue} of ${link.host.name} gave more than it got`);
  }

  #nodeOf(link: Link): SimNode | undefined {
    return this.#scene.nodes.find((node) => node.up && node.link === link);
  }

  handleDied(node: SimNode): void {
    for (const name of this.#committed.keys()) if (name.startsWith(`${node.host.name} `)) this.#committed.delete(name);
  }

  /** After each event. */
  check(): void {
    const { nodes, ledger } = this.#scene;
    ledger.check();
    for (const node of nodes) if (node.up) this.#checkNode(node);
  }

  #checkNode(node: SimNode): void {
    const { ferry, pool, spec } = node;
    this.#checkTable(node, "transfers", ferry.transfers, spec.settings.transfersMax);
    this.#checkTable(node, "clients", ferry.clients, limits.apiClientsMax);
    this.#checkTable(node, "offers", ferry.offers.size, limits.offersMax);
    this.#checkTable(node, "buffers", ferry.buffers.size, limits.buffersMax);
    for (const { waitingMessages } of ferry.peers.all()) {
      this.#checkTable(node, "control messages that wait", waitingMessages, limits.outboxMessages);
    }
    const { blockCount, free, held, published, quarantined, leased, pinned } = pool.stats();
    if (free + held + published + quarantined !== blockCount) this.#scene.world.violate(`blocks of ${node.name} do not add up`);
    if (leased > published || pinned > blockCount) this.#scene.world.violate(`leases or pins of ${node.name} do not add up`);
  }

  #checkTable(node: SimNode, name: string, count: number, max: number): void {
    if (count > max || count < 0) this.#scene.world.violate(`${node.name} has ${count} ${name}, at most ${max}`);
  }

  /** Nothing runs any more, everything was given back: what is still in use was forgotten. */
  checkQuiet(): void {
    this.check();
    const { nodes, ledger, world, engines } = this.#scene;
    if (ledger.open > 0) world.violate(`${ledger.open} transfers are still open`);
    for (const node of nodes) {
      const { transfers } = node.ferry;
      if (transfers !== 0) world.violate(`${node.name} counts ${transfers} transfers when nothing runs`);
      if (node.link.placements.size > 0) world.violate(`${node.name} has ${node.link.placements.size} placements when nothing runs`);
      const { held, leased, pinned } = node.pool.stats();
      const mine = engines.filter((engine) => engine.node === node && engine.alive).reduce((sum, engine) => sum + engine.heldBlocks, 0);
      if (pinned > 0) world.violate(`${pinned} blocks of ${node.name} are pinned when nothing runs`);
      if (leased > 0) world.violate(`${leased} blocks of ${node.name} are leased when nobody has a lease`);
      if (held !== mine) world.violate(`${held} blocks of ${node.name} are held; its engines hold ${mine} (${node.pool.describe()})`);
    }
  }

  /** What is found under keys is what was published under them, unless it was corrupted on purpose. */
  checkPublished(node: SimNode, blocks: Blocks, keys: Uint8Array): void {
    const { world, corrupted } = this.#scene;
    const name = Buffer.from(keys.subarray(0, 32)).toString("hex");
    const document = this.#scene.documentOf(name);
    if (document === undefined) return world.violate(`${node.name} has blocks under keys that nobody made`);
    const memory = { view: node.pool.region.view, dataOffset: node.pool.dataOffset };
    blocks.ids.forEach((block, at) => {
      if (corrupted.has(`${node.name} ${block} ${blocks.generations[at]}`)) return;
      const perBlock = this.#scene.tokensIn(node, 0, 1);
      const span = { ...this.#scene.spanOf(node, 0, Uint32Array.of(block), perBlock, document), firstToken: at * perBlock };
      const wrong = compare(memory, span);
      if (wrong !== "") world.violate(`published block ${block} of ${node.name}: ${wrong}`);
    });
  }
}
