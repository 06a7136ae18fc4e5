/** kvferry doctor: what this host can do, what is in the way, and what to type. */
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { native } from "../native.ts";
import { parseDuration, parseRate } from "../config/units.ts";
import { codecChecks } from "./checks/codecs.ts";
import { deviceChecks } from "./checks/devices.ts";
import { type Check, type Host, thisHost } from "./checks/host.ts";
import { memoryChecks } from "./checks/memory.ts";
import { networkChecks, type Path } from "./checks/network.ts";
import { peerChecks } from "./checks/peers.ts";
import { processChecks } from "./checks/process.ts";
import { tlsChecks } from "./checks/tls.ts";
import { lz4Problem } from "./codec/lz4.ts";
import { EXIT_FAILED, exitWith, usage } from "./failure.ts";
import { packageVersion } from "./package.ts";

interface DoctorOptions {
  readonly json?: boolean;
  readonly config?: string;
  readonly rtt: string;
  readonly rate: string;
}

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("check this host: addon, memory, network, TLS, policy, codecs, devices; each line OK, WARN or FAIL with what to do")
    .option("--json", "one JSON document with checks[]")
    .option("--config <file>", "the configuration that `serve` will get (its pool size counts)", process.env.KVFERRY_CONFIG)
    .option("--rtt <time>", "round trip to the far end, for the socket buffers", "1ms")
    .option("--rate <rate>", "rate of the path, for the socket buffers", "10Gbit")
    .addHelpText(
      "after",
      `
Examples:
  kvferry doctor
  kvferry doctor --rtt 50ms --rate 1Gbit        a path between datacenters
  KVFERRY_POOL_BYTES=64GiB kvferry doctor       will this pool fit?
  kvferry doctor --json | jq '.checks[] | select(.status != "OK")'

Exit code 1 if a line says FAIL.`,
    )
    .action(async (options: DoctorOptions) => {
      const checks = await examine(thisHost, options);
      console.log(options.json === true ? JSON.stringify(documentOf(checks), null, 2) : tableOf(checks));
      if (checks.some(({ status }) => status === "FAIL")) exitWith(EXIT_FAILED);
    });
}

async function examine(host: Host, options: DoctorOptions): Promise<Check[]> {
  const { config } = loadConfig({ file: options.config, environment: process.env });
  const path = pathOf(options);
  return [
    ...(await processChecks(host)),
    ...memoryChecks(host, config),
    ...networkChecks(host, config, path),
    ...tlsChecks(host, config, Date.now()),
    ...(await peerChecks(host, config, Date.now())),
    ...codecChecks(config, native?.codecCoders, lz4Problem()),
    ...deviceChecks(host, native?.cuda()),
  ];
}

function pathOf(options: DoctorOptions): Path {
  const rttMs = parseDuration(options.rtt) ?? fractionOfMs(options.rtt);
  const rateBytesPerSecond = parseRate(options.rate);
  if (rttMs === undefined) throw usage(`Expected a time such as 50ms for --rtt but received ${options.rtt}`);
  if (rateBytesPerSecond === undefined || rateBytesPerSecond === 0)
    throw usage(`Expected a rate such as 10Gbit for --rate but received ${options.rate}`);
  return { rttMs, rateBytesPerSecond };
}

/** "200us" and "0.2ms": a rack is nearer than a millisecond. */
function fractionOfMs(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(us|ms)$/.exec(text.trim());
  return match === null ? undefined : Number(match[1]) / (match[2] === "us" ? 1000 : 1);
}

function documentOf(checks: readonly Check[]): object {
  const worst = checks.some(({ status }) => status === "FAIL") ? "FAIL" : checks.some(({ status }) => status === "WARN") ? "WARN" : "OK";
  return { schema: "kvferry.doctor/1", version: packageVersion(), status: worst, checks };
}

function tableOf(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ id }) => id.length));
  return checks
    .flatMap(({ id, status, found, remedy }) => {
      const line = `${status.padEnd(4)}  ${id.padEnd(width)}  ${found}`;
      return remedy === "" ? [line] : [line, `${" ".repeat(width + 8)}-> ${remedy}`];
    })
    .join("\n");
}
