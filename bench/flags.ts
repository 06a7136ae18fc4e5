/** The flags of kvferry bench, as --help lists them. options.ts parses what they hold. */
import { Option } from "commander";
import { FOREIGN_FLAGS } from "./foreign.ts";
import { MODELS } from "./models.ts";
import { DEFAULT_PORT, RATE_UNITS } from "./options.ts";

const option = (flags: string, text: string): Option => new Option(flags, text);

export function flagTable(): Option[] {
  return [...endFlags(), ...measureFlags(), ...workloadFlags(), ...laneFlags(), ...outputFlags(), ...hiddenFlags()];
}

function endFlags(): Option[] {
  return [
    option("-s, --server", "serve; the client brings all parameters"),
    option("-c, --client <host>", "run against the server on this host"),
    option("-p, --port <n>", `control port of the server (default: ${DEFAULT_PORT})`),
    option("--data-port <n>", "port of the link on the server's host (default: any free one)"),
    option("--bind <host>", "address to listen on (default: all; whoever reaches it may start a test)"),
    option("-1, --one-off", "serve one client, then exit"),
    option("-D, --daemon", "serve in the background; output goes to --logfile, or nowhere"),
    option("--impair <what>", "run both ends over an emulated WAN: PROFILE, KEY=VALUE,... or PROFILE,KEY=VALUE,... (see below)"),
  ];
}

function measureFlags(): Option[] {
  return [
    option("-t, --time <seconds>", "measure each case for this long (default: 3)"),
    option("-n, --bytes <size>", "measure until so many bytes have moved"),
    option("--iters <n>", "measure until so many requests have ended"),
    option("-O, --omit <seconds>", "leave out the first seconds; they are flagged in intervals[]"),
    option("-i, --interval <seconds>", "seconds between lines (default: 1; 0: none)"),
    option("-I, --confidence <level,width>", "repeat until the interval of the mean is this narrow, such as 95,5 (percent)"),
    option("--warmup <n>", "requests before the clock starts (default: 2; with --impair 1)"),
    option("--verify", "look at every byte in a pass of its own (on unless --no-verify)"),
    option("--check-consistency", "nixlbench's name of --verify"),
    option("--no-verify", "do not"),
    option("--latency-under-load", "time one 4 KiB block (or of -l) at a time beside each larger case, on the same lanes, and alone"),
    option("--compare <tools>", "take turns with iperf3 (and with plain C sockets: raw)"),
    option("--min-gbps <n>", "exit code 1 below this many Gbit/s"),
    option("--max-p99-us <n>", "exit code 1 above this p99"),
  ];
}

function workloadFlags(): Option[] {
  return [
    option("-R, --reverse", "bytes move from the server to the client, which asks for them"),
    option("--bidir", "both directions at once"),
    option("--op <op>", "write (push) or read (ask for a push)").choices(["write", "read"]),
    option("-l, --block-size <size>", "one case of this block size"),
    option("--start-block-size <size>", "first of a sweep (default: 4KiB)"),
    option("--max-block-size <size>", "last of a sweep (default: 64MiB)"),
    option("--step-factor <n>", "from one size of a sweep to the next (default: 2)"),
    option("--batch-size <n>", "blocks of a request (default: 1)"),
    option("--depth <n>", "requests under way at once (default: 1)"),
    option("--chunk <size>", "bytes of a chunk (default: by the path)"),
    option("--pool <size>", "bytes of the pool on each end (default: 1GiB; with --impair what --depth requests need)"),
    option("--src-mem <kind>", "where the bytes come from: dram"),
    option("--dst-mem <kind>", "and where they go: dram"),
    option("--data <what>", "random, or kv:FILE: bytes of a real KV cache; with --profile dumps of prompts, kv:FILE.safetensors[,FILE...]"),
    option("--profile <name>", "move the prompts of --data between two sidecars, coded by this preset or file; auto: as it pays; none"),
    option("--calibration <file>", "of the dumps' model, for the profile (kvferry codec calibrate makes one)"),
    option("--model <name>", "runs as this model's KV has them").choices(Object.keys(MODELS)),
    option("--tokens <n>", "tokens of the prompt (default: 2048)"),
    option("--tp <n>", "ways of tensor parallelism: one rank's heads (default: 1)"),
    option("--block-tokens <n>", "tokens of a block (default: 16)"),
    option("--layout-local <order>", "real planes in this order, such as nhd16 or hnd32"),
    option("--layout-remote <order>", "and in this one on the other end"),
  ];
}

function laneFlags(): Option[] {
  return [
    option("--link <kind>", "which link; one that is forced and cannot be had is an error").choices(["auto", "tcp", "js", "fake"]),
    option("-P, --parallel <lanes>", "so many lanes (TCP connections), whatever the path (default: by the path, 4 within a host)"),
    option("--threads <n>", "threads of the native link; 0: by the number of CPUs"),
    option("-b, --bitrate <rate>", "cap of each direction, such as 2Gbit; 2G means bits, as in iperf3"),
    option("-C, --congestion <name>", "TCP congestion control of the lanes"),
    option("-w, --window <size>", "socket buffers of each lane (default: as the kernel tunes them)"),
    option("--dscp <n>", "code point of the lanes' packets: 0-63, or a name such as af11, cs1, ef"),
    option("--no-checksum", "no CRC32C of chunks"),
    option(
      "--tls",
      "over TLS 1.3, with certificates of the moment, which the control connection carries openly: it measures, it protects nothing",
    ),
    option("--tls-cert <file>", "certificate of this end, as PEM, where they are to be real; on both ends"),
    option("--tls-key <file>", "and its key"),
    option("--tls-ca <file>", "and the authorities that the other end's must be from"),
  ];
}

function outputFlags(): Option[] {
  return [
    option("-J, --json", "one JSON document, schema kvferry.bench/1 (schemas/bench.schema.json)"),
    option("--json-stream", "a JSON line for each event: start, interval, end, error"),
    option("--logfile <file>", "append output to this file"),
    option("-f, --format <unit>", "unit of rates: k m g t in bits, K M G T in bytes").choices([...RATE_UNITS]),
    option("--report-gbits", "perftest's name of -f g, which is the default"),
    option("-T, --title <text>", "put before every line, and into the document"),
    option("--extra-data <text>", "put into the document as it is"),
    option("--get-server-output", "show what the server printed"),
  ];
}

function hiddenFlags(): Option[] {
  return [
    option("--with-parent", "end when standard input does"),
    option("--in-lab <name>", "this process is at end a of this link already"),
    ...FOREIGN_FLAGS.map((flags) => option(flags, "")),
  ].map((one) => one.hideHelp());
}
