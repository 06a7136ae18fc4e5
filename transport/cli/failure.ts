/** How a command ends badly: one line that says what and why, one that says what to do, an exit code that scripts can act on. */
import { ERRORS, type ErrorCode, KvferryError } from "../errors.ts";

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
/** As shells show a program that SIGPIPE has ended. */
export const EXIT_PIPE = 141;

/** A threshold was missed or a byte was wrong: the run itself worked. */
export class CheckFailed extends Error {
  override readonly name = "CheckFailed";
}

/** A message for people who asked for something that does not exist. */
export function usage(detail: string): KvferryError {
  return new KvferryError("invalid_argument", detail);
}

const REMEDIES: Partial<Record<ErrorCode, string>> = {
  invalid_argument: "See --help of the verb for what it takes.",
  invalid_config:
    "--help of the verb lists every setting with its flag, variable and default; in a file a flag such as --log-level is log.level.",
  unsupported: "kvferry doctor says what this host lacks.",
  address_unavailable: "Is another process there already, is the address one of this host, and may this user make a file there?",
  memory_unavailable: "kvferry doctor shows the room in /dev/shm; set pool.bytes or pool.directory.",
  connect_failed: "Is the other end running, and does its address match? A firewall answers like an absent host.",
  connect_timeout: "Is the other end running, and does its address match? A firewall answers like an absent host.",
  connection_lost: "Look at the other end's log; the same call may be made again.",
  peer_not_allowed: "The other end's `allow` must have this node's address, or its name and the secret; both ends need the same secret.",
  version_unsupported: "Upgrade the older end: version N speaks with N-1, not with anything older.",
  internal: "Please report it with the output of --verbose.",
};

const BY_FAULT = {
  caller: "The call has to change.",
  operator: "kvferry doctor and --print-config show how this node is set up.",
  peer: "Look at the log of the other end.",
  network: "The same call may work later.",
  load: "Try again later, or raise the limit that the message names.",
  kvferry: "Please report it with the output of --verbose.",
} as const;

/** Prints the failure; returns the exit code. */
export function reportFailure(error: unknown, verbose: boolean): number {
  if (error instanceof CheckFailed) {
    console.error(`kvferry: ${error.message}`);
    return EXIT_FAILED;
  }
  const known = asKvferryError(error);
  console.error(`kvferry: ${oneLine(known.message)}`);
  console.error(`  ${REMEDIES[known.code] ?? BY_FAULT[ERRORS[known.code].fault]}`);
  if (verbose) console.error(error instanceof Error ? error.stack : error);
  return EXIT_USAGE;
}

/** Names in it may come from files of others. */
function oneLine(text: string): string {
  const plain = text.trim().replaceAll(/\s+/g, " ");
  return plain.replaceAll(/\p{Cc}/gu, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

const LINGER_MS = 1_000;

/** Sets the exit code and lets output drain. Whatever still runs a second later is ended with the process. */
export function exitWith(code: number): void {
  process.exitCode = code;
  setTimeout(() => process.exit(code), LINGER_MS).unref();
}

function asKvferryError(error: unknown): KvferryError {
  if (error instanceof KvferryError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new KvferryError("internal", message, { cause: error });
}
