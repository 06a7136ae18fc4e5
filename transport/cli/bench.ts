/** kvferry bench: as one uses iperf3 or ib_write_bw. The measuring itself is in bench/. */
import { hostname } from "node:os";
import { Command, Option } from "commander";
import { type BenchOptions, DEFAULT_PORT, parseOptions, RATE_UNITS, type RawOptions } from "../../bench/options.ts";
import { MODELS } from "../../bench/models.ts";
import { loaderFlags } from "../../bench/node-flags.ts";
import { Output } from "../../bench/output.ts";
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
  kvferry bench -c HOST --model llama3-70b --tp 8 --tokens 32768
  kvferry bench --start-block-size 4KiB --max-block-size 16MiB --batch-size 64
  kvferry bench -l 4KiB --max-p99-us 500            exit code 1 if it is slower
  kvferry bench --layout-local nhd16 --layout-remote hnd32

Bits are SI (Gbit/s), sizes binary. Exit codes: 0 done, 1 a threshold or a verification failed, 2 usage or environment.`;

export function benchCommand(): Command {
  const command = new Command("bench")
    .description("measure: two numbers without flags, iperf3's conventions with them")
    .addHelpText("after", EXAMPLES);
  for (const option of optionTable()) command.addOption(option);
  return command.action(async (raw: RawOptions) => {
    const options = parseOptions(raw);
    const output = new Output(options);
    try {
      if (options.role === "server") await serve(options, output, raw.withParent === true);
      else await measure(options, output);
    } finally {
      output.close();
    }
  });
}

function optionTable(): Option[] {
  const option = (flags: string, text: string): Option => new Option(flags, text);
  return [
    option("-s, --server", "serve; the client brings all parameters"),
    option("-c, --client <host>", "run against the server on this host"),
    option("-p, --port <n>", `control port of the server (default: ${DEFAULT_PORT})`),
    option("--data-port <n>", "port of the link on the server's host (default: any free one)"),
    option("--bind <host>", "address to listen on (default: all; whoever reaches it may start a test)"),
    option("-1, --one-off", "serve one client, then exit"),
    option("-t, --time <seconds>", "measure each case for this long (default: 3)"),
    option("-n, --bytes <size>", "measure until so many bytes have moved"),
    option("--iters <n>", "measure until so many requests have ended"),
    option("-O, --omit <seconds>", "leave out the first seconds; they are flagged in intervals[]"),
    option("-i, --interval <seconds>", "seconds between lines (default: 1; 0: none)"),
    option("-I, --confidence <level,width>", "repeat until the interval of the mean is this narrow, such as 95,5 (percent)"),
    option("--warmup <n>", "requests before the clock starts (default: 2)"),
    option("-P, --parallel <lanes>", "lanes: TCP connections (default: 4)"),
    option("--threads <n>", "threads of the native link; 0: by the number of CPUs"),
    option("-R, --reverse", "bytes move from the server to the client, which asks for them"),
    option("--bidir", "both directions at once"),
    option("--op <op>", "write (push) or read (ask for a push)").choices(["write", "read"]),
    option("-l, --block-size <size>", "one case of this block size"),
    option("--start-block-size <size>", "first of a sweep"),
    option("--max-block-size <size>", "last of a sweep"),
    option("--step-factor <n>", "from one size of a sweep to the next (default: 2)"),
    option("--batch-size <n>", "blocks of a request (default: 1)"),
    option("--depth <n>", "requests under way at once (default: 1)"),
    option("--chunk <size>", "bytes of a chunk (default: 1MiB)"),
    option("--pool <size>", "bytes of the pool on each end (default: 1GiB)"),
    option("-b, --bitrate <rate>", "cap, such as 2Gbit; 2G means bits, as in iperf3"),
    option("-C, --congestion <name>", "TCP congestion control of the lanes"),
    option("--link <kind>", "which link; one that is forced and cannot be had is an error").choices(["auto", "tcp", "js", "fake"]),
    option("--data <what>", "random, or kv:FILE: bytes of a real KV cache"),
    option("--verify", "look at every byte in a pass of its own (on unless --no-verify)"),
    option("--no-verify", "do not"),
    option("--no-checksum", "no CRC32C of chunks"),
    option("--model <name>", "runs as this model's KV has them").choices(Object.keys(MODELS)),
    option("--tokens <n>", "tokens of the prompt (default: 2048)"),
    option("--tp <n>", "ways of tensor parallelism: one rank's heads (default: 1)"),
    option("--block-tokens <n>", "tokens of a block (default: 16)"),
    option("--layout-local <order>", "real planes in this order, such as nhd16 or hnd32"),
    option("--layout-remote <order>", "and in this one on the other end"),
    option("--compare <tools>", "take turns with iperf3 (and with plain C sockets: raw)"),
    option("--min-gbps <n>", "exit code 1 below this many Gbit/s"),
    option("--max-p99-us <n>", "exit code 1 above this p99"),
    option("-J, --json", "one JSON document, schema kvferry.bench/1 (schemas/bench.schema.json)"),
    option("--json-stream", "a JSON line for each event: start, interval, end, error"),
    option("--logfile <file>", "append output to this file"),
    option("-f, --format <unit>", "unit of rates: k m g t in bits, K M G T in bytes").choices([...RATE_UNITS]),
    option("-T, --title <text>", "put before every line, and into the document"),
    option("--extra-data <text>", "put into the document as it is"),
    option("--get-server-output", "show what the server printed"),
    option("--with-parent", "end when standard input does").hideHelp(),
  ];
}

async function serve(options: BenchOptions, output: Output, withParent: boolean): Promise<void> {
  const { startServer } = await import("../../bench/server.ts");
  const { bind, port, oneOff } = options;
  const server = await startServer({ bind, port, oneOff, version: packageVersion(), say: (line) => output.say(line) });
  output.listening(bind, server.port);
  if (!withParent) describe(output, bind, server.port);
  const stop = (): void => server.close();
  process.once("SIGINT", stop).once("SIGTERM", stop);
  if (withParent) process.stdin.resume().once("end", stop).once("error", stop);
  await server.done;
  process.stdin.destroy();
}

/** The server prints the very command that the other host needs. */
function describe(output: Output, bind: string, port: number): void {
  output.say(`listening on port ${port}${bind === "" ? "" : ` of ${bind}`}; on the other host:`);
  output.say(`  kvferry bench -c ${bind === "" ? hostname() : bind}${port === DEFAULT_PORT ? "" : ` -p ${port}`}`);
}

async function measure(options: BenchOptions, output: Output): Promise<void> {
  const { judge, runBench } = await import("../../bench/run.ts");
  const command = [process.execPath, ...loaderFlags(), process.argv[1]!];
  const context = { version: packageVersion(), args: process.argv.slice(2), environment: process.env, command, output };
  const document = await runBench(options, context);
  if (document.error !== null) {
    // --json and --json-stream have said it where a program looks for it; people read it here.
    console.error(`kvferry: ${document.error.message}`);
    exitWith(EXIT_USAGE);
    return;
  }
  const verdict = judge(options, document);
  if (verdict !== "") throw new CheckFailed(verdict);
}
