/** Writes schemas/bench.schema.json from bench/document.ts, for readers in other languages: node --import tsx bench/schema.ts */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { benchDocument, SCHEMA } from "./document.ts";

export function schemaText(): string {
  const schema = z.toJSONSchema(benchDocument, { target: "draft-2020-12" });
  return `${JSON.stringify({ title: SCHEMA, description: "One run of kvferry bench --json.", ...schema }, null, 2)}\n`;
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(join(import.meta.dirname, "..", "schemas", "bench.schema.json"), schemaText());
}
