import { refused } from "../refusal.ts";

/** What is said of a configuration that is refused. */
export const refusal = (run: () => unknown): string => refused(run, "invalid_config").message;
