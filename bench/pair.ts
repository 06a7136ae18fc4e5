/** Two sidecars and an engine at each: KV of a model goes from one's pool to the other's through the engine API, and is verified there. */
import type { ClientFerry } from "../transport/api/client.ts";
import type { FetchRequest, TransferReport } from "../transport/ferry/ferry.ts";
import { planTransfer, type TransferPlan } from "../transport/kv/plan.ts";
import { limits } from "../transport/limits.ts";
import type { Blocks } from "../transport/memory/pool.ts";
import type { Region } from "../transport/memory/region.ts";
import { countWrong, eachRun, fillSlot, poisonSlot, randomContent } from "./content.ts";
import { blockBytesOf, modelLayout } from "./layouts.ts";
import { headsOf, type ShapedSlice } from "./models.ts";
import type { SidecarProcess } from "./sidecars.ts";
import type { LayoutOrder, Place } from "./workload.ts";

export interface EngineSide {
  readonly sidecar: SidecarProcess;
  readonly ferry: ClientFerry;
  readonly region: Region;
  readonly dataOffset: number;
  readonly blockCount: number;
  readonly order: LayoutOrder;
  readonly model: number;
}

export type MoveOptions = Pick<FetchRequest, "priority" | "deadlineMs">;

const IDENTITY = { revision: "bench", element: "bf16", rope: "", profile: "", extra: "" };

export async function openEngine(sidecar: SidecarProcess, slice: ShapedSlice, order: LayoutOrder): Promise<EngineSide> {
  const ferry = await sidecar.connect();
  const { dataOffset, blockCount } = await ferry.pool();
  const region = await ferry.attach();
  const name = typeof slice.model === "string" ? slice.model : slice.model.title;
  const { model } = await ferry.registerModel({ ...IDENTITY, model: name }, modelLayout(slice, order, blockCount));
  return { sidecar, ferry, region, dataOffset, blockCount, order, model };
}

export async function closeEngine(side: EngineSide): Promise<void> {
  side.region.close();
  await side.ferry.close();
}

/** A prompt's KV in blocks of one side, offered by the sender and fetched by the receiver, as often as one likes. */
export class Prompt {
  readonly #slice: ShapedSlice;
  readonly #from: EngineSide;
  readonly #to: EngineSide;
  readonly #source: Blocks;
  readonly #target: Blocks;
  readonly bytes: number;

  /** `source`: blocks that the sender holds already, such as another prompt's of the same length. */
  static async make(slice: ShapedSlice, from: EngineSide, to: EngineSide, source?: Blocks): Promise<Prompt> {
    const count = ({ order }: EngineSide): number => Math.ceil(slice.tokens / order.blockTokens);
    return new Prompt(slice, from, to, source ?? (await from.ferry.alloc(count(from))), await to.ferry.alloc(count(to)));
  }

  private constructor(slice: ShapedSlice, from: EngineSide, to: EngineSide, source: Blocks, target: Blocks) {
    this.#slice = slice;
    this.#from = from;
    this.#to = to;
    this.#source = source;
    this.#target = target;
    this.bytes = blockBytesOf(slice, 1) * slice.tokens;
  }

  /** Seconds from offering it until the last byte is verified and in place. */
  async move(how: MoveOptions = {}): Promise<number> {
    const startMs = performance.now();
    await this.fetch(await this.offer(), how);
    return (performance.now() - startMs) / 1000;
  }

  offer(): Promise<string> {
    const groups = [{ group: 0, blocks: this.#source, tokens: this.#slice.tokens }];
    return this.#from.ferry.offer({ model: this.#from.model, groups, position: 0 });
  }

  async fetch(handle: string, how: MoveOptions = {}): Promise<TransferReport> {
    const into = [{ group: 0, blocks: this.#target, tokens: this.#slice.tokens }];
    const peer = this.#from.sidecar.address;
    const transfer = await this.#to.ferry.fetch({ peer, model: this.#to.model, source: { handle }, into, ...how });
    return transfer.done;
  }

  /** Writes new content at the sender, poison at the receiver, moves, and counts what is wrong. */
  async verify(seed: number): Promise<number> {
    const heads = headsOf(this.#slice);
    const manifest = { fingerprint: "0".repeat(64), groups: [{ group: 0, tokens: this.#slice.tokens }], firstHead: 0, heads };
    const layout = (side: EngineSide) => modelLayout(this.#slice, side.order, side.blockCount);
    const plan = planTransfer(layout(this.#from), layout(this.#to), manifest, limits.chunkBytesDefault);
    const source = placeOf(plan.senderPlanes, this.#from.dataOffset, this.#source);
    const target = placeOf(plan.receiverPlanes, this.#to.dataOffset, this.#target);
    const content = randomContent(seed);
    fillSlot(this.#from.region.view, source, plan.chunks, 0, content);
    poisonSlot(this.#to.region.view, target, plan.chunks, 0xa5);
    await this.move();
    return countWrong(this.#to.region.view, target, plan.chunks, 0, content);
  }

  /** Writes the KV of the prompt at the sender: plane by plane as `canonicalPlan` has them, token by token. */
  write(stream: Uint8Array): void {
    const { place, chunks } = canonicalPlace(this.#slice, this.#from, this.#source);
    eachRun(place, chunks, (offset, bytes, start) => this.#from.region.view.set(stream.subarray(start, start + bytes), offset));
  }

  /** The same of what lies at the receiver. */
  read(): Uint8Array {
    const { place, chunks } = canonicalPlace(this.#slice, this.#to, this.#target);
    const stream = new Uint8Array(this.bytes);
    eachRun(place, chunks, (offset, bytes, start) => stream.set(this.#to.region.view.subarray(offset, offset + bytes), start));
    return stream;
  }

  /** Overwrites what lies at the receiver. */
  poison(): void {
    const { place, chunks } = canonicalPlace(this.#slice, this.#to, this.#target);
    poisonSlot(this.#to.region.view, place, chunks, 0xa5);
  }

  async free(): Promise<void> {
    await this.#from.ferry.free(this.#source);
    await this.#to.ferry.free(this.#target);
  }
}

/** K and V of each layer as a plane of its own, whatever order a transfer would take. */
export function canonicalPlan(slice: ShapedSlice, order: LayoutOrder, blockCount: number): TransferPlan {
  const layout = modelLayout(slice, order, blockCount);
  const manifest = { fingerprint: "0".repeat(64), groups: [{ group: 0, tokens: slice.tokens }], firstHead: 0, heads: headsOf(slice) };
  return planTransfer(layout, layout, manifest, limits.chunkBytesDefault, { layers: 1 });
}

function canonicalPlace(slice: ShapedSlice, { order, blockCount, dataOffset }: EngineSide, blocks: Blocks) {
  const { senderPlanes, chunks } = canonicalPlan(slice, order, blockCount);
  return { place: placeOf(senderPlanes, dataOffset, blocks), chunks };
}

function placeOf(planes: Place["planes"], dataOffset: number, blocks: Blocks): Place {
  return { planes: planes.map((plane) => ({ ...plane, offset: plane.offset + dataOffset })), blockLists: [blocks.ids] };
}
