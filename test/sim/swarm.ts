/**
 * What a seed chooses before anything happens: how many nodes and engines, how each lays out its KV, how tight every limit is, which faults there
 * are and how often. Some seeds are calm and large, some are tiny and terrible: that is what finds corners.
 */
import type { ModelIdentity } from "../../transport/ferry/ferry.ts";
import { denseGroup, layoutOf, stateGroup, vllmCpuLayout } from "../../transport/kv/build.ts";
import { serializeLayout } from "../../transport/kv/parse.ts";
import type { Layout } from "../../transport/kv/layout.ts";
import { drawProfiles } from "./codecs.ts";
import { type Faults, noFaults } from "./faults.ts";
import type { LimitName } from "./limits.ts";
import type { NodeSpec } from "./node.ts";
import { Random } from "./random.ts";
import { FORMER, staleTongue, type Tongue } from "./tongues.ts";

export interface Swarm {
  readonly nodes: readonly NodeSpec[];
  /** Of each node. */
  readonly models: readonly ModelIdentity[];
  readonly enginesPerNode: number;
  readonly documentTokens: readonly Uint32Array[];
  readonly limits: Readonly<Partial<Record<LimitName, number>>>;
  readonly faults: Faults;
  readonly faultKinds: readonly string[];
  readonly transfers: number;
  /** Over how long the transfers begin. */
  readonly spanUs: number;
  readonly deadlinesMs: readonly number[];
  /** In 100. */
  readonly cancelParts: number;
}

const LAYERS = 2;
const KV_HEADS = 4;
const HEAD_DIM = 4;
const STATE_VALUES = 64;

export function drawSwarm(seed: number): Swarm {
  const random = new Random(seed, "swarm");
  const count = random.pick([2, 2, 3, 3, 4, 5]);
  const names = Array.from({ length: count }, (_, at) => `n${at}`);
  const model = identityOf("tiny-llama", random);
  const drawn = names.map((name, at) => drawNode(random.split(name), at, names));
  const tongues = random.split("tongues");
  const profiles = random.split("profiles");
  const hasProfiles = profiles.chance(1, 2);
  const nodes = drawn.map((node) => ({
    ...node,
    tongue: drawTongue(tongues, drawn),
    profiles: hasProfiles ? drawProfiles(profiles) : undefined,
  }));
  const { faults, kinds } = drawFaults(random.split("faults"));
  const tokens = random.split("documents");
  return {
    nodes,
    // Now and then a node serves something else: nothing may pass between it and the others.
    models: nodes.map((_, at) => (count > 2 && at === count - 1 && random.chance(1, 4) ? identityOf("other", random) : model)),
    enginesPerNode: random.between(1, 3),
    documentTokens: Array.from({ length: random.between(2, 6) }, () => drawTokens(tokens)),
    limits: drawLimits(random.split("limits"), nodes),
    faults,
    faultKinds: kinds,
    transfers: random.between(100, 140),
    spanUs: random.pick([2_000_000, 8_000_000, 20_000_000]),
    deadlinesMs: random.pick([[500, 2_000, 10_000], [3_000, 10_000, 30_000], [200, 1_000], [30_000]]),
    cancelParts: random.pick([0, 5, 15]),
  };
}

function identityOf(model: string, random: Random): ModelIdentity {
  return { model, revision: String(random.below(3)), element: "bf16", rope: "", profile: "", extra: "" };
}

function drawTokens(random: Random): Uint32Array {
  return Uint32Array.from({ length: random.between(4, 40) }, () => random.below(32_000));
}

function drawNode(random: Random, at: number, names: readonly string[]): NodeSpec {
  const blockCount = random.pick([12, 12, 24, 48]);
  const { layout, blockBytes } = drawLayout(random, blockCount);
  const chunkBytes = random.pick([64, 128, 256, 512]);
  const others = names.map((name, index) => ({ name, address: endpointOf(index), secret: "" })).filter((_, index) => index !== at);
  const absent = [{ name: "absent", address: { host: "10.0.8.8", port: 1 }, secret: "" }];
  return {
    name: names[at] as string,
    endpoint: endpointOf(at),
    blockBytes,
    blockCount,
    layout,
    settings: {
      name: names[at] as string,
      advertise: "",
      allow: ["10.0.0.0/8"],
      secret: "",
      peers: [...others, ...absent],
      lanes: lanesOf(random),
      congestion: { configured: "", allowed: ["cubic", "bbr"] },
      rateBytesPerSecond: random.chance(1, 6) ? 20_000 * 4 : 0,
      hasTls: false,
      chunkBytes,
      checksum: true,
      stallMs: 2_000,
      heartbeatMs: 1_000,
      deadlines: { localMs: 2_000, remoteMs: 10_000 },
      transfersMax: random.pick([2, 8, 64]),
      windowBytes: random.pick([chunkBytes, 2 * chunkBytes, 8 * chunkBytes, 1 << 20]),
    },
    link: {
      queueChunks: random.pick([2, 8, 256]),
      placementsMax: random.pick([3, 16, 256]),
      // Two of the longest messages at least, as limits.ts demands.
      controlQueueBytes: random.pick([4_096, 1 << 20]),
      unansweredChunks: random.pick([1, 3, 16]),
      eventsMax: random.pick([4, 64, 1_024]),
      connectionsMax: 64,
      lanesMax: 64,
      laneRateBytesPerSecond: random.pick([50_000, 1_000_000, 100_000_000]),
    },
    jobsMax: random.pick([1, 4, 64]),
    tongue: undefined,
    profiles: undefined,
  };
}

/** Most speak as this version does, and say how things are. */
function drawTongue(random: Random, nodes: readonly NodeSpec[]): Tongue | undefined {
  return random.pick([undefined, undefined, undefined, undefined, FORMER, staleTongue(serializeLayout(random.pick(nodes).layout))]);
}

function endpointOf(at: number): { readonly host: string; readonly port: number } {
  return { host: `10.0.0.${at + 1}`, port: 7411 };
}

function drawLayout(random: Random, blockCount: number): { readonly layout: Layout; readonly blockBytes: number } {
  const blockTokens = random.pick([4, 4, 8]);
  const shared = { layers: LAYERS, kvHeads: KV_HEADS, headDim: HEAD_DIM, blockTokens, element: "bf16" as const, blockCount };
  const layerBytes = KV_HEADS * HEAD_DIM * 2 * 2 * blockTokens;
  const order = random.pick(["NHD", "HND"] as const);
  const kv = random.pick(["split", "joined"] as const);
  const form = random.pick(["block-contiguous", "layer-major", "cpu", "hybrid", "hybrid", "half", "deep"] as const);
  if (form === "cpu") return { layout: vllmCpuLayout(shared), blockBytes: LAYERS * layerBytes };
  if (form === "hybrid") {
    // Attention and state share the blocks: one block is in use by one group at a time.
    const state = { layers: [LAYERS], values: STATE_VALUES, element: "bf16" as const, blockCount, form: "block-contiguous" as const };
    const blockStride = LAYERS * layerBytes;
    const attention = denseGroup({ ...shared, order, kv, form: "block-contiguous", blockStride });
    return { layout: layoutOf(blockCount, [attention, stateGroup({ ...state, blockStride })]), blockBytes: blockStride };
  }
  if (form === "half") {
    // Tensor parallelism: this node holds the second half of the heads only.
    const heads = KV_HEADS / 2;
    const group = denseGroup({ ...shared, firstHead: heads, heads, order, kv, form: "block-contiguous" });
    return { layout: layoutOf(blockCount, [group]), blockBytes: (LAYERS * layerBytes) / 2 };
  }
  if (form === "deep" && random.chance(1, 2)) {
    // A layer more than the others: nothing can be converted.
    const group = denseGroup({ ...shared, layers: LAYERS + 1, order, kv, form: "block-contiguous" });
    return { layout: layoutOf(blockCount, [group]), blockBytes: (LAYERS + 1) * layerBytes };
  }
  const dense = form === "layer-major" ? "layer-major" : "block-contiguous";
  return { layout: layoutOf(blockCount, [denseGroup({ ...shared, order, kv, form: dense })]), blockBytes: LAYERS * layerBytes };
}

function drawLimits(random: Random, nodes: readonly NodeSpec[]): Swarm["limits"] {
  // Room for a greeting with the longest layout, hardly for an offer with many keys.
  const greetingBytes =
    Math.max(...nodes.map(({ layout }) => serializeLayout(layout).length)) +
    260 +
    (nodes.some(({ profiles }) => profiles !== undefined) ? 160 : 0);
  return {
    chunkBytesMin: 16,
    // Windows are counted in it: small ones, that grow and are cut, and ones that no transfer fills.
    chunkBytesDefault: random.pick([16, 64, 1 << 20]),
    keyPageTokens: random.pick([4, 16]),
    windowChunksMax: random.pick([2, 4, 64]),
    attemptsWithoutProgress: random.pick([2, 5]),
    apiClientsMax: random.pick([6, 64]),
    offersMax: random.pick([3, 64]),
    buffersMax: random.pick([4, 64]),
    outboxMessages: random.pick([8, 4_096]),
    endedTransfersKept: random.pick([4, 1_024]),
    eventsPerTurn: random.pick([3, 1_024]),
    controlMessageBytes: random.pick([greetingBytes, 2_048]),
    rangesPerTransferMax: 64,
    peersMax: random.pick([8, 64]),
  };
}

/** Each kind of fault with its settings; a seed has three to eight of them. */
const FAULTS: Readonly<Record<string, (random: Random) => Partial<Faults>>> = {
  connections: (random) => ({ breakConnection: random.pick([20, 100, 400]) }),
  lanes: (random) => ({ breakLane: random.pick([50, 300, 1_500]), breakLagMaxUs: random.pick([5_000, 200_000, 3_000_000]) }),
  flips: (random) => ({ flip: random.pick([50, 500, 2_000]) }),
  clog: (random) => ({ clog: random.pick([10, 100]), clogMaxUs: random.pick([10_000, 1_000_000, 4_000_000]) }),
  slow: (random) => ({ delayMinUs: 1_000, delayMaxUs: random.pick([5_000, 100_000]) }),
  late: (random) => ({ lateCompletion: random.pick([100, 2_000]), lateCompletionMaxUs: random.pick([1_000, 200_000]) }),
  full: (random) => ({ submitFull: random.pick([100, 2_000]), placeFull: random.pick([0, 100]), sendFull: random.pick([0, 500]) }),
  cuts: (random) => ({
    cutEveryUs: random.pick([500_000, 3_000_000]),
    cutMaxUs: random.pick([100_000, 2_000_000, 12_000_000]),
    forgetAfterCut: random.pick([0, 50]),
  }),
  nodeKills: (random) => ({ killNodeEveryUs: random.pick([1_000_000, 5_000_000]) }),
  nodeStops: (random) => ({
    stopNodeEveryUs: random.pick([700_000, 4_000_000]),
    stopNodeMaxUs: random.pick([50_000, 1_000_000, 8_000_000]),
  }),
  drains: () => ({ drainEveryUs: 3_000_000 }),
  engineKills: (random) => ({ killEngineEveryUs: random.pick([300_000, 3_000_000]) }),
  engineStops: (random) => ({ stopEngineEveryUs: random.pick([300_000, 2_000_000]), stopEngineMaxUs: random.pick([100_000, 5_000_000]) }),
  corruption: () => ({ corruptEveryUs: 300_000 }),
  strangers: (random) => ({ strangerEveryUs: random.pick([200_000, 1_000_000]) }),
};

function drawFaults(random: Random): { readonly faults: Faults; readonly kinds: readonly string[] } {
  const kinds = random
    .shuffle(Object.keys(FAULTS))
    .slice(0, random.between(3, 8))
    .sort((one, other) => (one < other ? -1 : 1));
  const faults: Faults = {
    ...noFaults,
    delayMaxUs: random.pick([50, 200, 2_000]),
    breakLagMaxUs: random.pick([0, 5_000, 3_000_000]),
    loseUnderWay: random.pick([0, 50, 100]),
    letGoMaxUs: random.pick([5, 1_000, 200_000]),
    shortWrite: random.pick([0, 3_000, 10_000]),
  };
  for (const kind of kinds) Object.assign(faults, FAULTS[kind]?.(random));
  return { faults, kinds };
}

/** As the operator fixed them, or as the path gains by. */
function lanesOf(random: Random): NodeSpec["settings"]["lanes"] {
  const most = random.between(1, 4);
  return { least: random.chance(1, 2) ? 1 : most, most };
}
