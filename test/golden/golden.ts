/**
 * Reads the golden files: `# what it is`, `kind: ...`, then either `means: {JSON}` or `refused: a word of the reason`, then the bytes in hex.
 * They were written by an implementation that shares no code with kvferry, and change only with the version of the wire.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type GoldenKind = "preamble" | "header" | "frame" | "control";

export interface Golden {
  readonly name: string;
  readonly kind: GoldenKind;
  /** What a decoder gives; undefined if it refuses. */
  readonly means: Readonly<Record<string, unknown>> | undefined;
  /** A word of the reason; "" if it is not refused. */
  readonly refused: string;
  readonly bytes: Uint8Array;
}

export function readGolden(kind?: GoldenKind): Golden[] {
  const folder = import.meta.dirname;
  const names = readdirSync(folder).filter((name) => name.endsWith(".hex"));
  const all = names.sort().map((name) => parseGolden(name.slice(0, -4), readFileSync(join(folder, name), "utf8")));
  return all.filter((golden) => kind === undefined || golden.kind === kind);
}

function parseGolden(name: string, text: string): Golden {
  let hex = "";
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const field = line.match(/^(kind|means|refused): (.*)$/);
    if (field !== null) fields.set(field[1] as string, field[2] as string);
    else if (!line.startsWith("#")) hex += line.replaceAll(" ", "");
  }
  const means = fields.get("means");
  return {
    name,
    kind: fields.get("kind") as GoldenKind,
    means: means === undefined ? undefined : (JSON.parse(means) as Record<string, unknown>),
    refused: fields.get("refused") ?? "",
    bytes: Uint8Array.from(Buffer.from(hex, "hex")),
  };
}
