/** Certificates of both ends for one sitting, in a folder that goes with this process. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { daysFromNow, issueAuthority, issueCertificate } from "../../transport/tls/issue.ts";

/** Flags of `kvferry serve` for either end: one certificate that both addresses of a link are named in. */
export function tlsFlags(): Readonly<Record<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-wan-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const authority = issueAuthority({ name: "kvferry bench" }, daysFromNow(1));
  const node = issueCertificate(authority, { name: "end", hosts: ["10.77.0.1", "10.77.0.2"] }, daysFromNow(1));
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return {
    "tls-certificate": write("end.crt", node.certificate),
    "tls-key": write("end.key", node.key),
    "tls-authorities": write("ca.crt", authority.certificate),
  };
}
