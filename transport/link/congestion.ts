/** What the kernel lets this process choose of its congestion controls. */
import { readFileSync } from "node:fs";

const FOLDER = "/proc/sys/net/ipv4/";

/** Names, in the kernel's order; empty where it does not say. Root may take what others are not allowed. */
export function allowedCongestion(): readonly string[] {
  const list = process.geteuid?.() === 0 ? "tcp_available_congestion_control" : "tcp_allowed_congestion_control";
  try {
    return readFileSync(FOLDER + list, "latin1")
      .split(/\s+/)
      .filter((name) => name !== "");
  } catch {
    return [];
  }
}
