/** Flags that users of perftest and nixlbench type and this version has not: refused by name, not as unknown. */
import { KvferryError } from "../transport/errors.ts";
import type { RawOptions } from "./options.ts";

interface Refused {
  readonly flags: string;
  readonly name: string;
  readonly code: "unsupported" | "invalid_argument";
  readonly sentence: string;
}

const NO_GPU = "GPU memory is not moved by this version: both pools are in DRAM";

const REFUSED: readonly Refused[] = [
  {
    flags: "-d, --ib-dev <device>",
    name: "ibDev",
    code: "unsupported",
    sentence: "-d names an RDMA device, which this version does not use; TCP leaves by the route to the host (ip route get HOST)",
  },
  {
    flags: "-x, --gid-index <n>",
    name: "gidIndex",
    code: "unsupported",
    sentence: "-x is the GID of an RDMA port, which this version does not use; TCP needs none",
  },
  { flags: "--use-cuda <n>", name: "useCuda", code: "unsupported", sentence: `--use-cuda: ${NO_GPU}` },
  { flags: "--use-cuda-dmabuf", name: "useCudaDmabuf", code: "unsupported", sentence: `--use-cuda-dmabuf: ${NO_GPU}` },
  { flags: "--transport <kind>", name: "transport", code: "invalid_argument", sentence: "--transport is called --link here" },
];

export const FOREIGN_FLAGS: readonly string[] = REFUSED.map(({ flags }) => flags);

/** Throws KvferryError for a flag that other tools have and this version has not, and for memory that it cannot move. */
export function refuseForeign(raw: RawOptions): void {
  for (const { name, code, sentence } of REFUSED) if (raw[name] !== undefined) throw new KvferryError(code, sentence);
  for (const [name, flag] of [
    ["srcMem", "--src-mem"],
    ["dstMem", "--dst-mem"],
  ] as const) {
    const kind = raw[name];
    if (kind === "vram") throw new KvferryError("unsupported", `${flag} vram: ${NO_GPU}`);
    if (kind !== undefined && kind !== "dram")
      throw new KvferryError("invalid_argument", `Expected dram or vram for ${flag} but received "${String(kind)}"`);
  }
}
