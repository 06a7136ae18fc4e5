/**
 * The lock file has an entry for every dependency that it names, those of other platforms too: `npm ci` refuses one that has not. npm
 * leaves out what its registry does not carry, so that after `npm install` from a partial one this mends it: `npm run lock`. An entry
 * made here has no checksum, because nobody has seen its file; npm on that platform takes the version that the package beside it
 * names.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export interface LockEntry {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly libc?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface Lock {
  readonly packages: Readonly<Record<string, LockEntry>>;
}

const OS = ["aix", "android", "darwin", "freebsd", "linux", "netbsd", "openbsd", "openharmony", "sunos", "win32"];
const CPU = ["arm", "arm64", "ia32", "loong64", "mips64el", "ppc64", "riscv64", "s390x", "x64"];

/** Names of dependencies without an entry, each with the package that wants it and the version that it wants. */
export function missingEntries({
  packages,
}: Lock): { readonly name: string; readonly version: string; readonly wantedBy: string; readonly optional: boolean }[] {
  return Object.entries(packages).flatMap(([path, entry]) => {
    const wanted = [
      ...Object.entries(entry.dependencies ?? {}).map((dependency) => ({ dependency, optional: false })),
      ...Object.entries(entry.optionalDependencies ?? {}).map((dependency) => ({ dependency, optional: true })),
    ];
    return wanted
      .filter(({ dependency: [name] }) => !resolves(packages, path, name))
      .map(({ dependency: [name, version], optional }) => ({ name, version, wantedBy: path, optional }));
  });
}

/** With an entry for each missing optional dependency; what else is missing only npm can mend. */
export function completeLock(lock: Lock): Lock {
  const packages: Record<string, LockEntry> = { ...lock.packages };
  for (const { name, version, wantedBy, optional } of missingEntries(lock)) {
    if (!optional || !/^\d+\.\d+\.\d+$/.test(version)) continue;
    const { os, cpu, libc } = platformOf(name);
    const dev = lock.packages[wantedBy]?.dev;
    // In npm's own order, so that its next run changes nothing.
    packages[`node_modules/${name}`] = {
      version,
      ...(cpu && { cpu }),
      ...(dev && { dev }),
      ...(libc && { libc }),
      optional: true,
      ...(os && { os }),
    };
  }
  const sorted = Object.entries(packages).sort(([one], [other]) => one.localeCompare(other, "en"));
  return { ...lock, packages: Object.fromEntries(sorted) };
}

/** What a package's name says about where it runs: "binding-linux-x64-musl". */
export function platformOf(name: string): Pick<LockEntry, "os" | "cpu" | "libc"> {
  const words = name.slice(name.lastIndexOf("/") + 1).split("-");
  const os = words.find((word) => OS.includes(word));
  const cpu = words.find((word) => CPU.includes(word));
  const libc = words.some((word) => word.startsWith("musl")) ? "musl" : words.some((word) => word.startsWith("gnu")) ? "glibc" : undefined;
  return { ...(os && { os: [os] }), ...(cpu && { cpu: [cpu] }), ...(libc && { libc: [libc] }) };
}

/** As node looks for a package: in the wanting package's own folder, then in each one above. */
function resolves(packages: Readonly<Record<string, LockEntry>>, path: string, name: string): boolean {
  for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf("node_modules/") - 1))) {
    if (packages[`${folder === "" ? "" : `${folder}/`}node_modules/${name}`] !== undefined) return true;
    if (folder === "") return false;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const file = join(import.meta.dirname, "..", "..", "package-lock.json");
  const lock = JSON.parse(readFileSync(file, "utf8")) as Lock;
  writeFileSync(file, `${JSON.stringify(completeLock(lock), undefined, 2)}\n`);
  console.log(`package-lock.json: ${missingEntries(lock).length} entries were missing`);
}
