/** What every part of `npm run bench:wan` is given. */
import type { EndsOptions } from "./ends.ts";

export interface WanContext {
  readonly repetitions: number;
  readonly quick: boolean;
  readonly ends: EndsOptions;
  readonly say: (line: string) => void;
}
