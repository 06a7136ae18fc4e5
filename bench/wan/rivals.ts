/** iperf3, Mooncake and NIXL over the same links in the same sitting; nobody of them encrypts. */
import { atEnd, type Impairment, LAB_HOST } from "../impairment.ts";
import { iperf3InLab } from "../iperf3.ts";
import { PEERS } from "../peers-install.ts";
import { timePeer } from "../peers-run.ts";
import { median } from "../statistics.ts";
import { withLink } from "./ends.ts";

const ASKER_HOST = "10.77.0.1";
/** Mooncake's own default of 30 s is too short for these links, and its 16 lanes are the most that it takes. */
const SETTINGS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  mooncake: { MC_TCP_LANES_PER_PEER: "16", MC_TRANSFER_TIMEOUT: "300" },
  nixl: { UCX_NET_DEVICES: "wan0" },
};

/** Gbit/s by the number of streams, from end b to end a, start included. */
export async function iperf3Rates(
  impairment: Impairment,
  congestionControl: string,
  streams: readonly number[],
  seconds: number,
): Promise<ReadonlyMap<number, number>> {
  const rates = new Map<number, number>();
  for (const count of streams) {
    const bits = await withLink(impairment, congestionControl, ({ name }) =>
      iperf3InLab({ client: atEnd(name, "a", []), server: atEnd(name, "b", []), host: LAB_HOST }, count, seconds, congestionControl),
    );
    rates.set(count, bits / 1e9);
  }
  return rates;
}

export interface RivalTimes {
  /** Medians, seconds: of the first requests, which open the connections, and of all others. */
  readonly cold: number;
  readonly warm: number;
}

/** Reads of 8,192 x 32 KiB by end a, in `sittings` processes one after the other; undefined where one did not finish in `timeoutMs`. */
export async function rivalTimes(
  name: "mooncake" | "nixl",
  impairment: Impairment,
  congestionControl: string,
  { seconds, timeoutMs, sittings = 1 }: { readonly seconds: number; readonly timeoutMs: number; readonly sittings?: number },
  say: (line: string) => void,
): Promise<RivalTimes | undefined> {
  const peer = PEERS.find((one) => one.name === name)!;
  const cold: number[] = [];
  const warm: number[] = [];
  try {
    for (let sitting = 0; sitting < sittings; sitting++) {
      const times = await withLink(impairment, congestionControl, (link) =>
        timePeer(
          peer,
          seconds,
          {
            client: { host: ASKER_HOST, prefix: atEnd(link.name, "a", []) },
            server: { host: LAB_HOST, prefix: atEnd(link.name, "b", []) },
            timeoutMs,
            environment: SETTINGS[name]!,
          },
          say,
        ),
      );
      cold.push(...times.slice(0, 1));
      warm.push(...times.slice(1));
    }
    return { cold: median(cold), warm: median(warm) };
  } catch (error) {
    say(`${peer.title}: ${(error as Error).message}`);
    return undefined;
  }
}
