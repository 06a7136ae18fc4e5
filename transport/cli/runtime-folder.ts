/** Where a sidecar's socket lies when nobody says: the user's own runtime folder, or a private one under the temporary folder. */
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";

export function runtimeSocket(): string {
  const folder = process.env.XDG_RUNTIME_DIR;
  return folder === undefined || folder === "" ? join(privateFolder(), "kvferry.sock") : join(folder, "kvferry.sock");
}

/** Named by user, so that nobody else's folder is taken for ours. */
export function privateFolder(): string {
  return join(tmpdir(), `kvferry-${userInfo().uid}`);
}
