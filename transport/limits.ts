/**
 * Every bound in one place, with the relations between them asserted at start-up. Numbers that arrive from outside are compared with these
 * once, at the edge. `test/sim` runs with much smaller ones to reach the corners.
 */
import { assert } from "./check.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

const values = {
  // wire
  protocolVersion: 1,
  protocolVersionMin: 1,
  preambleBytes: 48,
  preambleTimeoutMs: 5_000,
  frameHeaderBytes: 48,
  frameTrailerBytes: 8,
  chunkBytesMin: 4 * KiB,
  chunkBytesDefault: 1 * MiB,
  chunkBytesMax: 16 * MiB,
  /** Of a chunk that is coded, which is held twice for a while (native/core/placement.h has it too). */
  codedChunkBytesMax: 4 * MiB,
  controlMessageBytes: 4 * MiB,
  /** Of who dialled, until its Hello is judged. */
  greetingMessageBytes: 1 * MiB,
  controlQueueBytes: 16 * MiB,
  grantMax: Number.MAX_SAFE_INTEGER,
  // link
  lanesMax: 64,
  lanesDefault: 4,
  connectionsMax: 1_024,
  placementsMax: 4_096,
  submissionsMax: 4_096,
  completionsMax: 16_384,
  sendQueueChunks: 4_096,
  connectTimeoutMs: 5_000,
  notSentLowBytes: 512 * KiB,
  greetingsMax: 256,
  // tls
  /** A third of what RFC 8446 lets AES-GCM protect under one key. */
  tlsRecordsPerKey: 8_388_608,
  tlsDeniedMax: 65_536,
  /** How often the files of a certificate, and a policy, are looked at. */
  filesPollMs: 10_000,
  // kv
  layersMax: 1_024,
  groupsMax: 64,
  headsMax: 1_024,
  channelsMax: 65_536,
  componentsMax: 16,
  blockTokensMax: 65_536,
  planesMax: 8_192,
  blocksPerTransferMax: 262_144,
  chunksPerTransferMax: 1_048_576,
  /** Tokens that one key stands for (schemas/keys.md): part of the format, not a tunable. */
  keyPageTokens: 16,
  keyTokensMax: 16_777_216,
  identityCharacters: 4_096,
  // codec
  /** Of a tile: what is encoded at once. */
  codecTokensMax: 65_536,
  codecTileBytesMax: 256 * MiB,
  /** Values of one token of a tile. */
  codecWidthMax: 65_536,
  /** Layers of one tile. */
  codecLayersMax: 64,
  codecExemptMax: 4_096,
  profileBytes: 1 * MiB,
  /** Of a file that ranks heads. */
  headScoresMax: 65_536,
  headScoresBytes: 4 * MiB,
  /** That a node may have KV coded with. */
  profilesMax: 16,
  profileIdCharacters: 32,
  /** Numbers of heads, of a part of a model's, that its codecs are kept for. */
  codecPartsMax: 16,
  safetensorsHeaderBytes: 16 * MiB,
  safetensorsTensorsMax: 65_536,
  /** Numbers of a tensor's shape. */
  safetensorsAxesMax: 16,
  // tenants
  tenantCharacters: 48,
  tenantsMax: 64,
  /** Identities of a tenant, rules, namespaces of a rule, peers that an offer is for: each. */
  tenantEntriesMax: 1_024,
  namespaceCharacters: 256,
  // pool
  poolBytesMin: 1 * MiB,
  poolBytesMax: 4_096 * GiB,
  poolBlocksMax: 4_194_304,
  poolBlockBytesMax: 1 * GiB,
  poolHoldersMax: 2_048,
  leasesPerBlockMax: 1_048_576,
  jobThreads: 1,
  jobsMax: 256,
  // session
  transfersMax: 1_024,
  windowBytesDefault: 64 * MiB,
  windowBytesMax: 16 * GiB,
  windowChunksMax: 1_024,
  stallMs: 2_000,
  deadlineLocalMs: 2_000,
  deadlineRemoteMs: 30_000,
  deadlineMaxMs: 3_600_000,
  attemptsWithoutProgress: 5,
  retryPauseMinUs: 10_000,
  retryPauseMaxUs: 1_000_000,
  fullPauseMinUs: 1_000,
  fullPauseMaxUs: 50_000,
  admittedBytesMax: 64 * GiB,
  // peer
  layoutJsonBytes: 256 * KiB,
  handleCharacters: 64,
  rangesPerTransferMax: 65_536,
  modelsMax: 64,
  modelsLayoutBytesMax: 896 * KiB,
  peersMax: 1_024,
  offersMax: 4_096,
  readersMax: 1_024,
  buffersMax: 4_096,
  outboxMessages: 4_096,
  detailCharacters: 1_024,
  endedTransfersKept: 1_024,
  silentMs: 5_000,
  redialMinMs: 50,
  redialMaxMs: 2_000,
  helloTimeoutMs: 5_000,
  lookupTimeoutMs: 2_000,
  lookupsPendingMax: 4_096,
  offerDeadlineMs: 120_000,
  eventsPerTurn: 1_024,

  heartbeatMs: 1_000,
  /** While transfers run. */
  busyHeartbeatMs: 250,
  /** Without a word of a remote that should speak, another connection is tried; and again after so long. */
  probeAfterMs: 400,
  probeMs: 150,
  // api
  apiClientsMax: 256,
  apiMessageBytes: 8 * MiB,
  apiBackpressureBytes: 32 * MiB,
  apiIdleSeconds: 32,
  apiBatchMax: 65_536,
  apiHelloTimeoutMs: 5_000,
  apiVersion: 1,
  apiVersionMin: 1,
  apiConnectionsMax: 320,
  apiPendingMax: 4_096,
  /** Answers that gave something away and may be lost with the connection: more than a socket holds of them, few enough to be young garbage. */
  apiGivenMax: 256,
  apiDepthMax: 8,
  apiValuesMax: 1_048_576,
  apiTextCharacters: 4_096,
  apiTokenCharactersMin: 16,
  apiRequestTimeoutMs: 30_000,
  apiPingMs: 5_000,
  apiSilentMs: 15_000,
  // route
  routeRequestsMax: 16_384,
  routeRequestsDefault: 1_024,
  routeConnectionsMax: 32_768,
  routeHeaderBytes: 32 * KiB,
  routeBodyBytesMax: 256 * MiB,
  routeBodyBytesDefault: 32 * MiB,
  routeBodiesBytesMax: 64 * GiB,
  routeBodiesBytesDefault: 1 * GiB,
  routeDepthMax: 128,
  routeAnswerBytes: 8 * MiB,
  routeParamsCharacters: 256 * KiB,
  routeEnginesMax: 1_024,
  routePrefillersNamedMax: 16,
  routeTraceCharacters: 128,
  routeReceiveTimeoutMs: 120_000,
  routeHeadersTimeoutMs: 15_000,
  routeKeepAliveMs: 60_000,
  routeConnectTimeoutMs: 3_000,
  routePrefillTimeoutMs: 60_000,
  routeRequestTimeoutMs: 600_000,
  /** uvicorn, under every vLLM, closes an idle connection after 5 s. */
  routeIdleMs: 4_000,
  routeIdleConnections: 256,
  routeFailuresToDown: 3,
  routeDownMinMs: 1_000,
  routeDownMaxMs: 30_000,
};

export type Limits = Readonly<Record<keyof typeof values, number>>;
export const limits: Limits = Object.freeze(values);

assert(limits.chunkBytesMin <= limits.chunkBytesDefault && limits.chunkBytesDefault <= limits.chunkBytesMax, "chunk sizes are ordered");
assert(limits.codedChunkBytesMax <= limits.chunkBytesMax, "a coded chunk is a chunk");
assert(limits.windowBytesDefault >= limits.chunkBytesMax, "a window holds at least one chunk of any size");
assert(limits.windowBytesDefault <= limits.windowBytesMax, "the default window is allowed");
assert(limits.controlQueueBytes >= 2 * limits.controlMessageBytes, "a full message never blocks an empty queue");
assert(limits.greetingMessageBytes <= limits.controlMessageBytes, "a first message is one of those that may be");
assert(limits.modelsLayoutBytesMax < limits.greetingMessageBytes - limits.modelsMax * KiB, "a Hello holds every model and its layout");
assert(
  128 + limits.profilesMax * (limits.profileIdCharacters + 24) <= KiB,
  "a model's fingerprint and profiles take no more than is left for them",
);
assert(limits.busyHeartbeatMs < limits.probeAfterMs, "a remote that is only waited for has been asked before it is doubted");
assert(limits.tlsRecordsPerKey <= 2 ** 24, "a TLS key is changed before AES-GCM wears it out (2^24.5 records)");
assert(limits.stallMs <= limits.deadlineRemoteMs && limits.heartbeatMs < limits.stallMs, "silence is noticed before a deadline");
assert(limits.poolHoldersMax >= limits.apiClientsMax + limits.transfersMax, "each client and each transfer can be a holder of blocks");
assert(limits.sendQueueChunks >= limits.windowChunksMax, "one transfer's window fits the send queue");
assert(limits.greetingsMax >= 2 * limits.lanesMax, "all lanes of a connection may come before its Hello");
assert(limits.planesMax >= 2 * limits.layersMax, "K and V of every layer fit the planes of a transfer");
assert(limits.codecTileBytesMax < 2 ** 31, "lengths within a block fit 32 bits, as do all that a tile may grow to");
assert(limits.codecWidthMax >= limits.channelsMax && limits.codecTokensMax >= limits.blockTokensMax, "a block of one head can be a tile");
assert(
  limits.codecLayersMax <= limits.layersMax && limits.codecExemptMax <= limits.codecTokensMax,
  "what a profile may ask for fits a model and a tile",
);
assert(
  2 ** limits.codecPartsMax >= limits.headsMax,
  "there are codecs for the ranks of each degree of tensor parallelism that halves the one before",
);
assert(2 * 4 * limits.headScoresMax < limits.profileBytes, "levels of as many heads as may be ranked, for K and for V, fit a profile");
assert(limits.headScoresMax * 32 < limits.headScoresBytes, "as many scores as may be fit a file, at 32 characters each");
assert(limits.poolBlockBytesMax < 2 ** 32, "a block as one run fits the 32 bits that native gives a run of a plane");
assert(limits.blockTokensMax <= limits.keyTokensMax, "the tokens of a block can have their keys");
assert(limits.apiConnectionsMax > limits.apiClientsMax, "a client that is refused still gets an answer");
assert(limits.apiBackpressureBytes >= 2 * limits.apiMessageBytes, "one large answer does not make a client a slow one");
assert(limits.apiMessageBytes > (8 + 32) * limits.apiBatchMax, "a whole batch with its keys fits one message");
assert(limits.apiValuesMax > 7 * limits.rangesPerTransferMax, "a transfer of as many ranges as allowed fits one message");
assert(
  limits.apiIdleSeconds >= 12 && limits.apiIdleSeconds % 4 === 0,
  "uWebSockets.js counts idle time in steps of 4 s and needs 8 s for its ping",
);
assert(
  limits.apiPingMs < limits.apiSilentMs && limits.apiPingMs < limits.apiIdleSeconds * 1000,
  "a client pings before either side gives up",
);
assert(limits.retryPauseMinUs <= limits.retryPauseMaxUs && limits.fullPauseMinUs <= limits.fullPauseMaxUs, "pauses are ordered");
assert(limits.retryPauseMaxUs < limits.stallMs * 1000, "a chunk that waits for its next attempt is no stall by itself");
assert(limits.admittedBytesMax >= limits.windowBytesMax, "one transfer's largest window can be admitted");
assert(
  limits.routeConnectTimeoutMs < limits.routePrefillTimeoutMs && limits.routePrefillTimeoutMs < limits.routeRequestTimeoutMs,
  "an absent prefill engine leaves time for a plain decode",
);
assert(limits.routeBodiesBytesDefault >= limits.routeBodyBytesMax, "a body of any allowed size can be held");
assert(limits.routeBodiesBytesDefault <= limits.routeBodiesBytesMax, "the default for bodies together is allowed");
assert(limits.routeParamsCharacters < limits.routeAnswerBytes, "parameters of any allowed size fit an answer");
assert(limits.routeHeadersTimeoutMs < limits.routeReceiveTimeoutMs, "headers arrive before the body");
assert(limits.routeConnectionsMax > limits.routeRequestsMax, "a request that is refused still gets an answer");
assert(limits.routeDownMinMs <= limits.routeDownMaxMs && limits.routeFailuresToDown >= 1, "an engine that is down is tried again");
