/** Log lines: pino's JSON, or one readable line each. Made where the process starts and passed in; a library user brings their own. */
import { Writable } from "node:stream";
import { type DestinationStream, destination, type Logger, pino } from "pino";
import type { Config } from "./config.ts";

/** What kvferry asks of a logger: pino's calls with an object first, so that whoever embeds it can pass pino, or four functions. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** @param stream where lines go; default: standard error, synchronously, so that the last words of a process are not lost. */
export function createLog(options: Config["log"], name: string, stream: DestinationStream = destination({ fd: 2, sync: true })): Logger {
  const settings = { level: options.level, base: { node: name }, timestamp: pino.stdTimeFunctions.isoTime };
  return options.format === "json"
    ? pino({ ...settings, formatters: { level: (level: string) => ({ level }) } }, stream)
    : pino(settings, readable(stream));
}

/** What others named must not forge a line, nor reach a terminal as a command. */
function plain(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

const LEVELS: Readonly<Record<number, string>> = { 10: "TRACE", 20: "DEBUG", 30: "INFO", 40: "WARN", 50: "ERROR", 60: "FATAL" };

/** "2026-11-24T02:00:00.000Z INFO  prefill: transfer ended bytes=268435456 code=ok". */
function readable(stream: DestinationStream): Writable {
  return new Writable({
    decodeStrings: false,
    write(line: string, _encoding, done) {
      const { level, time, node, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
      const words = Object.entries(fields).map(
        ([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : plain(String(value))}`,
      );
      stream.write(
        `${[String(time), (LEVELS[Number(level)] ?? "").padEnd(5), `${String(node)}:`, String(msg ?? ""), ...words].join(" ")}\n`,
      );
      done();
    },
  });
}
