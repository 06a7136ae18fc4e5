/** kvferry bench: as one uses iperf3 or ib_write_bw. The measuring itself is in bench/. */
import { constants, hostname } from "node:os";
import { Command } from "commander";
import { flagTable } from "../../bench/flags.ts";
import { type Impairment, IMPAIRMENT_HELP } from "../../bench/impairment.ts";
import { type BenchOptions, DEFAULT_PORT, parseOptions, type RawOptions } from "../../bench/options.ts";
import { loaderFlags } from "../../bench/node-flags.ts";
import { Output } from "../../bench/output.ts";
import { KvferryError } from "../errors.ts";
import { CheckFailed, EXIT_USAGE, exitWith } from "./failure.ts";
import { packageVersion } from "./package.ts";

const EXAMPLES = `
Without flags: both ends on this machine, the KV of a 2,048-token prompt of Llama-3.1-8B (8,192 runs of 32 KiB, scattered in pools of
1 GiB), every byte verified in a pass of its own, then one 4 KiB block at a time. Two numbers.

Examples:
  kvferry bench                                     two numbers
  kvferry bench --json --compare iperf3 -t 3        the same as JSON, iperf3 and plain C sockets taking turns
  kvferry bench -s                                  on one host; then on the other:
  kvferry bench -c HOST -P 8 -t 10                  8 lanes, 10 seconds
  kvferry bench --tls                               what TLS 1.3 costs, with certificates of the moment
  kvferry bench -c HOST --model llama3-70b --tp 8 --tokens 32768
  kvferry bench --start-block-size 4KiB --max-block-size 16MiB --batch-size 64
  kvferry bench -l 4KiB --max-p99-us 500            exit code 1 if it is slower
  kvferry bench --layout-local nhd16 --layout-remote hnd32
  kvferry bench --impair continental -t 5           1 Gbit/s, 50 ms, 0.1 % loss, both ends here
  kvferry bench --impair rate=2000,delay=20,loss=0.05 --latency-under-load
  kvferry bench --data kv:A.safetensors,B.safetensors --profile cpu-fast --calibration CAL.safetensors --impair rate=1000
${IMPAIRMENT_HELP}

Bits are SI (Gbit/s), sizes binary. Exit codes: 0 done, 1 a threshold or a verification failed, 2 usage or environment.`;

/** What runInLab puts behind the command: --in-lab NAME. */
const IN_LAB_WORDS = 2;

export function benchCommand(): Command {
  const command = new Command("bench")
    .description("measure: two numbers without flags, iperf3's conventions with them")
    .addHelpText("after", EXAMPLES);
  for (const option of flagTable()) command.addOption(option);
  return command.action(async (raw: RawOptions) => {
    const options = parseOptions(raw);
    const output = new Output(options);
    try {
      if (raw.daemon === true) await serveInBackground(options);
      else if (options.role === "server") await serve(options, output, raw.withParent === true);
      else if (options.impairment !== undefined && options.labName === "" && options.coding === undefined)
        await measureInLab(options.impairment);
      else await measure(options, output);
    } finally {
      output.close();
    }
  });
}

async function serve(options: BenchOptions, output: Output, withParent: boolean): Promise<void> {
  const { startServer } = await import("../../bench/server.ts");
  const { bind, port, oneOff } = options;
  const { announced } = await import("../../bench/daemon.ts");
  const { tlsOfFiles } = await import("../../bench/tls.ts");
  const tls = typeof options.tls === "string" ? undefined : tlsOfFiles(options.tls);
  const version = packageVersion();
  const server = await announced(startServer({ bind, port, oneOff, version, tls, say: (line) => output.say(line) }));
  output.listening(bind, server.port);
  if (!withParent) describe(output, bind, server.port);
  const stop = (): void => server.close();
  process.once("SIGINT", stop).once("SIGTERM", stop);
  if (withParent) process.stdin.resume().once("end", stop).once("error", stop);
  await server.done;
  process.stdin.destroy();
}

async function serveInBackground(options: BenchOptions): Promise<void> {
  const { startDaemon } = await import("../../bench/daemon.ts");
  const { processId, port } = await startDaemon(thisCommand(), options);
  // The log is the daemon's.
  const output = new Output({ ...options, output: { ...options.output, logfile: "" } });
  output.listening(options.bind, port);
  describe(output, options.bind, port);
  output.say(`it runs as process ${processId}; kill ${processId} ends it`);
}

/** The server prints the very command that the other host needs. */
function describe(output: Output, bind: string, port: number): void {
  output.say(`listening on port ${port}${bind === "" ? "" : ` of ${bind}`}; on the other host:`);
  output.say(`  kvferry bench -c ${bind === "" ? hostname() : bind}${port === DEFAULT_PORT ? "" : ` -p ${port}`}`);
}

/** Both ends run elsewhere on this machine: this process makes the link between them, and takes it away. */
async function measureInLab(impairment: Impairment): Promise<void> {
  const { runInLab } = await import("../../bench/lab.ts");
  const outcome = await runInLab(impairment, [...thisCommand(), ...process.argv.slice(2)]);
  if (typeof outcome === "number") return exitWith(outcome);
  console.error(`kvferry: ${new KvferryError("cancelled", `interrupted by ${outcome}`).message}`);
  process.exit(exitCodeOf(outcome));
}

async function measure(options: BenchOptions, output: Output): Promise<void> {
  const { judge, runBench } = await import("../../bench/run.ts");
  const stop = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    // The second time nobody wants to wait for anything.
    if (stop.signal.aborted) process.exit(exitCodeOf(signal));
    stop.abort(signal);
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  const isInLab = options.labName !== "";
  // Whoever made the link may be killed.
  if (isInLab) process.stdin.resume().once("end", () => interrupt("SIGTERM"));
  const run = options.coding === undefined ? runBench : (await import("../../bench/codec-run.ts")).runProfile;
  const document = await run(options, {
    version: packageVersion(),
    args: isInLab ? process.argv.slice(2, -IN_LAB_WORDS) : process.argv.slice(2),
    environment: process.env,
    command: thisCommand(),
    output,
    interruption: stop.signal,
  });
  if (isInLab) process.stdin.destroy();
  if (stop.signal.aborted) {
    console.error(`kvferry: ${document.error?.message}`);
    output.close();
    process.exit(exitCodeOf(stop.signal.reason as NodeJS.Signals));
  }
  if (document.error !== null) {
    // --json and --json-stream have said it where a program looks for it; people read it here.
    console.error(`kvferry: ${document.error.message}`);
    exitWith(EXIT_USAGE);
    return;
  }
  const verdict = judge(options, document);
  if (verdict !== "") throw new CheckFailed(verdict);
}

/** Starts this very program again: the other end, or a server in the background. */
function thisCommand(): string[] {
  return [process.execPath, ...loaderFlags(), process.argv[1]!];
}

/** As shells have it. */
function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}
