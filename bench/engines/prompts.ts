/** Prompts of plain English, as token ids: this repository's own documents, cut at many places so that no two share a prefix. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../transport/cli/package.ts";
import type { Vllm } from "./vllm.ts";

const STEP_TOKENS = 611;

export class Prompts {
  readonly #ids: readonly number[];
  #next = 0;

  private constructor(ids: readonly number[]) {
    this.#ids = ids;
  }

  static async from(engine: Vllm): Promise<Prompts> {
    const root = packageRoot;
    const documents = ["ARCHITECTURE.md", "STYLE.md", "README.md", "CHANGELOG.md", "bench/RESULTS.md"];
    for (const name of readdirSync(join(root, "schemas")).filter((file) => file.endsWith(".md"))) documents.push(`schemas/${name}`);
    return new Prompts(await engine.tokenize(documents.map((name) => readFileSync(join(root, name), "utf8")).join("\n")));
  }

  /** The next prompt of that many tokens. */
  take(tokens: number): number[] {
    const start = (this.#next++ * STEP_TOKENS) % this.#ids.length;
    return Array.from({ length: tokens }, (_, at) => this.#ids[(start + at) % this.#ids.length]!);
  }
}
