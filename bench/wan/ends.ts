/** Two sidecars at the two ends of an emulated link, an engine at each, and prompts that go from end b to end a. */
import { atEnd, type Impairment, LAB_HOST } from "../impairment.ts";
import { HeldLink } from "../lab.ts";
import { blockBytesOf } from "../layouts.ts";
import { CANONICAL, type KvSlice } from "../models.ts";
import { closeEngine, type EngineSide, openEngine, Prompt } from "../pair.ts";
import { SidecarProcess } from "../sidecars.ts";
import type { LayoutOrder } from "../workload.ts";

const NHD16: LayoutOrder = { order: "nhd", blockTokens: 16 };
const POOL_BYTES = 2 ** 30;
const ASKER_HOST = "10.77.0.1";

export interface EndsOptions {
  /** Flags of both sidecars. */
  readonly flags?: Readonly<Record<string, string>>;
  /** false: the first transfer dials, as between strangers. */
  readonly acquainted?: boolean;
  readonly poolBytes?: number;
}

export class Ends {
  readonly link: HeldLink;
  readonly asker: EngineSide;
  readonly holder: EngineSide;

  /** Sidecars of their own on a link that is there already. */
  static async open(link: HeldLink, options: EndsOptions = {}): Promise<Ends> {
    const { flags = {}, acquainted = true, poolBytes = POOL_BYTES } = options;
    const blockBytes = blockBytesOf(CANONICAL, NHD16.blockTokens);
    const common = { poolBytes, blockBytes };
    const shared = { allow: "10.77.0.0/24", ...flags };
    const holder = await SidecarProcess.start({
      ...common,
      name: "holder",
      host: LAB_HOST,
      prefix: atEnd(link.name, "b", []),
      flags: shared,
    });
    let asker: SidecarProcess | undefined;
    try {
      const peers = acquainted ? { peers: `holder=${holder.address}` } : {};
      asker = await SidecarProcess.start({
        ...common,
        ...peers,
        name: "asker",
        host: ASKER_HOST,
        prefix: atEnd(link.name, "a", []),
        flags: shared,
      });
      return new Ends(link, await openEngine(asker, CANONICAL, NHD16), await openEngine(holder, CANONICAL, NHD16));
    } catch (error) {
      await asker?.stop();
      await holder.stop();
      throw error;
    }
  }

  private constructor(link: HeldLink, asker: EngineSide, holder: EngineSide) {
    this.link = link;
    this.asker = asker;
    this.holder = holder;
  }

  prompt(slice: KvSlice = CANONICAL): Promise<Prompt> {
    return Prompt.make(slice, this.holder, this.asker);
  }

  async close(): Promise<void> {
    for (const side of [this.asker, this.holder]) {
      await closeEngine(side);
      await side.sidecar.stop();
    }
  }
}

/** Runs `use` at the ends of a link of its own; both are gone afterwards, whatever happens. */
export async function withEnds<Result>(
  impairment: Impairment,
  options: EndsOptions & { readonly congestionControl?: string },
  use: (ends: Ends) => Promise<Result>,
): Promise<Result> {
  return withLink(impairment, options.congestionControl ?? "", async (link) => {
    const ends = await Ends.open(link, options);
    try {
      return await Promise.race([use(ends), link.lost]);
    } finally {
      await ends.close();
    }
  });
}

export async function withLink<Result>(
  impairment: Impairment,
  congestionControl: string,
  use: (link: HeldLink) => Promise<Result>,
): Promise<Result> {
  const link = await HeldLink.up(impairment, congestionControl);
  try {
    return await use(link);
  } finally {
    await link.down();
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
