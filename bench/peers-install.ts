/** Installs the peers by name, each into an environment of its own under the cache folder, once for each pinned version. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KvferryError } from "../transport/errors.ts";
import { cacheFolder } from "./cache.ts";
import { runProgram } from "./process.ts";

export interface PeerSpecification {
  readonly name: string;
  readonly title: string;
  readonly program: string;
  /** Groups of pip arguments, run in order. */
  readonly installs: readonly (readonly string[])[];
  readonly environment: Readonly<Record<string, string>>;
  /** Shared libraries that its wheel expects of the system, by soname, and the Debian packages that have them. */
  readonly libraries?: { readonly soname: string; readonly packages: readonly string[] };
}

export interface InstalledPeer {
  readonly python: string;
  readonly environment: Readonly<Record<string, string>>;
}

/** Versions and settings that were measured; Mooncake's own queue refuses a request of more than 2,048 pieces. */
export const PEERS: readonly PeerSpecification[] = [
  {
    name: "mooncake",
    title: "Mooncake TE 0.3.13 (tcp)",
    program: "mooncake_peer.py",
    installs: [["numpy", "mooncake-transfer-engine-non-cuda==0.3.13.post1"]],
    environment: {
      MC_TCP_MAX_QUEUED_TRANSFERS_PER_PEER: "65535",
      MC_TCP_MAX_PENDING_ADMISSIONS_PER_PEER: "65535",
      MC_TCP_ADMISSION_TIMEOUT_MS: "600000",
      MC_TCP_ENABLE_CONNECTION_POOL: "1",
      MC_TCP_SLICE_SIZE: "1048576",
    },
    libraries: { soname: "libibverbs.so.1", packages: ["libibverbs1", "libnl-3-200", "libnl-route-3-200", "librdmacm1"] },
  },
  {
    name: "nixl",
    title: "NIXL 1.5.1 (UCX, tcp)",
    program: "nixl_peer.py",
    // Its torch requirement is only for tensors: the binding imports without it, which saves gigabytes.
    installs: [["numpy"], ["--no-deps", "nixl-cu12==1.5.1"]],
    environment: { UCX_TLS: "tcp", UCX_NET_DEVICES: "lo" },
  },
];

const INSTALL_TIMEOUT_MS = 600_000;

/** Rejects with unsupported, and the installer's last words. */
export async function installPeer(peer: PeerSpecification, say: (line: string) => void): Promise<InstalledPeer> {
  const version = peer.installs
    .flat()
    .at(-1)!
    .replace(/[^A-Za-z0-9.=-]/g, "");
  const folder = join(cacheFolder(), "peers", version);
  const python = join(folder, "bin", "python");
  const done = join(folder, ".done");
  if (!existsSync(done)) {
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    say(`installing ${peer.title} into ${folder}`);
    await must("python3", ["-m", "venv", folder]);
    for (const packages of peer.installs)
      await must(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...packages]);
    if (peer.libraries !== undefined) await unpackLibraries(peer.libraries, folder, say);
    writeFileSync(done, "");
  }
  const system = join(folder, "system");
  if (!existsSync(system)) return { python, environment: peer.environment };
  const triple = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
  const libraries = [join(system, "usr", "lib", triple), join(system, "lib", triple)].join(":");
  return { python, environment: { ...peer.environment, LD_LIBRARY_PATH: libraries } };
}

/** Unpacks them beside the environment, so that nothing is installed on the machine and nobody has to be root. */
async function unpackLibraries(
  { soname, packages }: NonNullable<PeerSpecification["libraries"]>,
  folder: string,
  say: (line: string) => void,
): Promise<void> {
  const known = await runProgram("ldconfig", ["-p"], 10_000).catch(() => ({ stdout: "" }));
  if (known.stdout.includes(soname)) return;
  say(`unpacking ${packages[0]}, which its wheel expects`);
  try {
    await must("sh", [
      "-c",
      'cd "$0" && apt-get download -q "$@" && for file in *.deb; do dpkg-deb -x "$file" system; done',
      folder,
      ...packages,
    ]);
  } catch (error) {
    throw new KvferryError(
      "unsupported",
      `${soname} is missing (Debian: apt-get update && apt-get install ${packages[0]}): ${(error as Error).message}`,
    );
  }
}

async function must(program: string, args: readonly string[]): Promise<void> {
  const { code, stderr } = await runProgram(program, args, INSTALL_TIMEOUT_MS);
  if (code !== 0) throw new KvferryError("unsupported", `${program} ${args.slice(0, 3).join(" ")}: ${stderr.trim().slice(-400)}`);
}
