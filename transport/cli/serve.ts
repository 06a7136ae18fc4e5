/** kvferry serve: a sidecar. Builds a node out of the configuration, serves engines and peers, drains at the first signal. */
import { setFlagsFromString } from "node:v8";
import { Command } from "commander";
import { configObject, defaultTexts, type LoadedConfig, loadConfig, printConfig } from "../config.ts";
import { fields } from "../config/layers.ts";
import { formatSize } from "../config/units.ts";
import { createLog } from "../log.ts";
import { runtimeSocket } from "./runtime-folder.ts";
import { flagsOf, optionOf } from "./settings.ts";
import { signalled } from "./signals.ts";
import type { Sidecar } from "./sidecar.ts";

const PROGRESS_MS = 1_000;

interface ServeOptions {
  readonly config?: string;
  readonly printConfig?: boolean;
  readonly json?: boolean;
  readonly [flag: string]: unknown;
}

const EXAMPLES = `
Settings come from the defaults, then --config FILE (JSON), then the environment, then flags; each has a variable KVFERRY_... and a flag.

Examples:
  kvferry serve --print-config                              every value and where it came from
  kvferry serve --socket /run/kvferry.sock --pool-bytes 8GiB
  kvferry serve --name prefill --listen 127.0.0.1:7411 --socket /run/prefill.sock
  kvferry serve --name decode --listen 127.0.0.1:7421 --socket /run/decode.sock --peers prefill=127.0.0.1:7411
  kvferry serve --listen 10.0.0.5:7411 --allow 10.0.0.0/8 --tls-certificate node.crt --tls-key node.key --tls-authorities ca.crt
  kvferry serve --config node.json --policy tenants.json     several tenants, each with a socket and a pool of its own (schemas/policy.md)
  kvferry serve --listen 10.0.0.5:7411 --insecure --allow 10.0.0.0/8 --secret-file /etc/kvferry/secret

With certificates (kvferry cert makes some) all peer traffic is TLS 1.3, both ends show theirs, and nothing else is spoken; they are read again
at SIGHUP, and within 20 s of a change of their files, and so is the policy.
Without, other than loopback addresses are refused unless --insecure says that the network is trusted.
SIGTERM and SIGINT let running transfers end (at most --drain-ms), then exit 0; a second signal exits at once.
The pool's file stays when it ends, and the next start under that name takes up what is published in it; remove the file to give its memory back.
While it runs: curl --unix-socket SOCKET http://localhost/metrics (or /status, /healthz).`;

export function serveCommand(): Command {
  const command = new Command("serve")
    .description("run a sidecar: engines on a unix socket, peers on a port, KV in a shared pool")
    .option("--config <file>", "JSON file with settings [env: KVFERRY_CONFIG]", process.env.KVFERRY_CONFIG)
    .option("--print-config", "print every setting with its source, and exit")
    .option("--json", "with --print-config: as JSON")
    .addHelpText("after", EXAMPLES);
  const defaults = defaultTexts({ socket: runtimeSocket() });
  for (const field of fields) command.addOption(optionOf(field, defaults.get(field.path) ?? ""));
  return command.action(async (options: ServeOptions) => {
    const loaded = loadConfig({
      preset: { socket: runtimeSocket() },
      file: options.config,
      environment: process.env,
      flags: flagsOf(fields, options),
    });
    if (options.printConfig === true) {
      console.log(options.json === true ? JSON.stringify(configObject(loaded), null, 2) : printConfig(loaded));
      return;
    }
    await serve(loaded);
  });
}

async function serve(loaded: LoadedConfig): Promise<void> {
  const { config } = loaded;
  // A sidecar lives beside engines that want the memory: what transfers leave behind is collected in the few MiB of the start, not in the 32 that V8 would grow to.
  setFlagsFromString("--semi-space-growth-factor=1");
  // And what lived a little longer before the old generation has grown by half: 94 MiB after 10,000 transfers instead of up to 119.
  setFlagsFromString("--heap-growing-percent=50");
  // Loaded only when it runs: --help and --print-config need neither the addon nor a server.
  const { startSidecar } = await import("./sidecar.ts");
  const log = createLog(config.log, config.name);
  // Asked for before anything is open: a signal while it starts ends it in order, too.
  const asked = signalled();
  const sidecar = await withProgress(config.pool.bytes, startSidecar(config, log));
  // Whoever reads the banner may leave (serve | head): the engines stay.
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners("error").on("error", () => {});
  for (const line of sidecar.describe()) console.log(line);
  // As servers do; without TLS a terminal that is hung up ends it.
  const { reload } = sidecar;
  if (reload !== undefined) process.on("SIGHUP", reload);
  await asked;
  log.info({ transfers: sidecar.transfers, drainMs: config.drainMs }, "draining");
  await stop(sidecar, config.drainMs, log);
}

/** A large pool takes a while: every page of it is touched before anything is served. Told on a terminal, on one line that goes away. */
async function withProgress<T>(poolBytes: number, starting: Promise<T>): Promise<T> {
  if (process.stderr.isTTY !== true) return starting;
  let shown = false;
  const timer = setInterval(() => {
    const ready = formatSize(Math.min(poolBytes, process.memoryUsage.rss()));
    process.stderr.write(`\r\x1b[Kpreparing the pool: ${ready} of ${formatSize(poolBytes)}`);
    shown = true;
  }, PROGRESS_MS);
  try {
    return await starting;
  } finally {
    clearInterval(timer);
    if (shown) process.stderr.write("\r\x1b[K");
  }
}

async function stop(sidecar: Sidecar, drainMs: number, log: ReturnType<typeof createLog>): Promise<void> {
  const drained = await sidecar.stop(drainMs);
  if (!drained) log.warn({ drainMs }, "transfers were cut off by the end of the drain");
  log.info({}, "stopped");
}
