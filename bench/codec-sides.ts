/**
 * Prompts of real KV at one sidecar, compressed on their way to another as both ends agree. Both are processes of their own on this machine, or at the two
 * ends of an emulated link; an engine at each offers, fetches and looks at what came.
 */
import { losesNothing, needsCalibration } from "../transport/codec/fit.ts";
import { profileId } from "../transport/codec/identity.ts";
import type { Calibration } from "../transport/codec/calibration.ts";
import type { Profile } from "../transport/codec/profile.ts";
import type { CodecError, NamedProfile } from "../transport/cli/codec/compare.ts";
import { loadCalibration, readProfile } from "../transport/config/profile-files.ts";
import { KvferryError } from "../transport/errors.ts";
import type { TransferReport } from "../transport/ferry/ferry.ts";
import { profilesThere } from "./codec-counts.ts";
import { atEnd, LAB_HOST } from "./impairment.ts";
import type { HeldLink } from "./lab.ts";
import { blockBytesOf } from "./layouts.ts";
import { differenceOf, expectedError, type KvPrompt, type KvPrompts } from "./kv-dump.ts";
import { closeEngine, type EngineSide, openEngine, Prompt } from "./pair.ts";
import { SidecarProcess } from "./sidecars.ts";
import { median } from "./statistics.ts";
import type { LayoutOrder } from "./workload.ts";

export interface ProfileWish {
  /** A preset, a file, "auto" (what pays, of those without a matrix product) or "none". */
  readonly profile: string;
  /** "" = none. */
  readonly calibration: string;
}

const AUTO = ["lossless", "cpu-near", "cpu-fast"];
const ASKER_HOST = "10.77.0.1";
const SPARE_BYTES = 16 * 1024 * 1024;
/** Where ranges are shared by tokens, what a value becomes depends on where chunks begin: by so much an error may be larger than in other chunks. */
const ERROR_TOLERANCE = 1.25;
const DEADLINE_MS = 120_000;

interface Candidate {
  readonly named: NamedProfile;
  readonly calibration: Calibration | undefined;
}

/** What a wish names, by id; and how sidecars are told. */
export class Candidates {
  readonly wish: ProfileWish;
  readonly #byId = new Map<string, Candidate>();

  /** Throws invalid_argument: no such profile, no such calibration, a profile that needs one. */
  constructor(wish: ProfileWish) {
    this.wish = wish;
    const { profile, calibration: file } = wish;
    const calibration = file === "" ? undefined : loadCalibration(file);
    const names = profile === "auto" ? AUTO : profile === "none" ? [] : [profile];
    for (const name of names) {
      const named = { name, profile: readProfile(name) };
      const own = isCalibrated(named.profile) ? calibration : undefined;
      if (own !== undefined || !isCalibrated(named.profile))
        this.#byId.set(profileId(named.profile, own?.hash), { named, calibration: own });
      else if (profile !== "auto")
        throw new KvferryError("invalid_argument", `--profile ${name} needs the --calibration of its model: kvferry codec calibrate`);
    }
  }

  get(id: string): Candidate | undefined {
    return this.#byId.get(id);
  }

  /** Name of a profile by the id that a transfer reports; "none" for one that was stored. */
  nameOf(id: string): string {
    return id === "" ? "none" : (this.get(id)?.named.name ?? id);
  }

  get flags(): Readonly<Record<string, string>> {
    const { profile, calibration } = this.wish;
    if (this.#byId.size === 0) return {};
    const names = [...this.#byId.values()].map(({ named }) => named.name);
    return {
      "codec-profiles": names.join(","),
      ...(calibration === "" ? {} : { "codec-calibration": calibration }),
      "codec-accept-lossy": "true",
      "codec-use": profile,
    };
  }
}

function isCalibrated({ k, v }: Profile): boolean {
  return needsCalibration(k) || needsCalibration(v);
}

export interface SidesOptions {
  readonly kv: KvPrompts;
  readonly candidates: Candidates;
  readonly holderOrder: LayoutOrder;
  readonly askerOrder: LayoutOrder;
  /** Further flags of both sidecars. */
  readonly flags: Readonly<Record<string, string>>;
  /** Undefined: both on loopback. */
  readonly link?: HeldLink | undefined;
}

/** One prompt's way. */
export interface Move {
  readonly prompt: KvPrompt;
  /** From the offer until everything is verified and in place. */
  readonly seconds: number;
  readonly report: TransferReport;
}

/** What became of each prompt, round by round. */
export class MoveTimes {
  readonly #seconds = new Map<KvPrompt, number[]>();
  bytes = 0;
  wireBytes = 0;
  stored = 0;

  add({ prompt, seconds, report }: Move): void {
    this.#seconds.set(prompt, [...(this.#seconds.get(prompt) ?? []), seconds]);
    this.bytes += report.bytes;
    this.wireBytes += report.wireBytes;
    if (report.profile === "") this.stored += 1;
  }

  /** Of all prompts, each as long as it takes at the median. */
  get seconds(): number {
    return [...this.#seconds.values()].reduce((sum, all) => sum + median(all), 0);
  }
}

/** What lies at the receiver, against what was sent. */
export interface Checked {
  readonly error: CodecError;
  /** Bytes that differ where nothing may; or all of them, where a codec's error is larger than its own. */
  readonly wrong: number;
}

export class Sides {
  readonly asker: EngineSide;
  readonly holder: EngineSide;
  readonly #options: SidesOptions;
  readonly #prompts = new Map<KvPrompt, Prompt>();
  readonly #expected = new Map<string, CodecError>();

  static async open(options: SidesOptions): Promise<Sides> {
    const { kv, candidates, holderOrder, askerOrder, link } = options;
    const flags = { ...candidates.flags, ...options.flags, ...(link === undefined ? {} : { allow: "10.77.0.0/24" }) };
    const start = (name: string, order: LayoutOrder, host: string, end: "a" | "b", more: { readonly peers?: string }) => {
      const blockBytes = blockBytesOf(kv.slice, order.blockTokens);
      const poolBytes = kv.prompts.length * Math.ceil(kv.slice.tokens / order.blockTokens) * blockBytes * 1.1 + SPARE_BYTES;
      const place = link === undefined ? {} : { host, prefix: atEnd(link.name, end, []) };
      return SidecarProcess.start({ name, poolBytes: Math.ceil(poolBytes / 2 ** 20) * 2 ** 20, blockBytes, flags, ...place, ...more });
    };
    const holder = await start("holder", holderOrder, LAB_HOST, "b", {});
    let asker: SidecarProcess | undefined;
    try {
      asker = await start("asker", askerOrder, ASKER_HOST, "a", { peers: `holder=${holder.address}` });
      const from = await openEngine(holder, kv.slice, holderOrder);
      const sides = new Sides(options, await openEngine(asker, kv.slice, askerOrder), from);
      for (const prompt of kv.prompts) await sides.#take(prompt);
      for (const { sidecar } of [sides.asker, sides.holder]) await profilesThere(sidecar);
      return sides;
    } catch (error) {
      await asker?.stop();
      await holder.stop();
      throw error;
    }
  }

  private constructor(options: SidesOptions, asker: EngineSide, holder: EngineSide) {
    this.#options = options;
    this.asker = asker;
    this.holder = holder;
  }

  async #take(prompt: KvPrompt): Promise<void> {
    const made = await Prompt.make(this.#options.kv.slice, this.holder, this.asker);
    made.write(prompt.stream);
    this.#prompts.set(prompt, made);
  }

  async move(prompt: KvPrompt): Promise<Move> {
    const made = this.#prompts.get(prompt)!;
    const startMs = performance.now();
    const report = await made.fetch(await made.offer(), { deadlineMs: DEADLINE_MS });
    return { prompt, seconds: (performance.now() - startMs) / 1000, report };
  }

  /** Moves it once more, over bytes that are none of its. */
  async verify(prompt: KvPrompt): Promise<Checked> {
    const made = this.#prompts.get(prompt)!;
    made.poison();
    const { report } = await this.move(prompt);
    const { wrong, error } = differenceOf(prompt, made.read(), this.#options.kv.slice);
    const candidate = this.#options.candidates.get(report.profile);
    if (candidate === undefined || losesNothing(candidate.named.profile)) return { error, wrong };
    const own = this.#errorOf(prompt, report.profile, candidate);
    const isRight = error.k <= own.k * ERROR_TOLERANCE && error.v <= own.v * ERROR_TOLERANCE;
    return { error, wrong: isRight ? 0 : Math.max(wrong, 1) };
  }

  #errorOf(prompt: KvPrompt, id: string, { named, calibration }: Candidate): CodecError {
    const key = `${id} ${prompt.name}`;
    const known = this.#expected.get(key) ?? expectedError(prompt, named, calibration);
    this.#expected.set(key, known);
    return known;
  }

  async close(): Promise<void> {
    for (const side of [this.asker, this.holder]) {
      await closeEngine(side);
      await side.sidecar.stop();
    }
  }
}
