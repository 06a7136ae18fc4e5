/** Which congestion control lanes ask the kernel for. PURE. */

export interface CongestionChoice {
  /** "" = the host's own. */
  readonly name: string;
  readonly reason: string;
}

/** Best first. Each keeps a path with random loss full with one lane; what a loss means to cubic and reno halves or cuts their rate. */
const PREFERRED = ["bbr3", "bbr2", "bbr"];

/**
 * @param configured by the operator, or ""
 * @param allowed what the kernel lets this process choose; empty = not known
 * @param local both ends are on one host: there is no path to probe
 */
export function chooseCongestion(configured: string, allowed: readonly string[], local: boolean): CongestionChoice {
  if (configured !== "") return { name: configured, reason: "configured" };
  if (local) return { name: "", reason: "both ends are on one host" };
  const best = PREFERRED.find((name) => allowed.includes(name));
  if (best !== undefined) return { name: best, reason: "keeps a long path with loss full" };
  return {
    name: "",
    reason: allowed.length === 0 ? "the kernel does not say what it has" : `no bbr among ${allowed.join(", ")}: more lanes instead`,
  };
}

/** A flow of it takes a loss for congestion: its rate falls with the square root of the loss, so that many flows carry what one cannot. */
export function isLossBased(name: string): boolean {
  return name !== "" && !name.startsWith("bbr");
}
