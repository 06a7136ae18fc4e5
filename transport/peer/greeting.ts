/** The handshake: what two nodes say first, and whether they may talk. */
import { timingSafeEqual } from "node:crypto";
import { ERRORS, KvferryError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Hello, Refuse } from "./messages.ts";

export const SOFTWARE = "kvferry";
/** What a node may leave out: used only if both ends name it. */
export const CAPABILITIES = ["resume", "ranges", "push", "keys", "discard", "early", "lanes", "prewarm", "tenants"] as const;
export type Capability = (typeof CAPABILITIES)[number];

/** The version that both speak, or version_unsupported. */
export function commonVersion(hello: Hello): number {
  const version = Math.min(hello.version, limits.protocolVersion);
  if (version < limits.protocolVersionMin || version < hello.minVersion) {
    const ours = `${limits.protocolVersionMin}..${limits.protocolVersion}`;
    throw new KvferryError("version_unsupported", `here ${ours}, there ${hello.minVersion}..${hello.version}`);
  }
  return version;
}

export function refusal(error: KvferryError, re = 0): Refuse {
  return {
    kind: "refuse",
    code: ERRORS[error.code].number,
    detail: error.detail.slice(0, 1024),
    version: limits.protocolVersion,
    minVersion: limits.protocolVersionMin,
    re,
  };
}

/** Compares secrets without telling by its time how much of them agrees. */
export function sameSecret(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a, "utf8"), Buffer.from(b, "utf8")];
  return left.length === right.length && timingSafeEqual(left, right);
}
