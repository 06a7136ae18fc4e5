/** Certificates of both ends for one sitting, in a folder that goes with this process. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { daysFromNow, issueAuthority, issueCertificate } from "../../transport/tls/issue.ts";

const LAB_HOSTS = ["10.77.0.1", "10.77.0.2"];

/** Flags of `kvferry serve` for either end: one certificate that the addresses of both are named in. */
export function tlsFlags(hosts: readonly string[] = LAB_HOSTS): Readonly<Record<string, string>> {
  const folder = mkdtempSync(join(tmpdir(), "kvferry-wan-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const authority = issueAuthority({ name: "kvferry bench" }, daysFromNow(1));
  const node = issueCertificate(authority, { name: "end", hosts }, daysFromNow(1));
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
