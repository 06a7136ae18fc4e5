/** From how a transfer ended to what its user is told. */
import type { Outcome } from "../peer/transfer.ts";
import type { TransferReport } from "./ferry.ts";
import type { NodeContext } from "./context.ts";

export function reportOf(node: NodeContext, transfer: number, outcome: Outcome): TransferReport {
  return {
    transfer,
    bytes: outcome.bytes,
    wireBytes: outcome.wireBytes,
    seconds: (outcome.endedUs - outcome.startedUs) / 1e6,
    chunks: outcome.chunks,
    retries: outcome.retries,
    link: node.link.kind,
    order: outcome.order,
    resumed: outcome.resumed,
    profile: outcome.profile,
    lossy: outcome.lossy,
  };
}
