/** Where output goes: standard output or a file; as text, one JSON document, or a JSON line for each event. Progress goes to a terminal. */
import { closeSync, openSync, writeSync } from "node:fs";
import { KvferryError } from "../transport/errors.ts";
import type { BenchDocument, Interval } from "./document.ts";
import type { BenchOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import {
  codecText,
  comparisonText,
  decisionText,
  fallbackText,
  impairmentText,
  intervalText,
  reasonsText,
  tableText,
  twoNumbers,
  underLoadText,
} from "./text.ts";

export class Output {
  readonly #options: BenchOptions;
  readonly #file: number | undefined;
  readonly #terminal: boolean;
  readonly #progress = new Progress();
  /** The last of this case. */
  #before: Interval | undefined;

  constructor(options: BenchOptions) {
    this.#options = options;
    const { form, logfile } = options.output;
    // Where standard output is the same terminal, JSON stands there alone.
    this.#terminal = process.stderr.isTTY === true && (form === "text" || logfile !== "" || process.stdout.isTTY !== true);
    if (logfile === "") return;
    this.#file = inFile(() => openSync(logfile, "a"));
  }

  started(start: BenchDocument["start"]): void {
    if (this.#options.output.form === "stream") this.#event("start", start);
  }

  interval(interval: Interval): void {
    const { form, unit } = this.#options.output;
    const isAsked = this.#tellsMore && this.#options.intervalSeconds > 0;
    if (form === "stream") this.#event("interval", interval);
    const text = intervalText(interval, unit, this.#options);
    if (form === "text" && isAsked) {
      const decisions = decisionText(this.#before?.case === interval.case ? this.#before : undefined, interval);
      this.#line(decisions === "" ? text : `${text}\n    ${decisions}`);
    } else this.stage(text.replace("\n", "  "));
    this.#before = interval;
  }

  /** A long run over a link that changes is more than two numbers. */
  get #tellsMore(): boolean {
    return !this.#options.canonical || this.#options.impairment !== undefined;
  }

  /** What is going on, on one line that the next one overwrites. */
  stage(text: string): void {
    if (this.#terminal) this.#progress.show(() => text);
  }

  /** What nobody may miss: at once, to the error output, whatever form the output has. */
  warn(text: string): void {
    this.#clear();
    process.stderr.write(`kvferry: ${text}\n`);
  }

  finished(document: BenchDocument): void {
    this.#clear();
    const { form, unit } = this.#options.output;
    if (form === "stream") {
      this.#event("end", {
        results: document.results,
        comparison: document.comparison,
        impairment: document.impairment,
        end: document.end,
        server_output: document.server_output,
      });
      if (document.error !== null) this.#event("error", document.error);
    } else if (form === "json") {
      this.#line(JSON.stringify(document, null, 2));
    } else if (document.error === null || document.results.length > 0) {
      const compared = comparisonText(document.comparison, unit);
      const coded = codecText(document, unit);
      if (coded !== "") this.#line(coded);
      else if (this.#tellsMore && document.results.length > 0) this.#line(reasonsText(document));
      if (coded === "") this.#line(this.#options.canonical ? twoNumbers(document, unit) : tableText(document, unit));
      if (compared !== "") this.#line(compared);
      const underLoad = this.#options.canonical ? "" : underLoadText(document);
      for (const text of [underLoad, impairmentText(document), fallbackText(document)]) if (text !== "") this.#line(text);
      if (document.server_output !== null) this.#line(["Server:", ...document.server_output.map((line) => `  ${line}`)].join("\n"));
    }
    for (const note of document.end.notes) process.stderr.write(`kvferry: ${note}\n`);
  }

  /** One line of a server, or of text mode. */
  say(text: string): void {
    if (this.#options.output.form === "text") this.#line(text);
    else this.#event("line", { text });
  }

  listening(host: string, port: number): void {
    if (this.#options.output.form !== "text") this.#event("listening", { host, port });
  }

  close(): void {
    this.#clear();
    if (this.#file !== undefined) closeSync(this.#file);
  }

  #clear(): void {
    this.#progress.clear();
  }

  #event(event: string, data: object): void {
    this.#line(JSON.stringify({ event, data }));
  }

  #line(text: string): void {
    this.#clear();
    const { form, title } = this.#options.output;
    const titled = title === "" || form !== "text" ? text : text.replace(/^/gm, `${title}:  `);
    if (this.#file === undefined) process.stdout.write(`${titled}\n`);
    else inFile(() => writeSync(this.#file as number, `${titled}\n`));
  }
}

/** A folder, a full disk: the user's to mend. */
function inFile<Result>(run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    throw new KvferryError("invalid_argument", `--logfile: ${(error as Error).message}`, { cause: error });
  }
}
