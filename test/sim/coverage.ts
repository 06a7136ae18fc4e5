/** Which codes of the closed list a run has seen, and where, and which ways fetches went: proof that the swarm gets into the corners. */
import { codeOfNumber, ERRORS, type ErrorCode } from "../../transport/errors.ts";
import { type Path, PATHS } from "./paths.ts";

/**
 * Codes that no seed can reach, each with the test that asserts it instead. The simulation drives a node below the edge of its API and its
 * configuration, in memory that is always there: what the parsers of that edge refuse, what the operating system refuses at start, what a client
 * over a socket cannot do, and a broken invariant lie outside. Whatever is not listed here the swarm must reach (swarm.test.ts), so a new code has
 * a home in one place or the other; that the tests named here do assert their codes is a test as well.
 */
export const ELSEWHERE: Readonly<Partial<Record<ErrorCode, string>>> = {
  invalid_config: "test/config/config.test.ts",
  unsupported: "test/api/lifecycle.test.ts",
  internal: "test/api/channel.test.ts",
  address_unavailable: "test/api/lifecycle.test.ts",
  memory_unavailable: "test/cli/serve.test.ts",
  tls_failed: "test/link/tls-certificates.test.ts",
  codec_failed: "test/link/coded.test.ts",
  profile_refused: "test/ferry/profiles-moving.test.ts",
  certificate_rejected: "test/link/tls-certificates.test.ts",
  tenant_denied: "test/api/frames.test.ts",
  message_malformed: "test/api/frames.test.ts",
  hello_required: "test/api/frames.test.ts",
  attach_unavailable: "test/api/lifecycle.test.ts",
};

export class Coverage {
  readonly #counts = new Map<ErrorCode, Map<string, number>>();
  readonly paths = new Map<Path, number>(PATHS.map((path) => [path, 0]));

  note(code: ErrorCode | number, where: string): void {
    const name = typeof code === "number" ? codeOfNumber(code) : code;
    let places = this.#counts.get(name);
    if (places === undefined) {
      places = new Map();
      this.#counts.set(name, places);
    }
    places.set(where, (places.get(where) ?? 0) + 1);
  }

  go(path: Path, times = 1): void {
    this.paths.set(path, (this.paths.get(path) ?? 0) + times);
  }

  add(other: Coverage): void {
    for (const [path, times] of other.paths) this.go(path, times);
    for (const [code, places] of other.#counts) {
      for (const [where, count] of places) for (let at = 0; at < count; at++) this.note(code, where);
    }
  }

  count(code: ErrorCode): number {
    let sum = 0;
    for (const count of this.#counts.get(code)?.values() ?? []) sum += count;
    return sum;
  }

  /** Codes that should have been reached and were not. */
  missing(): ErrorCode[] {
    return (Object.keys(ERRORS) as ErrorCode[]).filter((code) => ELSEWHERE[code] === undefined && this.count(code) === 0);
  }

  table(): string {
    const rows = (Object.keys(ERRORS) as ErrorCode[]).map((code) => {
      const places = [...(this.#counts.get(code) ?? [])].sort(([, one], [, other]) => other - one).slice(0, 4);
      const text = places.map(([where, count]) => `${where} ${count}`).join(", ");
      const none = ELSEWHERE[code] === undefined ? "NEVER" : `(${ELSEWHERE[code]})`;
      return `${code.padEnd(22)} ${String(this.count(code)).padStart(8)}  ${text === "" ? none : text}`;
    });
    const ways = [...this.paths].map(([path, times]) => `${path.padEnd(30)} ${String(times).padStart(8)}`);
    return [...rows, "", ...ways].join("\n");
  }
}
