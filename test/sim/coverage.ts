/** Which codes of the closed list a run has seen, and where: proof that the swarm gets into the corners. */
import { codeOfNumber, ERRORS, type ErrorCode } from "../../transport/errors.ts";

/**
 * Not below the edge of the API and the configuration: they are raised by the parsers there, by the operating system at start, or by a bug.
 */
export const BEYOND_SIMULATION: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "invalid_config",
  "unsupported",
  "internal",
  "address_unavailable",
  "memory_unavailable",
  "tenant_denied",
  "message_malformed",
  "hello_required",
  "attach_unavailable",
]);

export class Coverage {
  readonly #counts = new Map<ErrorCode, Map<string, number>>();

  note(code: ErrorCode | number, where: string): void {
    const name = typeof code === "number" ? codeOfNumber(code) : code;
    let places = this.#counts.get(name);
    if (places === undefined) {
      places = new Map();
      this.#counts.set(name, places);
    }
    places.set(where, (places.get(where) ?? 0) + 1);
  }

  add(other: Coverage): void {
    for (const [code, places] of other.#counts) {
      for (const [where, count] of places) for (let at = 0; at < count; at++) this.note(code, where);
    }
  }

  count(code: ErrorCode): number {
    let sum = 0;
    for (const count of this.#counts.get(code)?.values() ?? []) sum += count;
    return sum;
  }

  missing(): ErrorCode[] {
    return (Object.keys(ERRORS) as ErrorCode[]).filter((code) => !BEYOND_SIMULATION.has(code) && this.count(code) === 0);
  }

  table(): string {
    const rows = (Object.keys(ERRORS) as ErrorCode[]).map((code) => {
      const places = [...(this.#counts.get(code) ?? [])].sort(([, one], [, other]) => other - one).slice(0, 4);
      const text = places.map(([where, count]) => `${where} ${count}`).join(", ");
      const none = BEYOND_SIMULATION.has(code) ? "(beyond the simulation)" : "NEVER";
      return `${code.padEnd(22)} ${String(this.count(code)).padStart(8)}  ${text === "" ? none : text}`;
    });
    return rows.join("\n");
  }
}
