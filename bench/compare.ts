/** Other tools in turn with us, so that a busy minute hurts everybody: each round runs each tool once, then our own window. */
import { limits } from "../transport/limits.ts";
import type { Comparison } from "./document.ts";
import { IPERF3_MISSING, iperf3, iperf3Available, type Tool, type ToolRun } from "./iperf3.ts";
import type { BenchOptions } from "./options.ts";
import { median } from "./statistics.ts";
import { buildYardstick, yardstick } from "./yardstick.ts";

export const ROUNDS = 3;

export class Competition {
  readonly notes: string[] = [];
  readonly #tools: readonly Tool[];
  readonly #runs = new Map<Tool, ToolRun[]>();

  /** Finds the tools that are there; what is missing becomes a note that says how to get it. */
  static async gather(options: BenchOptions): Promise<Competition> {
    const tools: Tool[] = [];
    const notes: string[] = [];
    const host = options.role === "both" ? undefined : options.host;
    if (options.compare.includes("iperf3")) {
      if (await iperf3Available()) tools.push(iperf3(1, host), iperf3(4, host));
      else notes.push(IPERF3_MISSING);
    }
    if (options.compare.includes("raw")) {
      if (host !== undefined) notes.push("the C yardstick runs on one machine only (no -c)");
      else {
        const built = await buildYardstick();
        if ("program" in built) tools.push(yardstick(built.program, options.lanes || limits.lanesDefault));
        else notes.push(built.missing);
      }
    }
    return new Competition(tools, notes);
  }

  private constructor(tools: readonly Tool[], notes: readonly string[]) {
    this.#tools = tools;
    this.notes.push(...notes);
  }

  get size(): number {
    return this.#tools.length;
  }

  /** One run of each tool. A tool that fails once is left out, with a note. */
  async take(seconds: number, onStage: (stage: string) => void): Promise<void> {
    for (const tool of this.#tools) {
      const runs = this.#runs.get(tool) ?? [];
      this.#runs.set(tool, runs);
      if (runs.length === 0 && this.notes.some((note) => note.startsWith(labelOf(tool)))) continue;
      onStage(labelOf(tool));
      try {
        runs.push(await tool.run(seconds));
      } catch (error) {
        this.notes.push(`${labelOf(tool)} did not run: ${(error as Error).message}`);
      }
    }
  }

  /** @param ours bits/s of our own windows of the same rounds */
  result(ours: readonly number[]): Comparison[] {
    return [...this.#runs].flatMap(([tool, runs]) => {
      if (runs.length === 0) return [];
      const theirs = runs.map((run) => run.bitsPerSecond);
      const cpu = runs.flatMap(({ cpuSecondsPerGib }) => (cpuSecondsPerGib === undefined ? [] : [cpuSecondsPerGib]));
      return [
        {
          tool: tool.name,
          streams: tool.streams,
          bits_per_second: median(theirs),
          ratio: median(ours) / median(theirs),
          runs: theirs,
          cpu_seconds_per_gib: cpu.length === 0 ? null : median(cpu),
        },
      ];
    });
  }
}

function labelOf(tool: Tool): string {
  return `${tool.name} with ${tool.streams} stream${tool.streams === 1 ? "" : "s"}`;
}
