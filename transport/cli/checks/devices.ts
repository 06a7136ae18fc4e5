/** Checks of devices: RDMA ports with their GIDs, the CUDA driver and its compiler. Absent ones are no fault: TCP carries everything. */
import type { NativeCuda } from "../../native-device.ts";
import { type Check, type Host, ok, warn } from "./host.ts";

/** `cuda`: what the addon finds; undefined without an addon. */
export function deviceChecks(host: Host, cuda: NativeCuda | undefined): Check[] {
  return [rdma(host), cudaDriver(host), cudaCompiler(host), gpuCodecs(cuda), nvcomp(cuda)];
}

const CLASS = "/sys/class/infiniband";
const GIDS_SHOWN = 8;

function rdma(host: Host): Check {
  const id = "rdma";
  const devices = host.list(CLASS);
  if (devices.length === 0) return ok(id, "no device (/sys/class/infiniband is empty): TCP carries the bytes");
  const ports = devices.flatMap((device) => host.list(`${CLASS}/${device}/ports`).map((port) => portOf(host, device, port)));
  const found = ports.map(({ text }) => text).join("; ");
  if (ports.some(({ active, gids }) => active && gids > 0)) return ok(id, found);
  return warn(id, found, "No port is ACTIVE with a GID: ibv_devinfo -v shows the link, ip addr the addresses that RoCE GIDs come from.");
}

function portOf(host: Host, device: string, port: string): { readonly text: string; readonly active: boolean; readonly gids: number } {
  const folder = `${CLASS}/${device}/ports/${port}`;
  const state = host.read(`${folder}/state`) ?? "unknown";
  const gids = host.list(`${folder}/gids`).flatMap((index) => {
    const gid = host.read(`${folder}/gids/${index}`) ?? "";
    if (/^[0:]*$/.test(gid)) return [];
    return [`${index}=${gid} ${host.read(`${folder}/gid_attrs/types/${index}`) ?? ""}`.trim()];
  });
  const more = gids.length > GIDS_SHOWN ? `, ${gids.length - GIDS_SHOWN} more` : "";
  const speed = host.read(`${folder}/rate`) ?? "";
  const text = `${device}/${port} ${state.replace(/^\d+: /, "")} ${speed} GIDs: ${gids.slice(0, GIDS_SHOWN).join(", ") || "none"}${more}`;
  return { text, active: state.includes("ACTIVE"), gids: gids.length };
}

function cudaDriver(host: Host): Check {
  const id = "cuda_driver";
  const version = /Kernel Module\s+(?:for \S+\s+)?([\d.]+)/.exec(host.read("/proc/driver/nvidia/version") ?? "")?.[1];
  if (version !== undefined) return ok(id, `NVIDIA ${version}`);
  const library = host.run("ldconfig", ["-p"])?.includes("libcuda.so.1") === true;
  if (!library) return ok(id, "none: KV lies in host memory");
  return warn(id, "libcuda.so.1 is installed, but no driver is loaded", "Load the kernel module, or start the container with --gpus all.");
}

function cudaCompiler(host: Host): Check {
  const release = /release ([\d.]+)/.exec(host.run("nvcc", ["--version"]) ?? "")?.[1];
  return ok("nvcc", release === undefined ? "none: needed only to build GPU codecs" : `CUDA ${release}`);
}

function gpuCodecs(cuda: NativeCuda | undefined): Check {
  const id = "gpu_codecs";
  if (cuda === undefined) return ok(id, "none: the addon is not loaded");
  const gpus = cuda.gpus.map(({ name, capability }) => `${name} (${capability})`).join(", ");
  if (cuda.problem === "") return ok(id, gpus);
  if (gpus === "") return ok(id, `none run here: ${cuda.problem}`);
  return warn(
    id,
    `none for ${gpus}: ${cuda.problem}`,
    "Put nvcc on the path, then npm rebuild kvferry (in a checkout: npm run build:native).",
  );
}

function nvcomp(cuda: NativeCuda | undefined): Check {
  const id = "nvcomp";
  if (cuda === undefined) return ok(id, "not looked for: the addon is not loaded");
  return ok(
    id,
    cuda.nvcomp.problem === ""
      ? `nvCOMP ${cuda.nvcomp.version}: nvcomp-ans and nvcomp-bitcomp, in GPUs' memory alone`
      : `none: ${cuda.nvcomp.problem}; profiles with nvcomp-ans or nvcomp-bitcomp are left out`,
  );
}
