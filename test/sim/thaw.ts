/**
 * Must be imported before anything of transport/: leaves the one table of bounds open, so that the swarm can shrink it to reach the corners.
 * Nothing in production code knows of it.
 */
const freeze = Object.freeze;

Object.freeze = function thaw<T>(value: T): T {
  const isLimits = typeof value === "object" && value !== null && "attemptsWithoutProgress" in value && "chunkBytesMin" in value;
  return isLimits ? value : (freeze(value) as T);
} as typeof Object.freeze;
