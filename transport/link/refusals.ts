/** Why strangers are turned away before there is a connection to tell of. In the order of native/core/refusals.h. */

export const REFUSAL_REASONS = [
  /** Of the certificate that was shown; `bad_certificate` is what has no name of its own. */
  "bad_certificate",
  "expired",
  "unknown_ca",
  "denied",
  "no_certificate",
  /** A lane whose certificate is not of whom its connection is. */
  "wrong_identity",
  /** No common protocol, cipher or key, or the other end refused our certificate. */
  "handshake",
  /** Spoke without TLS where it is wanted, or with it where there is none. */
  "plain",
  "tls",
  "garbage",
  "timeout",
  /** Too many others had not said what they are. */
  "full",
] as const;

export type RefusalReason = (typeof REFUSAL_REASONS)[number];
export type RefusalCounts = Readonly<Record<RefusalReason, number>>;

export function refusalCounts(of: (reason: RefusalReason, index: number) => number): RefusalCounts {
  return Object.fromEntries(REFUSAL_REASONS.map((reason, index) => [reason, of(reason, index)])) as RefusalCounts;
}
