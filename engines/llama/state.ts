/**
 * llama.cpp's file of one sequence's state, as `llama_state_seq_save_file` writes it (magic "ggsq", version 3): parsed into tensors and
 * written again, byte for byte. All numbers are little-endian:
 *
 *   u32 magic, u32 version, u32 count, u32 tokens[count]
 *   u32 streams, then for each stream u32 cells and, of the one stream that has any:
 *     cells x (i32 position, u32 sequences = 1, i32 sequence)      the order of cells is the cache's, not that of the positions
 *     u32 transposed, u32 layers
 *     layers x (i32 type, u64 rowBytes, K of all cells, a row each)
 *     layers x (i32 type, u64 rowBytes, V likewise)  or, transposed,  layers x (i32 type, u32 valueBytes, u32 rowValues, rowValues x V of all cells)
 *
 * The tensors are views of the file's bytes. What is not understood is refused by name (unsupported), what cannot be true as
 * invalid_argument; both before anything is sized by a number out of the file.
 */
import { KvferryError } from "./kvferry.ts";

/** What two states have in common if the KV of one can lie in the other. */
export interface StateShape {
  readonly layers: number;
  /** Values of K, and of V, of one token in one layer: heads x channels. */
  readonly rowValues: number;
  /** V lies channel by channel (llama.cpp without flash attention) and not token by token. */
  readonly transposed: boolean;
  /** Sequences of the context: a state loads only where there are as many. */
  readonly streams: number;
}

export interface LayerTensors {
  /** Row i is cell i: rowValues f16 values as they lie. */
  readonly k: Uint16Array;
  /** As k; where the shape says transposed, row j is channel j of all cells. */
  readonly v: Uint16Array;
}

export interface SequenceState {
  readonly shape: StateShape;
  /** Which stream the cells are in, and the sequence's id in its context. Loading puts them where the loader says. */
  readonly stream: number;
  readonly sequence: number;
  readonly tokens: Uint32Array;
  /** Of each cell; K is stored rotated by it. */
  readonly positions: Uint32Array;
  readonly layers: readonly LayerTensors[];
  /** The whole file; the tensors are views of it. */
  readonly bytes: Uint8Array;
}

const MAGIC = 0x6767_7371;
const VERSION = 3;
const F16 = 1;
const VALUE_BYTES = 2;
const CELL_BYTES = 12;
const LAYER_HEADER_BYTES = 12;

/** llama.cpp's own bounds, or above them; products of them are exact in a double. */
export const STATE_LIMITS = Object.freeze({ tokens: 1 << 20, streams: 256, layers: 1_024, rowValues: 1 << 18, position: 0x7fff_ffff });

const TYPES: Readonly<Record<number, string>> = {
  0: "f32",
  1: "f16",
  2: "q4_0",
  3: "q4_1",
  6: "q5_0",
  7: "q5_1",
  8: "q8_0",
  20: "iq4_nl",
  30: "bf16",
};

/** Throws KvferryError: unsupported (another version, another KV type, rows that differ between layers), invalid_argument. */
export function parseState(file: Uint8Array): SequenceState {
  // Views of 16-bit values begin at even addresses.
  const bytes = file.byteOffset % VALUE_BYTES === 0 ? file : Uint8Array.from(file);
  const reader = new Reader(bytes);
  const magic = reader.u32("magic");
  if (magic !== MAGIC) throw new KvferryError("invalid_argument", `not a sequence's state: it begins with 0x${magic.toString(16)}`);
  const version = reader.u32("version");
  if (version !== VERSION) throw unsupported(`a state file of version ${version}; version ${VERSION} is understood`);
  const tokens = reader.u32s("tokens", reader.counted("tokens", 0, STATE_LIMITS.tokens));
  const streams = reader.counted("streams", 1, STATE_LIMITS.streams);
  let held: Pick<SequenceState, "shape" | "stream" | "sequence" | "positions" | "layers"> | undefined;
  for (let stream = 0; stream < streams; stream++) {
    const cells = reader.counted("cells", 0, STATE_LIMITS.tokens);
    if (cells === 0) continue;
    if (held !== undefined) throw invalid("cells in one stream", "two that have them");
    const { sequence, positions } = parseCells(reader, cells);
    const { layers, ...shape } = parseTensors(reader, cells);
    held = { shape: { ...shape, layers: layers.length, streams }, stream, sequence, positions, layers };
  }
  if (held === undefined) throw invalid("cells", "a state without any");
  reader.end();
  return { ...held, tokens, bytes };
}

export interface NewState {
  readonly shape: StateShape;
  readonly tokens: Uint32Array;
  readonly stream?: number;
  readonly sequence?: number;
  /** Default: 0, 1, 2 ... */
  readonly positions?: Uint32Array;
}

/** A whole file whose K and V are zero, to be filled through its views. Throws KvferryError invalid_argument, memory_unavailable. */
export function newState({ shape, tokens, stream = 0, sequence = 0, positions }: NewState): SequenceState {
  const { layers, rowValues, transposed, streams } = shape;
  const cells = positions?.length ?? tokens.length;
  within("layers", layers, 1, STATE_LIMITS.layers);
  within("rowValues", rowValues, 1, STATE_LIMITS.rowValues);
  within("streams", streams, 1, STATE_LIMITS.streams);
  within("stream", stream, 0, streams - 1);
  within("sequence", sequence, 0, STATE_LIMITS.streams - 1);
  within("cells", cells, 1, STATE_LIMITS.tokens);
  within("tokens", tokens.length, 0, STATE_LIMITS.tokens);
  const tensorBytes = LAYER_HEADER_BYTES + cells * rowValues * VALUE_BYTES;
  const words = 4 + tokens.length + streams + 2;
  const writer = new Writer(words * 4 + cells * CELL_BYTES + 2 * layers * tensorBytes);
  for (const word of [MAGIC, VERSION, tokens.length, ...tokens, streams]) writer.u32(word);
  for (let before = 0; before < stream; before++) writer.u32(0);
  writer.u32(cells);
  for (let cell = 0; cell < cells; cell++) {
    const position = positions?.[cell] ?? cell;
    within("position", position, 0, STATE_LIMITS.position);
    writer.u32(position);
    writer.u32(1);
    writer.u32(sequence);
  }
  writer.u32(transposed ? 1 : 0);
  writer.u32(layers);
  const rowBytes = rowValues * VALUE_BYTES;
  for (let tensor = 0; tensor < 2 * layers; tensor++) {
    // The second word of a row's size, an u64, is zero; a transposed V has two words of its own there.
    const header = transposed && tensor >= layers ? [F16, VALUE_BYTES, rowValues] : [F16, rowBytes, 0];
    for (const word of header) writer.u32(word);
    writer.skip(cells * rowBytes);
  }
  for (let after = stream + 1; after < streams; after++) writer.u32(0);
  return parseState(writer.bytes());
}

/** The file of a state; of a parsed one, the bytes that were parsed. */
export function writeState(state: SequenceState): Uint8Array {
  const written = newState(state);
  state.layers.forEach(({ k, v }, layer) => {
    written.layers[layer]?.k.set(k);
    written.layers[layer]?.v.set(v);
  });
  return written.bytes;
}

export function sameShape(one: StateShape, other: StateShape): boolean {
  return (
    one.layers === other.layers && one.rowValues === other.rowValues && one.transposed === other.transposed && one.streams === other.streams
  );
}

function parseCells(reader: Reader, cells: number): { sequence: number; positions: Uint32Array } {
  reader.need("cells", cells * CELL_BYTES);
  const positions = new Uint32Array(cells);
  let sequence = 0;
  for (let cell = 0; cell < cells; cell++) {
    positions[cell] = reader.counted("position", 0, STATE_LIMITS.position);
    // More than one word a cell would be another kind of state: of a whole context, or with two-dimensional positions.
    if (reader.u32("sequences") !== 1) throw unsupported("a cell that is not of exactly one sequence");
    const named = reader.counted("sequence", 0, STATE_LIMITS.streams - 1);
    if (cell > 0 && named !== sequence) throw unsupported(`cells of sequences ${sequence} and ${named} in one state`);
    sequence = named;
  }
  return { sequence, positions };
}

function parseTensors(reader: Reader, cells: number): { transposed: boolean; rowValues: number; layers: LayerTensors[] } {
  const transposed = reader.counted("transposed", 0, 1) === 1;
  const layers = reader.counted("layers", 1, STATE_LIMITS.layers);
  let rowValues: number | undefined;
  const tensor = (name: string, isTransposed: boolean): Uint16Array => {
    const values = isTransposed ? transposedHeader(reader, name) : rowsHeader(reader, name);
    rowValues ??= values;
    if (values !== rowValues) throw unsupported(`${name} of ${values} values a token beside rows of ${rowValues}`);
    return reader.u16s(name, cells * values);
  };
  const ks = Array.from({ length: layers }, (_, layer) => tensor(`K of layer ${layer}`, false));
  const both = ks.map((k, layer) => ({ k, v: tensor(`V of layer ${layer}`, transposed) }));
  return { transposed, rowValues: rowValues as number, layers: both };
}

function rowsHeader(reader: Reader, name: string): number {
  f16(reader, name);
  const rowBytes = reader.u32(name);
  const high = reader.u32(name);
  if (high !== 0 || rowBytes % VALUE_BYTES !== 0)
    throw invalid(`rows of f16 values for ${name}`, `rows of ${rowBytes} + ${high} x 2^32 bytes`);
  return within(`${name}: values of a row`, rowBytes / VALUE_BYTES, 1, STATE_LIMITS.rowValues);
}

function transposedHeader(reader: Reader, name: string): number {
  f16(reader, name);
  within(`${name}: bytes of a value`, reader.u32(name), VALUE_BYTES, VALUE_BYTES);
  return reader.counted(`${name}: values of a row`, 1, STATE_LIMITS.rowValues);
}

function f16(reader: Reader, name: string): void {
  const type = reader.u32(name);
  if (type !== F16) throw unsupported(`${name} of type ${TYPES[type] ?? type}; f16 is understood`);
}

class Reader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  need(name: string, bytes: number): void {
    if (bytes > this.#bytes.length - this.#at) {
      throw new KvferryError(
        "invalid_argument",
        `the state ends within ${name}: ${bytes} bytes wanted at ${this.#at} of ${this.#bytes.length}`,
      );
    }
  }

  u32(name: string): number {
    this.need(name, 4);
    const word = this.#view.getUint32(this.#at, true);
    this.#at += 4;
    return word;
  }

  counted(name: string, low: number, high: number): number {
    return within(name, this.u32(name), low, high);
  }

  u32s(name: string, count: number): Uint32Array {
    this.need(name, count * 4);
    return Uint32Array.from({ length: count }, () => this.u32(name));
  }

  u16s(name: string, count: number): Uint16Array {
    this.need(name, count * VALUE_BYTES);
    const values = new Uint16Array(this.#bytes.buffer, this.#bytes.byteOffset + this.#at, count);
    this.#at += count * VALUE_BYTES;
    return values;
  }

  end(): void {
    const left = this.#bytes.length - this.#at;
    // Caches with a sliding window and recurrent models write a second cache behind the first.
    if (left > 0) throw unsupported(`${left} bytes behind the KV: the state of another kind of cache`);
  }
}

class Writer {
  readonly #view: DataView<ArrayBuffer>;
  #at = 0;

  constructor(bytes: number) {
    try {
      this.#view = new DataView(new ArrayBuffer(bytes));
    } catch (cause) {
      throw new KvferryError("memory_unavailable", `no memory for a state of ${bytes} bytes`, { cause });
    }
  }

  u32(word: number): void {
    this.#view.setUint32(this.#at, word, true);
    this.#at += 4;
  }

  skip(bytes: number): void {
    this.#at += bytes;
  }

  bytes(): Uint8Array {
    return new Uint8Array(this.#view.buffer);
  }
}

function within(name: string, value: number, low: number, high: number): number {
  if (value < low || value > high) throw invalid(`${low} to ${high} for ${name}`, String(value));
  return value;
}

function invalid(what: string, received: string): KvferryError {
  return new KvferryError("invalid_argument", `Expected ${what} but received ${received}`);
}

function unsupported(what: string): KvferryError {
  return new KvferryError("unsupported", `this state has ${what}`);
}
