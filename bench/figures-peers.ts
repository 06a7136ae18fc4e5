/** Mooncake and NIXL on the same 8,192 pieces in the same run, each with the settings that were found best for it. */
import { PEERS } from "./peers-install.ts";
import { measurePeer, type PeerLine } from "./peers-run.ts";
import type { Figure, SuiteContext } from "./suite-report.ts";

/** @param ours bits/s of the canonical request of this run */
export async function peerFigures(context: SuiteContext, ours: number): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const peer of PEERS) {
    try {
      const lines = await measurePeer(peer, context.seconds, context.say);
      for (const op of ["write", "read"] as const) figures.push(figureOf(peer.title, op, lines, ours));
    } catch (error) {
      figures.push({
        name: peer.title,
        measured: `not measured: ${(error as Error).message.replaceAll("|", "/")}`,
        wanted: "at least 4x",
        met: undefined,
      });
    }
  }
  return figures;
}

function figureOf(title: string, op: "write" | "read", lines: readonly PeerLine[], ours: number): Figure {
  const paged = lines.find((line) => line.op === op && line.case === "paged");
  const latency = lines.find((line) => line.op === op && line.case === "latency");
  const name = `${title}, ${op}, 8,192 x 32 KiB`;
  if (paged?.bits_per_second === undefined) {
    const failed = lines.find((line) => line.op === op && line.case === "failed");
    return { name, measured: `failed: ${failed?.error ?? "no result"}`, wanted: "at least 4x", met: undefined };
  }
  const rate = (paged.bits_per_second / 1e9).toFixed(1);
  const ratio = ours / paged.bits_per_second;
  const beside = latency?.p50_us === undefined ? "" : `; 4 KiB ${latency.p50_us.toFixed(0)} / ${latency.p99_us!.toFixed(0)} us`;
  return {
    name,
    measured: `${rate} Gbit/s, ${paged.cpu_seconds_per_gib!.toFixed(2)} CPU s/GiB${beside}; kvferry is ${ratio.toFixed(1)}x`,
    wanted: "at least 4x",
    met: ratio >= 4,
  };
}
