/**
 * Who gives way where no more strangers fit in: somebody of the source that has most of the room, so that whoever fills it puts out his own; where no
 * source has much, anybody. The native link's native/tcp/doorstep.cpp does the same.
 */

export interface Newcomer {
  /** `sourceOf` its address. */
  readonly source: string;
  /** Who has come least far is missed least. */
  readonly progress: number;
}

/** A source with less than this part of the room takes no more than its due: a peer comes with all its lanes at once. */
const FAIR_PARTS = 8;
/** The newest of this part have not had time to say anything: they would put each other out, and whoever was quick to say a little would stay. */
const NEWEST_PARTS = 4;

/** `callers`: the oldest first, who fill the room. `source`: where one more comes from. Undefined only if there is nobody. */
export function whoGivesWay<Someone extends Newcomer>(callers: Iterable<Someone>, source: string): Someone | undefined {
  const shares = new Map([[source, 1]]);
  const all = [...callers];
  for (const caller of all) shares.set(caller.source, (shares.get(caller.source) ?? 0) + 1);
  const largest = all.reduce((most, caller) => Math.max(most, shares.get(caller.source) ?? 0), shares.get(source) ?? 0);
  const isFair = largest <= Math.floor(all.length / FAIR_PARTS);
  const candidates = all.filter((caller) => isFair || shares.get(caller.source) === largest);
  const older = candidates.slice(0, candidates.length - Math.floor(candidates.length / NEWEST_PARTS));
  return older.reduce<Someone | undefined>(
    (least, caller) => (least === undefined || caller.progress < least.progress ? caller : least),
    undefined,
  );
}

const PREFIX_GROUPS = 4;
const GROUPS = 8;

/** An IPv4 address, or the part of an IPv6 address that a host does not choose by itself. */
export function sourceOf(host: string): string {
  if (!host.includes(":")) return host;
  const [front = "", back] = host.split("::");
  const groups = front === "" ? [] : front.split(":");
  const behind = back === undefined || back === "" ? 0 : back.split(":").length;
  const missing = back === undefined ? 0 : GROUPS - groups.length - behind;
  const whole = [...groups, ...Array.from({ length: missing }, () => "0"), ...(back ?? "").split(":")];
  return whole.slice(0, PREFIX_GROUPS).join(":");
}
