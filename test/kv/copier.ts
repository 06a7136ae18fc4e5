/**
 * Oracles for plans, as slow and plain as they can be: a copier that walks planes byte by byte as link.ts defines
 * their stream, and a reader of layouts that knows nothing of planes. Nothing here is shared with transport/kv but
 * types.
 */
import assert from "node:assert/strict";
import type { ComponentLayout, Layout } from "../../transport/kv/layout.ts";
import type { ChunkSpan, Plane } from "../../transport/link/link.ts";

/** Address of byte `position` of the plane's stream. */
export function addressOf(plane: Plane, blocks: Uint32Array, position: number): number {
  let rest = position;
  const take = (count: number): number => {
    const digit = rest % count;
    rest = Math.floor(rest / count);
    return digit;
  };
  const byte = take(plane.elementBytes);
  const channel = take(plane.channels);
  const head = take(plane.heads);
  const token = rest + plane.firstToken;
  const block = blocks[Math.floor(token / plane.tokens)];
  assert.ok(block !== undefined, `byte ${position} lies behind the last block`);
  return (
    plane.offset +
    block * plane.blockStride +
    (token % plane.tokens) * plane.tokenStride +
    head * plane.headStride +
    channel * plane.channelStride +
    byte
  );
}

export interface Side {
  readonly memory: Uint8Array;
  readonly planes: readonly Plane[];
  readonly blockLists: readonly Uint32Array[];
}

export function copyChunk(from: Side, to: Side, chunk: ChunkSpan): void {
  const [source, target] = [from.planes[chunk.plane], to.planes[chunk.plane]];
  assert.ok(source !== undefined && target !== undefined, "both sides have the plane");
  const [sourceBlocks, targetBlocks] = [from.blockLists[source.blockList], to.blockLists[target.blockList]];
  assert.ok(sourceBlocks !== undefined && targetBlocks !== undefined, "both sides have the list");
  for (let position = chunk.start; position < chunk.start + chunk.bytes; position++) {
    const [read, written] = [addressOf(source, sourceBlocks, position), addressOf(target, targetBlocks, position)];
    assert.ok(read < from.memory.length && written < to.memory.length, `byte ${position} leaves the memory`);
    to.memory[written] = from.memory[read] as number;
  }
}

export const BYTES = { bf16: 2, f16: 2, f32: 4, f8_e4m3: 1, f8_e5m2: 1, u8: 1 };

export interface Value {
  readonly group: number;
  readonly layer: number;
  /** "k", "v", "latent" or "state"; K and V of "kv" are told apart. */
  readonly half: string;
  readonly head: number;
  readonly block: number;
  readonly token: number;
  readonly channel: number;
}

/** Address of a value by the words of layout.ts; `head` in the model's numbering, `token` within its block. */
export function valueAddress(layout: Layout, { group, layer, half, head, block, token, channel }: Value): number {
  const { layers, components } = layout.groups[group] as Layout["groups"][number];
  const joined = components.find(({ name }) => name === "kv");
  const component = (components.find(({ name }) => name === half) ?? joined) as ComponentLayout;
  const inJoined = component.name === "kv" && half === "v" ? component.channels / 2 : 0;
  return (
    (component.offsets[layers.indexOf(layer)] as number) +
    block * component.blockStride +
    (half === "state" ? 0 : token * component.tokenStride) +
    (head - component.firstHead) * component.headStride +
    (inJoined + channel) * component.channelStride
  );
}

/** Every value that one component of the group has in one block. */
export function* valuesOf(layout: Layout, group: number, block: number): Generator<{ readonly value: Value; readonly bytes: number }> {
  const { blockTokens, layers, components } = layout.groups[group] as Layout["groups"][number];
  for (const component of components) {
    const halves = component.name === "kv" ? ["k", "v"] : [component.name];
    for (const half of halves) {
      for (const layer of layers) {
        for (let token = 0; token < Math.max(blockTokens, 1); token++) {
          for (let head = component.firstHead; head < component.firstHead + component.heads; head++) {
            for (let channel = 0; channel < component.channels / halves.length; channel++) {
              yield { value: { group, layer, half, head, block, token, channel }, bytes: BYTES[component.element] };
            }
          }
        }
      }
    }
  }
}
