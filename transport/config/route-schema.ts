/** Every field of `kvferry route`: its schema, what a right value looks like, what it is for, and its default. */
import { z } from "zod";
import { parseHostPattern } from "./host-pattern.ts";
import { fieldTable } from "./layers.ts";
import { boolean, type DeepPartial, duration, field, list, listenAddress, log, size, whole } from "./leaves.ts";
import { limits } from "../limits.ts";

const MILLIONS = 100_000_000;

export const routeSchema = z.strictObject({
  name: field(
    z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
    "1-64 letters, digits, dots, dashes or underscores",
    "name in log lines",
  ),
  listen: field(listenAddress(), "HOST:PORT or [IPV6]:PORT", "where clients connect"),
  prefill: field(
    engines(),
    "a list of http://HOST:PORT or https://HOST:PORT",
    "engines that compute prompts; their KV is fetched by decode engines",
  ),
  decode: field(engines(), "a list of http://HOST:PORT or https://HOST:PORT", "engines that answer"),
  allowPrefiller: field(
    list(
      z.string().refine((text) => parseHostPattern(text) !== undefined),
      limits.routeEnginesMax,
    ),
    "a list of HOST:PORT, CIDR:PORT or *.SUFFIX:PORT (PORT may be *)",
    "prefill engines beside --prefill that the header x-prefiller-host-port may name",
  ),
  prefillTimeoutMs: field(
    duration(1, limits.deadlineMaxMs),
    "a time from 1ms to 1h",
    "how long a prefill may take before its request is decoded plainly",
    { flag: "prefill-timeout" },
  ),
  requestTimeoutMs: field(duration(1, limits.deadlineMaxMs), "a time from 1ms to 1h", "how long a request may take in all", {
    flag: "request-timeout",
  }),
  minPrefillTokens: field(
    whole(0, MILLIONS),
    `an integer from 0 to ${MILLIONS}`,
    "shorter prompts go straight to a decode engine; estimated as 4 characters a token, exact where a prompt is token ids",
  ),
  minPrefillCharacters: field(
    whole(0, MILLIONS),
    `an integer from 0 to ${MILLIONS}`,
    "the same in characters of text, for languages with more or fewer of them a token",
  ),
  requestsMax: field(whole(1, limits.routeRequestsMax), `an integer from 1 to ${limits.routeRequestsMax}`, "requests at once"),
  bodyBytesMax: field(size(1, limits.routeBodyBytesMax), "a size from 1 to 256MiB", "bytes of a request's body"),
  bodiesBytesMax: field(
    size(1, limits.routeBodiesBytesMax),
    "a size from 1 to 64GiB",
    "bytes of all bodies that wait for an answer, each held until its first byte; memory takes a few times that",
  ),
  insecure: field(boolean(), "true or false", "listen on other than loopback addresses although nothing is encrypted"),
  log,
  drainMs: field(duration(0, limits.deadlineMaxMs), "a time up to 1h", "how long SIGTERM waits for running requests"),
});

export type RouteValues = z.output<typeof routeSchema>;
export type RouteInput = DeepPartial<z.input<typeof routeSchema>>;

export const routeTable = fieldTable(routeSchema, "KVFERRY_ROUTE_", /^KVFERRY_ROUTE_(?:CONFIG|SERVICE_.*|PORT|PORT_.*)$/);

export const routeDefaults: RouteInput = {
  name: "route",
  listen: "127.0.0.1:7480",
  prefill: [],
  decode: [],
  allowPrefiller: [],
  prefillTimeoutMs: limits.routePrefillTimeoutMs,
  requestTimeoutMs: limits.routeRequestTimeoutMs,
  minPrefillTokens: 0,
  minPrefillCharacters: 0,
  requestsMax: limits.routeRequestsDefault,
  bodyBytesMax: limits.routeBodyBytesDefault,
  bodiesBytesMax: limits.routeBodiesBytesDefault,
  insecure: false,
  log: { level: "info", format: "json" },
  drainMs: limits.deadlineRemoteMs,
};

/** Origins: paths are the client's, credentials have no place in an address that is logged. */
function engines() {
  const origin = z.string().transform((text, context) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const plain = url !== undefined && /^https?:\/\/[^/?#@\\]+\/?$/i.test(text) && url.port !== "0" && url.hostname !== "";
    if (plain) return url.origin;
    context.addIssue({ code: "custom", message: "http://HOST:PORT" });
    return z.NEVER;
  });
  return list(origin, limits.routeEnginesMax);
}
