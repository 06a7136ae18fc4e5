/** Links over TLS for tests that look at certificates: each kind as dialler and as listener, with material of its own. */
import type { TestContext } from "node:test";
import { decodeMessage } from "../../transport/peer/messages.ts";
import { codeOfNumber } from "../../transport/errors.ts";
import { createJsLink } from "../../transport/link/js.ts";
import type { ConnectionId, Endpoint } from "../../transport/link/link.ts";
import type { LinkLimits } from "../../transport/link/native-link.ts";
import type { RefusalReason } from "../../transport/link/refusals.ts";
import { createTcpLink } from "../../transport/link/tcp.ts";
import { native } from "../../transport/native.ts";
import type { TlsOptions } from "../../transport/tls/options.ts";
import { End, type EventOf } from "./conformance/end.ts";
import { TOKEN } from "./conformance/pair.ts";

export type Kind = "tcp" | "js";

export const KINDS: readonly Kind[] = native === undefined ? ["js"] : ["tcp", "js"];
export interface Pairing {
  readonly dialler: Kind;
  readonly listener: Kind;
  readonly name: string;
}

export const PAIRINGS: readonly Pairing[] = KINDS.flatMap((dialler) =>
  KINDS.map((listener) => ({ dialler, listener, name: `${dialler} to ${listener}` })),
);

/** `tls` undefined: a plain one. */
export async function openEnd(t: TestContext, kind: Kind, tls: TlsOptions | undefined, limits: Partial<LinkLimits> = {}): Promise<End> {
  const more = tls === undefined ? {} : { tls };
  const end = await End.open(
    kind,
    async (options) => (kind === "js" ? createJsLink({ ...options, ...more }) : createTcpLink({ ...options, ...more })),
    limits,
  );
  t.after(() => end.link.close());
  return end;
}

export async function openListening(
  t: TestContext,
  kind: Kind,
  tls: TlsOptions | undefined,
  limits: Partial<LinkLimits> = {},
): Promise<{ b: End; endpoint: Endpoint }> {
  const b = await openEnd(t, kind, tls, limits);
  return { b, endpoint: await b.link.listen({ host: "127.0.0.1", port: 0 }) };
}

export interface Met {
  readonly atA: ConnectionId;
  readonly atB: ConnectionId;
  readonly connected: EventOf<"connected">;
  readonly accepted: EventOf<"accepted">;
}

/** One more connection from A to B; B admits lanes with that token. */
export async function meet(a: End, b: End, endpoint: Endpoint, identity?: string, token = TOKEN): Promise<Met> {
  const before = b.all("accepted").length;
  const atA = a.link.dial(endpoint, 10_000, identity);
  const connected = await a.event("connected", { connection: atA });
  const accepted = (await b.eventCount(before + 1, "accepted")).at(-1) as EventOf<"accepted">;
  b.link.admitLanes(accepted.connection, token);
  return { atA, atB: accepted.connection, connected, accepted };
}

/** Dials and is not let in, here or there: why. What the listener says before it closes counts, wherever it says it. */
export async function dialInVain(a: End, endpoint: Endpoint, identity?: string): Promise<{ code: string; detail: string }> {
  const connection = a.link.dial(endpoint, 10_000, identity);
  const { code, detail } = await a.event("disconnected", { connection });
  const said = a.all("message", { connection }).map(({ bytes }) => decodeMessage(bytes));
  for (const message of said) if (message.kind === "refuse") return { code: codeOfNumber(message.code), detail: message.detail };
  return { code: codeOfNumber(code), detail };
}

/** Waits until B has turned somebody away for that reason, and nobody for another. */
export async function turnedAway(b: End, reason: RefusalReason, count = 1): Promise<EventOf<"refused">> {
  const refused = await b.eventCount(count, "refused", { reason });
  const others = b.all("refused").filter((event) => event.reason !== reason);
  if (others.length > 0) throw new Error(`refused for ${others.map((event) => `${event.reason}: ${event.detail}`).join(", ")}`);
  return refused.at(-1) as EventOf<"refused">;
}
