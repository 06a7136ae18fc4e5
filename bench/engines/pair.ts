/** A prefill engine and a decode engine, with what carries KV between them: kvferry's sidecars, vLLM's own NixlConnector, or nothing. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../process.ts";
import { Sidecar } from "./sidecar.ts";
import { type Completion, Vllm, type VllmPlace } from "./vllm.ts";

export type Carrier = "kvferry" | "nixl";

export interface PairOptions {
  readonly place: VllmPlace;
  readonly carrier: Carrier;
  /** For vLLM, both engines. */
  readonly flags?: readonly string[];
  readonly poolBytes?: number;
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
      for (const name of ["prefill-sidecar", "decode-sidecar"]) sidecars.push(await Sidecar.start({ name, folder, poolBytes }));
    }
    const [prefill, decode] = await Promise.all([
      startEngine(options, folder, "prefill", sidecars[0]),
      startEngine(options, folder, "decode", sidecars[1]),
    ]);
    return new Pair(options, folder, sidecars, prefill, decode);
  }

  /** Starts an engine that has ended again. */
  async restart(name: "prefill" | "decode"): Promise<void> {
    await this[name].end("SIGKILL");
    this[name] = await startEngine(this.#options, this.folder, name, this.sidecars[name === "prefill" ? 0 : 1]);
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

  async end(): Promise<void> {
    await Promise.all([this.prefill.end(), this.decode.end()]);
    for (const sidecar of this.sidecars) await sidecar.end("SIGTERM");
    if (process.env.KVFERRY_BENCH_KEEP === undefined) rmSync(this.folder, { recursive: true, force: true });
  }
}

async function startEngine(options: PairOptions, folder: string, name: string, sidecar: Sidecar | undefined): Promise<Vllm> {
  const { place, flags = [], extra = {} } = options;
  if (sidecar !== undefined) {
    const transfer = {
      kv_connector: "KvferryConnector",
      kv_connector_module_path: "kvferry_vllm.connector",
      kv_role: "kv_both",
      kv_load_failure_policy: "recompute",
      kv_connector_extra_config: { socket: sidecar.socket, ...extra },
    };
    return Vllm.start({ name, place, folder, flags, transfer });
  }
  const transfer = { kv_connector: "NixlConnector", kv_role: "kv_both", kv_buffer_device: "cpu" };
  const env = {
    VLLM_NIXL_SIDE_CHANNEL_HOST: "127.0.0.1",
    VLLM_NIXL_SIDE_CHANNEL_PORT: String(await freePort()),
    UCX_TLS: "tcp,self,sm",
  };
  return Vllm.start({ name, place, folder, flags, transfer, env });
}
