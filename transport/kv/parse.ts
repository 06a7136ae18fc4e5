/**
 * Layouts come from engines and from peers: unknown in, frozen Layout out, every number bounded, no two blocks on one
 * byte (overlap.ts). Fields that are not known are refused: a layout that is half understood would put bytes in the
 * wrong place. PURE.
 */
import { expected, integer } from "../check.ts";
import { KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import { type ComponentLayout, type ComponentName, ELEMENT_BYTES, type ElementType, type GroupLayout, type Layout } from "./layout.ts";
import { checkOverlap } from "./overlap.ts";

const NAMES: readonly ComponentName[] = ["k", "v", "kv", "latent", "state"];
const ELEMENTS = Object.keys(ELEMENT_BYTES) as readonly ElementType[];

/**
 * @param poolBytes bytes of the data area that offsets count in; the greatest pool's for a layout of another node.
 * @param blockBytes block size of that pool, if it is ours: the layout then has its blocks, or fewer that are larger.
 * Throws KvferryError invalid_argument that names the field.
 */
export function parseLayout(value: unknown, poolBytes: number = limits.poolBytesMax, blockBytes?: number): Layout {
  integer(poolBytes, "poolBytes", 1, limits.poolBytesMax);
  const fields = record(value, "layout", ["blockCount", "groups"]);
  const blockCount = integer(fields["blockCount"], "blockCount", 1, limits.poolBlocksMax);
  if (blockBytes !== undefined) {
    const blocks = Math.floor(poolBytes / integer(blockBytes, "blockBytes", 1, limits.poolBlockBytesMax));
    if (blockCount > blocks) throw expected(`at most ${blocks} (blocks of the pool)`, "blockCount", blockCount);
  }
  const groups = array(fields["groups"], "groups", 1, limits.groupsMax).map((group, at) => parseGroup(group, `groups[${at}]`, poolBytes));
  const planes = groups.reduce((sum, group) => sum + group.layers.length * group.components.length * 2, 0);
  if (planes > limits.planesMax) throw expected(`at most planesMax (${limits.planesMax})`, "twice the components of all layers", planes);
  const layout = Object.freeze({ blockCount, groups: Object.freeze(groups) });
  checkOverlap(layout, poolBytes);
  return layout;
}

/** The layout of a Hello, Offer or Accept. Throws invalid_argument. */
export function parseLayoutJson(bytes: Uint8Array, poolBytes?: number, blockBytes?: number): Layout {
  if (bytes.length > limits.layoutJsonBytes) throw expected(`at most ${limits.layoutJsonBytes} bytes`, "layout", bytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new KvferryError("invalid_argument", `Expected JSON in UTF-8 for layout but received ${bytes.length} other bytes`, { cause });
  }
  return parseLayout(value, poolBytes, blockBytes);
}

/**
 * Canonical JSON: fields in the order of layout.ts, no spaces; equal layouts give equal bytes. Throws invalid_argument
 * if it is too long for a message.
 */
export function serializeLayout(layout: Layout): Uint8Array {
  const groups = layout.groups.map(({ blockTokens, layers, components }) => ({
    blockTokens,
    layers,
    components: components.map((component) => ({
      name: component.name,
      element: component.element,
      heads: component.heads,
      firstHead: component.firstHead,
      channels: component.channels,
      offsets: component.offsets,
      blockStride: component.blockStride,
      tokenStride: component.tokenStride,
      headStride: component.headStride,
      channelStride: component.channelStride,
    })),
  }));
  const bytes = new TextEncoder().encode(JSON.stringify({ blockCount: layout.blockCount, groups }));
  if (bytes.length > limits.layoutJsonBytes) throw expected(`at most ${limits.layoutJsonBytes} bytes as JSON`, "layout", bytes);
  return bytes;
}

function parseGroup(value: unknown, name: string, poolBytes: number): GroupLayout {
  const fields = record(value, name, ["blockTokens", "layers", "components"]);
  const blockTokens = integer(fields["blockTokens"], `${name}.blockTokens`, 0, limits.blockTokensMax);
  const layers = integers(fields["layers"], `${name}.layers`, 1, limits.layersMax, limits.layersMax - 1);
  if (new Set(layers).size !== layers.length) throw expected("each layer once", `${name}.layers`, layers);
  const components = array(fields["components"], `${name}.components`, 1, limits.componentsMax).map((component, at) =>
    parseComponent(component, `${name}.components[${at}]`, { poolBytes, blockTokens, layerCount: layers.length }),
  );
  checkNames(components, name, blockTokens);
  const bytes = components.reduce((sum, component) => sum + bytesPerBlock(component, blockTokens, layers.length), 0);
  if (bytes > limits.poolBlockBytesMax) throw expected(`a block of at most ${limits.poolBlockBytesMax} bytes`, name, bytes);
  return Object.freeze({ blockTokens, layers: Object.freeze(layers), components: Object.freeze(components) });
}

interface Surroundings {
  readonly poolBytes: number;
  readonly blockTokens: number;
  readonly layerCount: number;
}

const COMPONENT_FIELDS = [
  "name",
  "element",
  "heads",
  "firstHead",
  "channels",
  "offsets",
  "blockStride",
  "tokenStride",
  "headStride",
  "channelStride",
];

function parseComponent(value: unknown, at: string, { poolBytes, layerCount }: Surroundings): ComponentLayout {
  const fields = record(value, at, COMPONENT_FIELDS);
  const name = oneOf(fields["name"], `${at}.name`, NAMES);
  const element = oneOf(fields["element"], `${at}.element`, ELEMENTS);
  const single = name === "latent" || name === "state";
  const channelsMax = name === "state" ? limits.poolBlockBytesMax / ELEMENT_BYTES[element] : limits.channelsMax;
  const channels = integer(fields["channels"], `${at}.channels`, 1, channelsMax);
  if (name === "kv" && channels % 2 !== 0) throw expected("an even number (K and V are alike)", `${at}.channels`, channels);
  const heads = integer(fields["heads"], `${at}.heads`, 1, single ? 1 : limits.headsMax);
  const stride = (field: string): number => integer(fields[field], `${at}.${field}`, 0, poolBytes);
  const offsets = integers(fields["offsets"], `${at}.offsets`, layerCount, layerCount, poolBytes);
  return Object.freeze({
    name,
    element,
    heads,
    firstHead: integer(fields["firstHead"], `${at}.firstHead`, 0, limits.headsMax - heads),
    channels,
    offsets: Object.freeze(offsets),
    blockStride: stride("blockStride"),
    tokenStride: stride("tokenStride"),
    headStride: stride("headStride"),
    channelStride: stride("channelStride"),
  });
}

function checkNames(components: readonly ComponentLayout[], name: string, blockTokens: number): void {
  const names = components.map((component) => component.name);
  if (names.some((component) => (component === "state") !== (blockTokens === 0))) {
    throw expected(
      blockTokens === 0 ? "state alone (blockTokens is 0)" : "no state (blockTokens is not 0)",
      `${name}.components`,
      names.join(),
    );
  }
  const counted = (wanted: ComponentName): number => names.filter((component) => component === wanted).length;
  const [k, v, kv] = [counted("k"), counted("v"), counted("kv")];
  if (k > 1 || v > 1 || kv > 1 || (kv > 0 && k + v > 0)) throw expected("K and V once", `${name}.components`, names.join());
}

function bytesPerBlock({ element, heads, channels }: ComponentLayout, blockTokens: number, layerCount: number): number {
  return ELEMENT_BYTES[element] * heads * channels * Math.max(blockTokens, 1) * layerCount;
}

/** The own fields of a plain object: exactly these, so that nothing inherited or misspelt is taken for a number. */
function record(value: unknown, name: string, fields: readonly string[]): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw expected("an object", name, value);
  const strange = Object.keys(value).find((field) => !fields.includes(field));
  if (strange !== undefined) throw expected(`only ${fields.join(", ")}`, name, strange);
  const missing = fields.find((field) => !Object.hasOwn(value, field));
  if (missing !== undefined) throw expected("a value", `${name}.${missing}`, undefined);
  return value as Readonly<Record<string, unknown>>;
}

function array(value: unknown, name: string, least: number, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length < least || value.length > most) {
    throw expected(least === most ? `an array of ${most}` : `an array of ${least} to ${most}`, name, value);
  }
  // From, because map leaves holes as holes.
  return Array.from(value as readonly unknown[]);
}

/** Integers from 0 to `high`. An element's name is written out only when it is wrong: there are thousands. */
function integers(value: unknown, name: string, least: number, most: number, high: number): number[] {
  return array(value, name, least, most).map((element, at) =>
    typeof element === "number" && Number.isSafeInteger(element) && element > 0 && element <= high
      ? element
      : integer(element, `${name}[${at}]`, 0, high),
  );
}

function oneOf<T extends string>(value: unknown, name: string, choices: readonly T[]): T {
  const found = choices.find((choice) => choice === value);
  if (found === undefined) throw expected(`one of ${choices.join(", ")}`, name, value);
  return found;
}
