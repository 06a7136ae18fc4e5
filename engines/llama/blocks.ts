/**
 * Between the tensors of a state and the blocks of a pool. In blocks KV lies as kvferry's dense layout says: all layers of a block
 * together, K then V, token by token, heads side by side. llama.cpp's own V is transposed over the whole sequence, so that it is turned
 * here, tile by tile; K is copied as it lies.
 */
import { type Blocks, denseLayout, KvferryError, type Layout, type PoolInfo } from "./kvferry.ts";
import { newState, type SequenceState, type StateShape } from "./state.ts";

/** The KV of one token, as the model defines it. */
export interface KvShape {
  readonly layers: number;
  readonly heads: number;
  readonly channels: number;
}

/** kvferry's pages have 16 tokens: blocks of whole pages are found under the same keys whatever their size. */
const PAGE_TOKENS = 16;
const VALUE_BYTES = 2;

export function tokenBytes({ layers, heads, channels }: KvShape): number {
  return layers * 2 * heads * channels * VALUE_BYTES;
}

/** As many pages to a block as its bytes hold. Throws KvferryError layout_conflict where that is none. */
export function kvLayout(kv: KvShape, { blockBytes, blockCount }: Pick<PoolInfo, "blockBytes" | "blockCount">): Layout {
  const pageBytes = tokenBytes(kv) * PAGE_TOKENS;
  const pages = Math.floor(blockBytes / pageBytes);
  if (pages === 0) {
    throw new KvferryError(
      "layout_conflict",
      `the pool's blocks have ${blockBytes} bytes, ${PAGE_TOKENS} tokens of this model need ${pageBytes}`,
    );
  }
  if (blockBytes % VALUE_BYTES !== 0)
    throw new KvferryError("layout_conflict", `blocks of ${blockBytes} bytes, an odd number, for values of 16 bits`);
  const { layers, heads: kvHeads, channels: headDim } = kv;
  const blockTokens = pages * PAGE_TOKENS;
  return denseLayout({
    ...{ layers, kvHeads, headDim, blockTokens, blockCount },
    ...({ element: "f16", order: "NHD", kv: "split", form: "block-contiguous", blockStride: blockBytes } as const),
  });
}

export function blockTokensOf(layout: Layout): number {
  return group(layout).blockTokens;
}

/** The pool's memory, and how its blocks are divided. */
export interface BlockMemory {
  readonly memory: Uint8Array;
  readonly pool: PoolInfo;
  readonly layout: Layout;
}

/** The state's tokens from `firstToken` on into blocks; the last one may stay partly filled. Throws KvferryError invalid_argument. */
export function copyToBlocks(state: SequenceState, target: BlockMemory, blocks: Blocks, firstToken = 0): void {
  move(inOrder(state), target, blocks, firstToken, state.tokens.length - firstToken, "to blocks");
}

/** The first tokens of a state out of blocks: as many as it has, or as the blocks hold. Throws KvferryError invalid_argument. */
export function copyFromBlocks(state: SequenceState, source: BlockMemory, blocks: Blocks, firstToken = 0): void {
  const held = blocks.ids.length * blockTokensOf(source.layout);
  move(state, source, blocks, firstToken, Math.min(held, state.tokens.length - firstToken), "from blocks");
}

/**
 * The state with its cells in the order of their positions, which must be those of its tokens: 0, 1, 2 ... A cache that was in use before
 * places cells where it has room, and what a block holds is told by the position.
 */
export function inOrder(state: SequenceState): SequenceState {
  const { positions, tokens, shape } = state;
  if (positions.length !== tokens.length) {
    throw new KvferryError("invalid_argument", `a state of ${positions.length} cells names ${tokens.length} tokens`);
  }
  if (positions.every((position, cell) => position === cell)) return state;
  const cellOf = new Int32Array(tokens.length).fill(-1);
  positions.forEach((position, cell) => {
    if (position >= tokens.length || cellOf[position] !== -1) {
      throw new KvferryError("invalid_argument", `cell ${cell} of ${tokens.length} has position ${position}`);
    }
    cellOf[position] = cell;
  });
  const ordered = newState({ shape, tokens });
  state.layers.forEach(({ k, v }, layer) => {
    const into = ordered.layers[layer] as SequenceState["layers"][number];
    cellOf.forEach((cell, position) => {
      copyCell(k, into.k, cell, position, shape.rowValues, false, tokens.length);
      copyCell(v, into.v, cell, position, shape.rowValues, shape.transposed, tokens.length);
    });
  });
  return ordered;
}

function copyCell(
  from: Uint16Array,
  into: Uint16Array,
  cell: number,
  at: number,
  rowValues: number,
  transposed: boolean,
  cells: number,
): void {
  if (!transposed) return into.set(from.subarray(cell * rowValues, (cell + 1) * rowValues), at * rowValues);
  for (let row = 0; row < rowValues * cells; row += cells) into[row + at] = from[row + cell] as number;
}

type Direction = "to blocks" | "from blocks";

function move(state: SequenceState, place: BlockMemory, blocks: Blocks, firstToken: number, tokens: number, direction: Direction): void {
  const { blockTokens } = group(place.layout);
  const wanted = Math.ceil(tokens / blockTokens);
  if (tokens < 1 || blocks.ids.length !== wanted) {
    throw new KvferryError(
      "invalid_argument",
      `${tokens} tokens fill ${Math.max(wanted, 0)} blocks of ${blockTokens}, not ${blocks.ids.length}`,
    );
  }
  checkShape(state.shape, place.layout);
  const values = new Uint16Array(place.memory.buffer, place.memory.byteOffset, Math.floor(place.memory.byteLength / VALUE_BYTES));
  const strange = blocks.ids.find((block) => block >= place.pool.blockCount);
  if (strange !== undefined) {
    throw new KvferryError("invalid_argument", `block ${strange} is not one of the pool's ${place.pool.blockCount}`);
  }
  // Layer by layer, so that a transposed V of a long sequence stays in the cache while its blocks are turned.
  for (const component of group(place.layout).components) {
    state.layers.forEach(({ k, v }, layer) => {
      const { rowValues, transposed } = state.shape;
      blocks.ids.forEach((block, index) => {
        const byte = place.pool.dataOffset + (component.offsets[layer] as number) + block * component.blockStride;
        const token = firstToken + index * blockTokens;
        const count = Math.min(blockTokens, tokens - index * blockTokens);
        const inBlock = values.subarray(byte / VALUE_BYTES, byte / VALUE_BYTES + count * rowValues);
        const tile = { rowValues, cells: state.positions.length, token, count };
        if (component.name === "k") copyRows(k, inBlock, tile, direction);
        else if (transposed) turn(v, inBlock, tile, direction);
        else copyRows(v, inBlock, tile, direction);
      });
    });
  }
}

interface Tile {
  readonly rowValues: number;
  readonly cells: number;
  readonly token: number;
  readonly count: number;
}

/** Token by token on both sides. */
function copyRows(tensor: Uint16Array, inBlock: Uint16Array, { rowValues, token, count }: Tile, direction: Direction): void {
  const inState = tensor.subarray(token * rowValues, (token + count) * rowValues);
  if (direction === "to blocks") inBlock.set(inState);
  else inState.set(inBlock);
}

/** Channel by channel of the whole sequence on one side, token by token of the block on the other. */
function turn(tensor: Uint16Array, inBlock: Uint16Array, { rowValues, cells, token, count }: Tile, direction: Direction): void {
  for (let row = 0; row < rowValues; row++) {
    const first = row * cells + token;
    if (direction === "to blocks") for (let at = 0; at < count; at++) inBlock[at * rowValues + row] = tensor[first + at] as number;
    else for (let at = 0; at < count; at++) tensor[first + at] = inBlock[at * rowValues + row] as number;
  }
}

function checkShape(shape: StateShape, layout: Layout): void {
  const { layers, components } = group(layout);
  const inside = components[0];
  if (inside === undefined || layers.length !== shape.layers || inside.heads * inside.channels !== shape.rowValues) {
    throw new KvferryError(
      "layout_unconvertible",
      `a state of ${shape.layers} layers x ${shape.rowValues} values, and blocks of another model`,
    );
  }
}

function group(layout: Layout): Layout["groups"][number] {
  const [only] = layout.groups;
  if (only === undefined) throw new KvferryError("invalid_argument", "a layout without a group");
  return only;
}
