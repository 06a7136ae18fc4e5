/** kvferry route: a proxy in front of engines that speak OpenAI's API. Built out of the configuration, drains at the first signal. */
import { Command } from "commander";
import { formatAddress, isLoopback } from "../config/address.ts";
import { type LoadedRoute, loadRoute, printRoute, routeDefaultTexts, routeObject } from "../config/route.ts";
import { routeTable } from "../config/route-schema.ts";
import { createLog } from "../log.ts";
import { usage } from "./failure.ts";
import { packageVersion } from "./package.ts";
import { flagsOf, optionOf } from "./settings.ts";
import { signalled } from "./signals.ts";

interface RouteOptions {
  readonly static?: boolean;
  readonly config?: string;
  readonly printConfig?: boolean;
  readonly json?: boolean;
  readonly [flag: string]: unknown;
}

const DETAILS = `
A completion's prompt is computed by a prefill engine (one token, kv_transfer_params do_remote_decode), then a decode engine answers
the client's own request with the parameters that the first returned. Whatever fails before the answer's first byte ends in a plain
decode, with a log line and a metric that say why. Requests whose answer cannot come from one hand-over go straight to a decode engine:
several prompts or choices (n, best_of, beam search), prompt_logprobs. Everything else under /v1/ passes through. No tokenizer runs
here: the length of a prompt is estimated by its text.

The header x-prefiller-host-port (llm-d) names the prefill engine of a request; one that neither --prefill nor --allow-prefiller lists is
refused with 400. kv_transfer_params of a client's own are refused in completions; other paths are not looked into, so an engine must
have a list of its own of the hosts that it fetches from.

Settings come from the defaults, then --config FILE (JSON), then the environment, then flags; each has a variable KVFERRY_ROUTE_... and
a flag.

Examples:
  kvferry route --static --prefill http://127.0.0.1:8100 --decode http://127.0.0.1:8200
  kvferry route --static --listen 127.0.0.1:8000 --prefill http://10.0.0.1:8000,http://10.0.0.2:8000 --decode http://10.0.0.3:8000
  kvferry route --static --decode http://127.0.0.1:8200 --allow-prefiller 10.0.0.0/8:8000    behind llm-d's scheduler
  kvferry route --static --config route.json --print-config

Nothing is encrypted here: other than loopback addresses are refused without --insecure. SIGTERM and SIGINT let running requests end
(at most --drain-ms), then exit 0; a second signal exits at once.
While it runs: curl http://HOST:PORT/metrics (or /healthz).`;

export function routeCommand(): Command {
  const command = new Command("route")
    .description("run a proxy for prefill and decode engines with OpenAI's API")
    .option("--static", "the engines that the settings name, by the fewest requests outstanding (the one way of routing there is)")
    .option("--config <file>", "JSON file with settings [env: KVFERRY_ROUTE_CONFIG]", process.env.KVFERRY_ROUTE_CONFIG)
    .option("--print-config", "print every setting with its source, and exit")
    .option("--json", "with --print-config: as JSON")
    .addHelpText("after", DETAILS);
  const defaults = routeDefaultTexts();
  for (const field of routeTable.fields) command.addOption(optionOf(field, defaults.get(field.path) ?? ""));
  return command.action(async (options: RouteOptions) => {
    if (options.static !== true) throw usage("Expected --static: kvferry route knows no other way of routing");
    const loaded = loadRoute({ file: options.config, environment: process.env, flags: flagsOf(routeTable.fields, options) });
    if (options.printConfig === true)
      console.log(options.json === true ? JSON.stringify(routeObject(loaded), null, 2) : printRoute(loaded));
    else await route(loaded);
  });
}

async function route({ config }: LoadedRoute): Promise<void> {
  const { RouteServer } = await import("../route/server.ts");
  const log = createLog(config.log, config.name);
  // Asked for before anything is open: a signal while it starts ends it in order, too.
  const asked = signalled();
  if (!isLoopback(config.listen.host)) {
    log.warn({ listen: formatAddress(config.listen) }, "INSECURE: requests arrive unencrypted from whoever reaches this port");
  }
  const server = new RouteServer(config, log);
  const port = await server.listen();
  // Whoever reads the banner may leave (route | head): the clients stay.
  for (const stream of [process.stdout, process.stderr]) stream.removeAllListeners("error").on("error", () => {});
  const address = formatAddress({ host: config.listen.host, port });
  console.log(`kvferry ${packageVersion()} route: http://${address}/v1`);
  console.log(`prefill:  ${config.prefill.join(", ") || "none but those that x-prefiller-host-port names"}`);
  console.log(`decode:   ${config.decode.join(", ")}`);
  console.log(`status:   curl http://${address}/metrics`);
  await asked;
  log.info({ requests: server.running, drainMs: config.drainMs }, "draining");
  if (!(await server.stop(config.drainMs))) log.warn({ drainMs: config.drainMs }, "requests were cut off by the end of the drain");
  log.info({}, "stopped");
}
