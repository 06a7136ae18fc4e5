/** What became of the addon, in words. */
import { native, nativeProblem } from "../native.ts";

export interface AddonState {
  readonly loaded: boolean;
  /** Which one, or why none. */
  readonly detail: string;
  /** The CRC32C implementation it chose on this CPU; "" without it. */
  readonly crc: string;
}

export function addonState(): AddonState {
  if (native === undefined) return { loaded: false, detail: nativeProblem, crc: "" };
  return { loaded: true, detail: `N-API interface ${native.abi}`, crc: native.crc32cName };
}
