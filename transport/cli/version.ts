/** kvferry version: what runs here, for bug reports and for upgrades. */
import { Command } from "commander";
import { limits } from "../limits.ts";
import { addonState } from "./addon.ts";
import { packageVersion } from "./package.ts";

export function versionCommand(): Command {
  return new Command("version")
    .description("print the versions of kvferry, Node, the addon and the protocol")
    .option("--json", "as one JSON document")
    .action((options: { json?: boolean }) => {
      const addon = addonState();
      const versions = {
        kvferry: packageVersion(),
        node: process.version,
        napi: process.versions.napi ?? "",
        platform: `${process.platform}-${process.arch}`,
        addon: addon.loaded ? addon.detail : "",
        addon_missing: addon.loaded ? "" : addon.detail,
        protocol: limits.protocolVersion,
        protocol_oldest: limits.protocolVersionMin,
      };
      console.log(options.json === true ? JSON.stringify(versions) : readable(versions));
    });
}

function readable(versions: Record<string, string | number>): string {
  const addon = versions.addon === "" ? `not loaded: ${versions.addon_missing}` : versions.addon;
  const protocol = `${versions.protocol} (speaks from ${versions.protocol_oldest} on)`;
  return [
    `kvferry   ${versions.kvferry}`,
    `node      ${versions.node} (N-API ${versions.napi}, ${versions.platform})`,
    `addon     ${addon}`,
    `protocol  ${protocol}`,
  ].join("\n");
}
