/** What the API's listener answers over plain HTTP: /healthz for anybody who reaches it, /metrics and /status for whoever has the token. */
import { timingSafeEqual } from "node:crypto";
import type { HttpReply } from "./backend.ts";

export interface RouteSources {
  readonly metrics?: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly status?: () => unknown;
}

const TEXT = "text/plain; charset=utf-8";

export class Routes {
  readonly #sources: RouteSources;
  readonly #isHealthy: () => boolean;

  constructor(sources: RouteSources, isHealthy: () => boolean) {
    this.#sources = sources;
    this.#isHealthy = isHealthy;
  }

  /**
   * Whether this Authorization header opens a listener with this token ("": one that needs none). In time that does
   * not depend on the token.
   */
  admits(token: string, authorization: string): boolean {
    if (token === "") return true;
    const wanted = Buffer.from(`Bearer ${token}`);
    const given = Buffer.from(authorization);
    return timingSafeEqual(wanted, given.length === wanted.length ? given : Buffer.alloc(wanted.length)) && given.length === wanted.length;
  }

  async answer(path: string, admitted: boolean): Promise<HttpReply> {
    if (path === "/healthz") {
      return this.#isHealthy() ? { status: 200, contentType: TEXT, body: "ok\n" } : { status: 503, contentType: TEXT, body: "draining\n" };
    }
    if (!admitted) return { status: 401, contentType: TEXT, body: "a token is needed\n" };
    const { metrics, status } = this.#sources;
    try {
      if (path === "/metrics" && metrics !== undefined) {
        const { contentType, text } = await metrics();
        return { status: 200, contentType, body: text };
      }
      if (path === "/status" && status !== undefined) {
        return { status: 200, contentType: "application/json", body: `${JSON.stringify(status(), plain)}\n` };
      }
    } catch (error) {
      return { status: 500, contentType: TEXT, body: `${(error as Error).message}\n` };
    }
    return { status: 404, contentType: TEXT, body: "not found\n" };
  }
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
}
