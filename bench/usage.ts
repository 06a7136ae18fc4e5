/** Flags of the programs beside the CLI (`npm run bench`, `npm run sim`, ...): --help says what there is, and a mistake is told in a line. */
import { parseArgs, type ParseArgsConfig } from "node:util";

type Flags = NonNullable<ParseArgsConfig["options"]>;
type Values<Options extends Flags> = ReturnType<typeof parseArgs<{ options: Options }>>["values"];

/** `usage`: what --help prints. Ends the process after --help (0), and where a flag is unknown or has no value (2). */
export function readFlags<const Options extends Flags>(usage: string, options: Options): Values<Options> {
  try {
    const { values } = parseArgs({ options: { ...options, help: { type: "boolean", short: "h" } } });
    if ((values as { readonly help?: boolean }).help !== true) return values as Values<Options>;
  } catch (error) {
    endBadly((error as Error).message, usage);
  }
  process.stdout.write(`${usage}\n`);
  process.exit(0);
}

/** For a value that is none. */
export function endBadly(message: string, usage: string): never {
  process.stderr.write(`${message}\n\n${usage}\n`);
  process.exit(2);
}
