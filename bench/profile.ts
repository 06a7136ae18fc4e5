/** How much of a profile is JavaScript: V8's samples of a stretch of time, without idling and without the kernel. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

interface CpuProfile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: { readonly functionName: string; readonly url: string } }[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface ProfileShare {
  /** Functions, what packs submissions and reads completions included, with what they call in Node and uWebSockets; and garbage collection. */
  readonly javascriptUs: number;
  /** Inside the addon, sends that are tried at once included: the frames of native-frames.ts, which do nothing but call it. */
  readonly addonUs: number;
  /** The event loop itself, system calls, and native code that no function called. */
  readonly programUs: number;
}

const OUTSIDE = new Set(["(root)", "(idle)", "(program)"]);
const ADDON_FRAMES = /\/bench\/native-frames\.[jt]s$/;

/** @param fromUs, toUs of the monotonic clock, which V8's profiles and process.hrtime share */
export function shareOf(profile: CpuProfile, fromUs: number, toUs: number): ProfileShare {
  const frames = new Map(profile.nodes.map((node) => [node.id, node.callFrame]));
  let atUs = profile.startTime;
  let javascriptUs = 0;
  let addonUs = 0;
  let programUs = 0;
  profile.samples.forEach((sample, index) => {
    const deltaUs = profile.timeDeltas[index]!;
    atUs += deltaUs;
    if (atUs < fromUs || atUs > toUs) return;
    const { functionName, url } = frames.get(sample)!;
    if (functionName === "(program)") programUs += deltaUs;
    else if (ADDON_FRAMES.test(url)) addonUs += deltaUs;
    else if (!OUTSIDE.has(functionName)) javascriptUs += deltaUs;
  });
  return { javascriptUs, addonUs, programUs };
}

/** The one profile that a process left in a folder of its own. */
export function readProfile(folder: string): CpuProfile {
  const file = readdirSync(folder).find((name) => name.endsWith(".cpuprofile"));
  if (file === undefined) throw new Error(`no profile in ${folder}`);
  return JSON.parse(readFileSync(join(folder, file), "utf8")) as CpuProfile;
}

export function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}
