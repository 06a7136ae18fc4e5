/**
 * What link.ts promises, as one suite for every link: `linkConformance("js", make)`. Each test runs with the lanes' two ends in one process, over
 * real sockets where the link has them; hostile peers are bare sockets (raw.ts), bad networks a proxy (proxy.ts). After each transfer every byte of
 * both memories is compared with what it should be, guards included. Waiting is for events; nothing asserts a time.
 */
import { describe } from "node:test";
import type { Endpoint } from "../../transport/link/link.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";
import { arrivalTests } from "./conformance/arrivals.ts";
import { chunkTests } from "./conformance/chunks.ts";
import { connectionTests } from "./conformance/connections.ts";
import { controlTests } from "./conformance/control.ts";
import { crowdTests } from "./conformance/crowd.ts";
import type { MakeLink } from "./conformance/end.ts";
import { faultTests } from "./conformance/faults.ts";
import { hostileTests } from "./conformance/hostile.ts";
import { laneTests } from "./conformance/lanes.ts";
import { placementTests } from "./conformance/placements.ts";
import { queueTests } from "./conformance/queues.ts";
import { revokeTests } from "./conformance/revokes.ts";
import { waitingTests } from "./conformance/waiting.ts";

export interface ConformanceOptions {
  /** The listening end, if it is another kind of link: the two must understand each other. */
  readonly listener?: MakeLink;
  /** False: the ends meet within the process, and no socket can be put between them. */
  readonly wire?: boolean;
  /** A fresh place to listen at; 127.0.0.1 and any port. */
  readonly listenAt?: () => Endpoint;
  /** Both ends speak TLS; bare peers and the proxy use this. */
  readonly tls?: TlsOptions;
  /** Only what two ends of different kinds could understand differently. */
  readonly brief?: boolean;
  /** Why nothing of this can run here. */
  readonly skip?: string;
}

export function linkConformance(name: string, make: MakeLink, options: ConformanceOptions = {}): void {
  const suite = {
    make,
    makeListener: options.listener ?? make,
    hasWire: options.wire ?? true,
    listenAt: options.listenAt ?? (() => ({ host: "127.0.0.1", port: 0 })),
    tls: options.tls,
  };
  describe(`link ${name}`, { skip: options.skip ?? false }, () => {
    connectionTests(suite);
    controlTests(suite);
    laneTests(suite);
    placementTests(suite);
    chunkTests(suite);
    if (options.brief === true) return;
    queueTests(suite);
    revokeTests(suite);
    if (!suite.hasWire) return;
    arrivalTests(suite);
    faultTests(suite);
    hostileTests(suite);
    crowdTests(suite);
    waitingTests(suite);
  });
}
