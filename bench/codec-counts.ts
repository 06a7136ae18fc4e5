/** What a sidecar has counted of coding, from its /metrics: the sums of all profiles. */
import { get } from "node:http";
import { KvferryError } from "../transport/errors.ts";
import type { SidecarProcess } from "./sidecars.ts";

const TIMEOUT_MS = 5_000;

export class CodedCounts {
  readonly #values: ReadonlyMap<string, number>;

  constructor(values: ReadonlyMap<string, number>) {
    this.#values = values;
  }

  /** By the value of the label `reason`: why transfers were stored or coded, why chunks were stored. */
  reasons(metric: "kvferry_codec_transfers_total" | "kvferry_codec_stored_chunks_total"): Record<string, number> {
    const found: Record<string, number> = {};
    for (const [name, value] of this.#values) {
      const [, of, reason] = /^(\w+)\{.*\breason="(\w*)"/.exec(name) ?? [];
      if (of === metric && reason !== undefined && value > 0) found[reason] = (found[reason] ?? 0) + value;
    }
    return found;
  }

  since(before: CodedCounts): CodedCounts {
    return new CodedCounts(new Map([...this.#values].map(([name, value]) => [name, value - (before.#values.get(name) ?? 0)])));
  }
}

/** Rejects with KvferryError. */
export async function codedCounts({ socket }: SidecarProcess): Promise<CodedCounts> {
  const text = await new Promise<string>((resolve, reject) => {
    const fail = (cause: Error): void => reject(new KvferryError("connection_lost", `/metrics of a sidecar: ${cause.message}`, { cause }));
    const request = get({ socketPath: socket, path: "/metrics", timeout: TIMEOUT_MS }, (answer) => {
      const parts: string[] = [];
      answer.setEncoding("utf8").on("data", (part: string) => parts.push(part));
      answer.once("end", () => resolve(parts.join(""))).once("error", fail);
    });
    request.once("error", fail).once("timeout", () => request.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
  });
  const lines = text.split("\n").filter((line) => line.startsWith("kvferry_codec_"));
  return new CodedCounts(
    new Map(
      lines.map((line) => {
        const at = line.lastIndexOf(" ");
        return [line.slice(0, at), Number(line.slice(at + 1))];
      }),
    ),
  );
}
