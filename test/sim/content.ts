/**
 * What the KV of the simulation is: every byte of every value follows from (model, document, token, layer, head, channel), so that whoever holds a
 * block under any layout can be checked against what its engine wrote under another. Shares no code with the product's plans.
 */
import { type ComponentLayout, ELEMENT_BYTES, type Layout } from "../../transport/kv/layout.ts";
import { hashText } from "./random.ts";

/** A stretch of tokens of a document, in blocks of one group of one node. */
export interface Span {
  readonly layout: Layout;
  readonly group: number;
  readonly blocks: Uint32Array;
  readonly tokens: number;
  /** Which tokens (or states) of the document the first block begins with. */
  readonly firstToken: number;
  readonly model: string;
  readonly document: number;
}

export interface Memory {
  readonly view: Uint8Array;
  readonly dataOffset: number;
}

/** Writes the content; `layer` (an index into the group's layers): only that one. */
export function fill(memory: Memory, span: Span, layer?: number): void {
  walk(memory, span, layer, undefined, (at, value) => {
    memory.view[at] = value;
    return true;
  });
}

export interface Heads {
  readonly first: number;
  readonly count: number;
}

/** "" or what is wrong first. `heads`: only those are looked at. */
export function compare(memory: Memory, span: Span, layer?: number, heads?: Heads): string {
  let wrong = "";
  walk(memory, span, layer, heads, (at, value, name, inLayer, token, head, channel) => {
    if (memory.view[at] === value) return true;
    const where = `${name} of layer ${inLayer}, token ${token}, head ${head}, channel ${channel}`;
    wrong = `${where} is ${memory.view[at]} and not ${value} (document ${span.document} of ${span.model})`;
    return false;
  });
  return wrong;
}

/** Bytes of a block under this layout, in runs: offset and length in turn. */
export function blockRuns(layout: Layout, dataOffset: number, block: number): number[] {
  const runs: number[] = [];
  for (const { components, blockTokens } of layout.groups) {
    for (const component of components) {
      for (const offset of component.offsets) {
        const from = dataOffset + offset + block * component.blockStride;
        // Strides nest, so the last byte tells how far the component of one block reaches; gaps in it belong to nobody else.
        runs.push(from, extentOf(component, blockTokens));
      }
    }
  }
  return runs;
}

function extentOf(component: ComponentLayout, blockTokens: number): number {
  const { heads, channels, tokenStride, headStride, channelStride, element } = component;
  const steps = (Math.max(blockTokens, 1) - 1) * tokenStride + (heads - 1) * headStride + (channels - 1) * channelStride;
  return steps + ELEMENT_BYTES[element];
}

type Visit = (at: number, value: number, name: string, layer: number, token: number, head: number, channel: number) => boolean;

function walk({ dataOffset }: Memory, span: Span, onlyLayer: number | undefined, heads: Heads | undefined, visit: Visit): void {
  const group = span.layout.groups[span.group];
  if (group === undefined) throw new RangeError(`group ${span.group}`);
  const perBlock = Math.max(group.blockTokens, 1);
  const base = hashText(`${span.model} ${span.group}`) ^ Math.imul(span.document, 0x9e3779b1);
  for (const component of group.components) {
    for (let layer = 0; layer < group.layers.length; layer++) {
      if (onlyLayer !== undefined && layer !== onlyLayer) continue;
      const offset = dataOffset + component.offsets[layer]!;
      for (let token = 0; token < span.tokens; token++) {
        const block = span.blocks[Math.floor(token / perBlock)]!;
        const from = offset + block * component.blockStride + (token % perBlock) * component.tokenStride;
        const seed = mix(base, group.layers[layer]!, span.firstToken + token);
        if (!walkToken(component, from, seed, heads, visit, layer, token)) return;
      }
    }
  }
}

function walkToken(
  component: ComponentLayout,
  from: number,
  seed: number,
  heads: Heads | undefined,
  visit: Visit,
  layer: number,
  token: number,
): boolean {
  const { name, channels, element } = component;
  const elementBytes = ELEMENT_BYTES[element];
  const half = name === "kv" ? channels / 2 : channels;
  const [first, second] = HALVES[name];
  for (let head = 0; head < component.heads; head++) {
    const number = component.firstHead + head;
    if (heads !== undefined && name !== "latent" && name !== "state" && (number < heads.first || number >= heads.first + heads.count))
      continue;
    for (let channel = 0; channel < channels; channel++) {
      const inner = mix(seed, number * 4 + (channel < half ? first : second), channel % half);
      const at = from + head * component.headStride + channel * component.channelStride;
      for (let byte = 0; byte < elementBytes; byte++) {
        if (!visit(at + byte, (inner >>> (8 * byte)) & 0xff, name, layer, token, number, channel)) return false;
      }
    }
  }
  return true;
}

const HALVES = { k: [0, 0], v: [1, 1], kv: [0, 1], latent: [2, 2], state: [3, 3] } as const;

function mix(a: number, b: number, c: number): number {
  let hash = Math.imul(a ^ Math.imul(b + 0x7f4a7c15, 0x85ebca6b), 0xc2b2ae35);
  hash = Math.imul(hash ^ (hash >>> 15) ^ Math.imul(c + 0x165667b1, 0x27d4eb2f), 0x9e3779b1);
  return hash ^ (hash >>> 13);
}
