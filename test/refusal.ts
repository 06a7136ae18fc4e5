import assert from "node:assert/strict";
import { type ErrorCode, KvferryError } from "../transport/errors.ts";

/** The error, of this code, that a call ends with; fails if it does not. */
export function refused(run: () => unknown, code: ErrorCode): KvferryError {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof KvferryError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  return assert.fail("was accepted");
}
