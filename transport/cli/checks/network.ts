/** Checks of the network: socket buffers against the bandwidth-delay product, congestion control, idle restarts. */
import type { Config } from "../../config.ts";
import { formatRate, formatSize } from "../../config/units.ts";
import { limits } from "../../limits.ts";
import { chooseCongestion } from "../../policy/congestion.ts";
import { bbrBytesPerSecond, cubicBytesPerSecond } from "../../policy/flow-rate.ts";
import { type Check, type Host, ok, warn } from "./host.ts";

export interface Path {
  readonly rttMs: number;
  readonly rateBytesPerSecond: number;
}

const SYSCTL = "/proc/sys/net/";
/** From here on a path is long enough for windows and congestion control to matter. */
const LONG_RTT_MS = 5;

export function networkChecks(host: Host, config: Config, path: Path): Check[] {
  return [
    receiveBuffers(host, config, path),
    sendBuffers(host, config, path),
    coreBuffers(host, config, path),
    congestionControl(host, config, path),
    idleRestart(host, path),
  ];
}

function receiveBuffers(host: Host, config: Config, path: Path): Check {
  return buffers(host, config, path, "tcp_rmem", "receive");
}

function sendBuffers(host: Host, config: Config, path: Path): Check {
  return buffers(host, config, path, "tcp_wmem", "send");
}

/** What the kernel may grow a socket to. About half of it is window; the lanes share the path. */
function buffers(host: Host, config: Config, path: Path, name: "tcp_rmem" | "tcp_wmem", side: string): Check {
  const id = `${side}_buffers`;
  // Lanes are added where windows are too small for few, which is no reason to leave them so.
  const lanes = config.lanes || limits.lanesDefault;
  const most = Number(host.read(`${SYSCTL}ipv4/${name}`)?.split(/\s+/)[2] ?? Number.NaN);
  if (Number.isNaN(most)) return ok(id, "not known on this platform");
  const product = (path.rateBytesPerSecond * path.rttMs) / 1000;
  const reach = (most / 2) * lanes;
  const described = `${formatRate(path.rateBytesPerSecond)} x ${path.rttMs} ms = ${formatSize(Math.ceil(product))} under way`;
  const found = `${name} grows to ${formatSize(most)}: ${formatSize(reach)} of window over ${lanes} lanes; ${described}`;
  if (reach >= product) return ok(id, found);
  const wanted = 2 ** Math.ceil(Math.log2((2 * product) / lanes));
  return warn(id, found, `sysctl -w net.ipv4.${name}="4096 131072 ${wanted}", or more lanes (a WAN wants 8 to 16).`);
}

/** setsockopt is capped by these; kvferry leaves buffers to the kernel, so they matter only to programs that do not. */
function coreBuffers(host: Host, _config: Config, _path: Path): Check {
  const sizes = ["rmem_max", "wmem_max"].map((name) => `${name} ${formatSize(Number(host.read(`${SYSCTL}core/${name}`) ?? 0))}`);
  return ok("core_buffers", `${sizes.join(", ")}; not a limit here: kvferry lets the kernel size its buffers`);
}

function congestionControl(host: Host, config: Config, path: Path): Check {
  const id = "congestion_control";
  const { available, allowed, current } = congestionOf(host);
  if (current === "") return ok(id, "not known on this platform");
  // As a node chooses between hosts.
  const used = chooseCongestion(config.congestionControl, allowed, false).name || current;
  const found = `${used} in use; available: ${available.join(" ")}; allowed to this user: ${allowed.join(" ")}`;
  const missing = missingCongestion(host, config);
  if (missing !== "") return warn(id, found, missing);
  if (used.startsWith("bbr")) return ok(id, found);
  const module = available.includes("bbr") ? "" : "modprobe tcp_bbr; ";
  const remedy = allowed.includes("bbr")
    ? "Leave congestionControl empty, or set it to bbr."
    : `${module}sysctl -w net.ipv4.tcp_allowed_congestion_control="${[...allowed, "bbr"].join(" ")}".`;
  return warn(id, found, `${remedy} ${whatBbrGives(path)}`);
}

/** How to have the one that is configured; "" where it is to be had. Lanes would silently keep the host's. */
export function missingCongestion(host: Host, { congestionControl: wanted }: Config): string {
  const { allowed, current } = congestionOf(host);
  if (wanted === "" || current === "" || allowed.includes(wanted)) return "";
  return `modprobe tcp_${wanted}; sysctl -w net.ipv4.tcp_allowed_congestion_control="${[...allowed, wanted].join(" ")}"`;
}

function congestionOf(host: Host) {
  const [available, allowed, current] = [
    "tcp_available_congestion_control",
    "tcp_allowed_congestion_control",
    "tcp_congestion_control",
  ].map((name) => words(host.read(`${SYSCTL}ipv4/${name}`))) as [string[], string[], string[]];
  return { available, allowed, current: current[0] ?? "" };
}

/** Of 1 Gbit/s between datacenters, where the path that was named is a short one. */
const EXAMPLE: Path = { rttMs: 50, rateBytesPerSecond: 125_000_000 };
const EXAMPLE_LOSS = 0.001;

function whatBbrGives(path: Path): string {
  const { rttMs, rateBytesPerSecond } = path.rttMs < LONG_RTT_MS ? EXAMPLE : path;
  const lossy = { rateBytesPerSecond, rttUs: rttMs * 1_000, lossRatio: EXAMPLE_LOSS };
  const [bbr, cubic] = [bbrBytesPerSecond(lossy), cubicBytesPerSecond(lossy)].map(formatRate);
  return (
    `At ${formatRate(rateBytesPerSecond)}, ${rttMs} ms and a loss of ${EXAMPLE_LOSS * 100} % a flow of BBR carries about ${bbr}, one of cubic ` +
    `${cubic} (RFC 9438, 5.1); without BBR kvferry opens more lanes.`
  );
}

function idleRestart(host: Host, path: Path): Check {
  const id = "slow_start_after_idle";
  const value = host.read(`${SYSCTL}ipv4/tcp_slow_start_after_idle`);
  if (value === undefined) return ok(id, "not known on this platform");
  if (value === "0") return ok(id, "off: a lane keeps its window between transfers");
  if (path.rttMs < LONG_RTT_MS) return ok(id, "on; harmless on a path this short");
  return warn(id, "on: each transfer after a pause begins slowly again", "sysctl -w net.ipv4.tcp_slow_start_after_idle=0");
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}
