/** A prefill engine and a decode engine, with what carries KV between them: kvferry's sidecars, vLLM's own NixlConnector, or nothing. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort } from "../process.ts";
import { Sidecar } from "./sidecar.ts";
import { type Completion, Vllm, type VllmPlace } from "./vllm.ts";

const SETTLE_MS = 60_000;

export type Carrier = "kvferry" | "nixl-shm" | "nixl-tcp";
/** A pair's engines, and the sidecars beside them. */
export type Side = "prefill" | "decode";

/** UCX takes the fastest it may: with "sm" processes of one host read each other's memory, and TCP only introduces them. */
const UCX_TLS = { "nixl-shm": "tcp,self,sm", "nixl-tcp": "tcp,self" } as const;

export interface PairOptions {
  readonly place: VllmPlace;
  readonly carrier: Carrier;
  /** For vLLM, both engines. */
  readonly flags?: readonly string[];
  readonly poolBytes?: number;
  /** For the connector. */
  readonly extra?: Readonly<Record<string, unknown>>;
}

export interface HandedOver {
  readonly prefill: Completion;
  readonly decode: Completion;
}

export class Pair {
  readonly folder: string;
  readonly sidecars: readonly Sidecar[];
  prefill: Vllm;
  decode: Vllm;
  readonly #options: PairOptions;

  private constructor(options: PairOptions, folder: string, sidecars: readonly Sidecar[], prefill: Vllm, decode: Vllm) {
    this.#options = options;
    this.folder = folder;
    this.sidecars = sidecars;
    this.prefill = prefill;
    this.decode = decode;
  }

  static async start(options: PairOptions): Promise<Pair> {
    const folder = mkdtempSync(join(tmpdir(), "kvferry-engines-"));
    const poolBytes = options.poolBytes ?? 2 ** 30;
    const sidecars: Sidecar[] = [];
    if (options.carrier === "kvferry") {
      const first = await Sidecar.start({ name: "prefill-sidecar", folder, poolBytes });
      sidecars.push(first, await Sidecar.start({ name: "decode-sidecar", folder, poolBytes, peers: `${first.name}=${first.address}` }));
    }
    const [prefill, decode] = await Promise.all([
      startEngine(options, folder, "prefill", sidecars[0]),
      startEngine(options, folder, "decode", sidecars[1]),
    ]);
    return new Pair(options, folder, sidecars, prefill, decode);
  }

  get carrier(): Carrier {
    return this.#options.carrier;
  }

  sidecar(side: Side): Sidecar | undefined {
    return this.sidecars[side === "prefill" ? 0 : 1];
  }

  /** To an engine and its sidecar. */
  signal(side: Side, signal: NodeJS.Signals): void {
    this[side].signal(signal);
    this.sidecar(side)?.signal(signal);
  }

  /** Ends an engine, however it is, and starts it again; its sidecar only where that has ended. */
  async restart(side: Side): Promise<void> {
    await this[side].end("SIGKILL");
    const sidecar = this.sidecar(side);
    if (sidecar?.alive === false) await sidecar.begin();
    this[side] = await startEngine(this.#options, this.folder, side, sidecar);
  }

  /** One request as a router makes it: prefill there, decode here with what the first answer says. */
  async handOver(prompt: readonly number[], maxTokens: number, signal?: AbortSignal): Promise<HandedOver> {
    const stop = signal === undefined ? {} : { signal };
    const prefill = await this.prefill.prefill({ prompt, ...stop });
    const params = prefill.params === undefined ? {} : { params: prefill.params };
    return { prefill, decode: await this.decode.complete({ prompt, maxTokens, ...params, ...stop }) };
  }

  async forgetPrefixes(): Promise<void> {
    await Promise.all([this.prefill.forgetPrefixes(), this.decode.forgetPrefixes()]);
  }

  cpuSeconds(): number {
    return [this.prefill, this.decode, ...this.sidecars].reduce((sum, part) => sum + part.cpuSeconds(), 0);
  }

  /** Offers that nobody fetched end by their own deadline. */
  async heldAfterwards(): Promise<{ readonly words: string; readonly nothing: boolean }> {
    for (const started = Date.now(); ; await pause(1_000)) {
      const blocks = await Promise.all(this.sidecars.map((sidecar) => sidecar.blocksInUse()));
      const shares = await Promise.all([this.prefill, this.decode].map((engine) => engine.metric("vllm:kv_cache_usage_perc")));
      const nothing = [...blocks, ...shares].every((held) => held === 0);
      const pools = blocks.length === 0 ? "" : `in the pools ${blocks.join(" and ")}, `;
      const engines = `in the engines ${shares.map((share) => `${(100 * share).toFixed(1)} %`).join(" and ")}`;
      if (nothing || Date.now() - started > SETTLE_MS) return { words: `blocks in use ${pools}${engines}`, nothing };
    }
  }

  async end(): Promise<void> {
    await Promise.all([this.prefill.end(), this.decode.end()]);
    for (const sidecar of this.sidecars) await sidecar.end("SIGTERM");
    if (process.env.KVFERRY_BENCH_KEEP === undefined) rmSync(this.folder, { recursive: true, force: true });
  }
}

async function startEngine(options: PairOptions, folder: string, name: Side, sidecar: Sidecar | undefined): Promise<Vllm> {
  const { place, carrier, flags = [], extra = {} } = options;
  // Both connectors can have a prompt computed whose KV does not come.
  const both = { kv_role: "kv_both", kv_load_failure_policy: "recompute" };
  if (carrier === "kvferry") {
    const transfer = {
      ...both,
      kv_connector: "KvferryConnector",
      kv_connector_module_path: "kvferry_vllm.connector",
      kv_connector_extra_config: { socket: sidecar?.socket, ...extra },
    };
    return Vllm.start({ name, place, folder, flags, transfer });
  }
  const transfer = { ...both, kv_connector: "NixlConnector", kv_buffer_device: "cpu", kv_connector_extra_config: extra };
  const env = {
    VLLM_NIXL_SIDE_CHANNEL_HOST: "127.0.0.1",
    VLLM_NIXL_SIDE_CHANNEL_PORT: String(await freePort()),
    UCX_TLS: UCX_TLS[carrier],
  };
  return Vllm.start({ name, place, folder, flags, transfer, env });
}
