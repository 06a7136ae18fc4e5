#!/usr/bin/env node
/** The command. Verbs live in cli/, one file each, and are loaded when they are called. */
import { Command, CommanderError } from "commander";
import { benchCommand } from "./cli/bench.ts";
import { certCommand } from "./cli/cert.ts";
import { codecCommand } from "./cli/codec.ts";
import { doctorCommand } from "./cli/doctor.ts";
import { EXIT_PIPE, EXIT_USAGE, exitWith, reportFailure } from "./cli/failure.ts";
import { packageVersion } from "./cli/package.ts";
import { routeCommand } from "./cli/route.ts";
import { serveCommand } from "./cli/serve.ts";
import { versionCommand } from "./cli/version.ts";

const program = new Command("kvferry")
  .description("Moves KV cache between LLM engines: sidecar, library and bench.")
  .usage("<verb> [options]")
  .version(packageVersion(), "--version", "print the version (kvferry version prints all of them)")
  .option("--verbose", "print the stack of an error")
  .addHelpText(
    "after",
    `
First steps:
  kvferry doctor                                what this host can do, and what to change
  kvferry bench                                 two numbers: Gbit/s of a 2,048-token KV, latency of a 4 KiB block
  kvferry serve --socket /tmp/kvferry.sock      a sidecar for the engines of this host
  kvferry serve --help                          every setting, with its variable and default
  kvferry route --help                          a proxy that has prompts computed by one engine and answered by another
  kvferry cert --help                           certificates for peers on other hosts
  kvferry codec --help                          KV compression on files: ratio, speed and error of profiles

Exit codes: 0 done, 1 a threshold or a verification failed, 2 usage or environment.`,
  )
  .showHelpAfterError("(kvferry --help, or kvferry <verb> --help, says what there is)")
  .exitOverride();
for (const command of [serveCommand(), routeCommand(), certCommand(), benchCommand(), codecCommand(), doctorCommand(), versionCommand()]) {
  program.addCommand(command.copyInheritedSettings(program).option("--verbose", "print the stack of an error"));
  for (const inner of command.commands) inner.copyInheritedSettings(command).option("--verbose", "print the stack of an error");
}

// Whoever read our output has gone, such as `head`: nobody is left to tell, and it is no error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(EXIT_PIPE);
});

try {
  await program.parseAsync();
} catch (error) {
  // Commander has said what is wrong, or printed the help that was asked for.
  if (error instanceof CommanderError) exitWith(error.exitCode === 0 ? 0 : EXIT_USAGE);
  else exitWith(reportFailure(error, process.argv.includes("--verbose")));
}
