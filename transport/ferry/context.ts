/** The node as its parts see it: sessions, what is served, the table of peers. FerryNode implements it. */
import type { KvferryError } from "../errors.ts";
import type { Endpoint, Link } from "../link/link.ts";
import type { RefusalReason } from "../link/refusals.ts";
import type { Jobs } from "../memory/jobs.ts";
import type { HolderId, Pool } from "../memory/pool.ts";
import type { Region } from "../memory/region.ts";
import type { PeerHost, PeerOptions, PeerPort } from "../peer/host.ts";
import type { CodecReason } from "../policy/choose-codec.ts";
import type { DeadlineDefaults } from "../policy/deadline.ts";
import type { Message, ModelEntry } from "../peer/messages.ts";
import type { Peer } from "../peer/peer.ts";
import type { AccessRules } from "./access.ts";
import type { Admissions } from "./admissions.ts";
import type { BufferTable } from "./buffers.ts";
import type { FerryEvent, TransferReport } from "./ferry.ts";
import type { Denial, Denials } from "./denials.ts";
import type { ModelTable } from "./models.ts";
import type { BlockNamespaces } from "./namespaces.ts";
import type { OfferTable } from "./offers.ts";
import type { BlockOrigins } from "./origins.ts";
import type { Profiles } from "./profiles.ts";

export interface NodeSettings extends AccessRules {
  readonly name: string;
  readonly advertise: string;
  readonly peers: readonly { readonly name: string; readonly address: Endpoint; readonly secret: string; readonly identity?: string }[];
  readonly lanes: PeerOptions["lanes"];
  /** Of lanes: what the operator wants, or "", and what the kernel lets this process choose. */
  readonly congestion: { readonly configured: string; readonly allowed: readonly string[] };
  readonly chunkBytes: number;
  readonly checksum: boolean;
  readonly stallMs: number;
  readonly heartbeatMs: number;
  readonly deadlines: DeadlineDefaults;
  readonly transfersMax: number;
  readonly windowBytes: number;
  /** Cap of what is sent to each peer; 0 = none. */
  readonly rateBytesPerSecond: number;
  /** Peers show certificates; else none has an identity. */
  readonly hasTls: boolean;
}

/** Whose it was: for lines that somebody follows a request by. */
export interface TransferAbout {
  readonly peer: string;
  /** What the engine gave along, or "". */
  readonly trace: string;
}

/** What a transfer to a peer goes by: the profile's name, or "" as it is. */
export interface CodingChoice {
  readonly profile: string;
  readonly reason: CodecReason;
}

export type Denied = "hello" | "fetch" | "push";

/** What happened, for metrics and logs; never decides anything. */
export interface NodeObserver {
  transferEnded?(direction: "in" | "out", ok: boolean, code: string, report: TransferReport, about: TransferAbout): void;
  chunk?(direction: "in" | "out", bytes: number, durationUs: number): void;
  chunkFailed?(code: number): void;
  stalled?(direction: "in" | "out"): void;
  /** `tenant`: whose peer it is, or "". */
  peer?(name: string, up: boolean, detail: string, tenant: string): void;
  /** A lane died while its connection lives. */
  laneLost?(peer: string, lane: number, code: string): void;
  /** A stranger was turned away at the door, or a peer refused; the link's `refusals` counts those that nobody is told of. */
  refused?(reason: RefusalReason | Denial, remote: Endpoint, detail: string): void;
  /** Another policy is in force, or is not, because its file is broken or asks for a restart. */
  policy?(outcome: { readonly tenants: readonly string[] } | KvferryError): void;
  /** A profile of the configuration that is not to be had, for one model or ("") for any. */
  profileMissing?(profile: string, model: string, why: string): void;
  /** How something goes to a peer, where this node has profiles. */
  coding?(peer: string, choice: CodingChoice): void;
  /** Whether the address that others are told leads here. `problem`: why it does not, or "". */
  reach?(address: string, problem: string): void;
  /** A peer was not let in, or did not get what it asked for. `remote`: its name, or its address where it has none yet. */
  denied?(what: Denied, remote: string, failure: KvferryError): void;
  /** Another certificate is in use, or is not, because its files are broken. */
  certificate?(outcome: { readonly identity: string; readonly notAfter: string } | KvferryError): void;
}

export interface PeerDirectory {
  /** Throws peer_not_allowed. */
  get(name: string): Peer;
  /** `name`: as of get, or TENANT@ and that: what is asked there is another tenant's. Throws peer_not_allowed. */
  at(name: string): { readonly peer: Peer; readonly tenant: string };
  all(): Peer[];
  tell(message: Message): void;
}

export interface NodeContext extends PeerHost {
  readonly settings: NodeSettings;
  readonly link: Link;
  readonly pool: Pool;
  readonly jobs: Jobs;
  readonly observer: NodeObserver;
  /** Makes a registered buffer's memory reachable by the link. */
  readonly bufferRegion: (memory: Uint8Array | { readonly path: string; readonly bytes: number }) => Region;
  readonly models: ModelTable;
  readonly profiles: Profiles;
  /** Blocks that came through a profile that loses something. */
  readonly origins: BlockOrigins;
  /** Of what is sent to each peer. */
  readonly choices: WeakMap<PeerPort, CodingChoice>;
  readonly offers: OfferTable;
  readonly buffers: BufferTable;
  readonly admissions: Admissions;
  readonly peers: PeerDirectory;
  /** Whose node it is; "": there is no policy. */
  readonly tenant: string;
  readonly namespaces: BlockNamespaces;
  readonly denials: Denials;
  /** Names this process to its peers: new at each start. */
  readonly nodeId: string;
  /** The node's own in the pool: blocks that a push fills, leases of blocks that are being served. */
  readonly holder: HolderId;
  readonly incarnation: string;
  readonly transfers: number;
  bytesSent: number;
  bytesReceived: number;
  forgetSession(resume: string): void;
  /** Published and evicted blocks concern everybody. */
  broadcast(event: FerryEvent): void;
  newGrant(): number;
  /** When a transfer that a caller gave `deadlineMs` for fails. */
  deadlineUs(nowUs: number, deadlineMs: number): number;
  modelEntries(): ModelEntry[];
  /** Whether an address that no configured peer has may be dialled. */
  mayDial(address: Endpoint): boolean;
}
