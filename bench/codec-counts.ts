/** What a sidecar has counted of coding, from its /metrics: the sums of all profiles; and whether its profiles are there. */
import { get } from "node:http";
import { KvferryError } from "../transport/errors.ts";
import type { SidecarProcess } from "./sidecars.ts";

const TIMEOUT_MS = 5_000;
const READ_TIMEOUT_MS = 60_000;
const PAUSE_MS = 50;

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
export async function codedCounts(sidecar: SidecarProcess): Promise<CodedCounts> {
  const text = await page(sidecar, "/metrics");
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

/** Until matrices of calibrations are read. Rejects with KvferryError. */
export async function profilesThere(sidecar: SidecarProcess): Promise<void> {
  for (let waitedMs = 0; waitedMs < READ_TIMEOUT_MS; waitedMs += PAUSE_MS) {
    const { codec } = JSON.parse(await page(sidecar, "/status")) as Status;
    if (codec === null || codec.models.every(({ awaited }) => awaited.length === 0)) return;
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  throw new KvferryError("deadline_exceeded", `sidecar ${sidecar.name} has not read its calibration in ${READ_TIMEOUT_MS} ms`);
}

interface Status {
  readonly codec: { readonly models: readonly { readonly awaited: readonly string[] }[] } | null;
}

function page({ socket }: SidecarProcess, path: "/metrics" | "/status"): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => reject(new KvferryError("connection_lost", `${path} of a sidecar: ${cause.message}`, { cause }));
    const request = get({ socketPath: socket, path, timeout: TIMEOUT_MS }, (answer) => {
      const parts: string[] = [];
      answer.setEncoding("utf8").on("data", (part: string) => parts.push(part));
      answer.once("end", () => resolve(parts.join(""))).once("error", fail);
    });
    request.once("error", fail).once("timeout", () => request.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
  });
}
