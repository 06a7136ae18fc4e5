/** The pieces that API messages are made of, as zod schemas: unknown in, bounded typed values out. */
import { z } from "zod";
import type { GroupBlocks } from "../ferry/ferry.ts";
import type { Layout } from "../kv/layout.ts";
import { limits } from "../limits.ts";
import type { Blocks } from "../memory/pool.ts";
import { PRIORITIES } from "../policy/priority.ts";
import { wordsOf } from "./codec.ts";

const U32_MAX = 0xffff_ffff;
const KEY_BYTES = 32;

export const u32 = whole(0, U32_MAX);
export const safeInteger = whole(0, Number.MAX_SAFE_INTEGER);
export const text = z.string().max(limits.apiTextCharacters);
export const name = z.string().min(1).max(256);
export const handle = z.string().min(1).max(limits.handleCharacters);
export const deadlineMs = whole(1, limits.deadlineMaxMs);
export const priority = z.enum(PRIORITIES);
export const model = whole(0, U32_MAX);
export const group = whole(0, limits.groupsMax - 1);
export const tokens = whole(0, Number.MAX_SAFE_INTEGER);
export const position = whole(0, limits.keyTokensMax - 1);

export const keys = z.custom<Uint8Array>(
  (value) => value instanceof Uint8Array && value.length % KEY_BYTES === 0 && value.length / KEY_BYTES <= limits.apiBatchMax,
  `binary of at most ${limits.apiBatchMax} keys of ${KEY_BYTES} bytes`,
);

export function words(countMax: number) {
  return z.unknown().transform((value, context): Uint32Array => {
    const array = value instanceof Uint8Array && value.length <= 4 * countMax ? wordsOf(value) : undefined;
    if (array !== undefined) return array;
    context.addIssue({ code: "custom", message: `binary of at most ${countMax} u32 values` });
    return z.NEVER;
  });
}

export const blocks = z
  .strictObject({ ids: words(limits.apiBatchMax), generations: words(limits.apiBatchMax) })
  .refine(({ ids, generations }) => ids.length === generations.length, "as many generations as ids")
  .readonly() as z.ZodType<Blocks>;

export const groupBlocks = z.strictObject({ group, blocks, tokens }).readonly() as z.ZodType<GroupBlocks>;

/** Only that it is a map: whoever registers a model parses its layout, in process as over a socket (kv/parse.ts). */
export const layout = z.custom<Layout>((value) => typeof value === "object" && value !== null && !Array.isArray(value), "a map");

export function whole(low: number, high: number) {
  return z.custom<number>(
    (value) => typeof value === "number" && Number.isSafeInteger(value) && value >= low && value <= high,
    `an integer from ${low} to ${high}`,
  );
}
