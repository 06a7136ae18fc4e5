import assert from "node:assert/strict";
import { KvferryError } from "../../transport/errors.ts";

/** What is said of a configuration that is refused. */
export function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof KvferryError, String(error));
    assert.equal(error.code, "invalid_config");
    return error.message;
  }
  return assert.fail("was accepted");
}
