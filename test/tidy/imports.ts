/**
 * The floors of transport/: a file imports only from floors below it, or from its own folder, and never in a circle.
 * Types may also be imported from another folder of the same floor: they vanish when the code runs, and the circle rule holds for them too.
 * So may the code of a PURE folder of the same floor: it can do nothing but compute, and itself runs nothing of the others.
 */
import { posix } from "node:path";
import { type Finding, lineOf, type Source } from "./source.ts";

export interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
  readonly line: number;
}

/** From the top. A name is a folder of transport/ or a file in it. */
const FLOORS: readonly (readonly string[])[] = [
  ["index", "cli"],
  ["api", "route"],
  ["ferry"],
  ["peer"],
  ["runtime", "metrics", "log"],
  ["session"],
  ["policy"],
  ["link", "memory", "codec", "kv", "config"],
  ["tls"],
  ["native", "limits"],
  ["errors", "check", "folder"],
];

export const PURE_FOLDERS = ["session", "policy", "kv", "codec"];

/** What decides within a folder that also does. */
const PURE_INSIDE = /^transport\/route\/core\//;

export function isPure(path: string): boolean {
  const floor = floorName(path);
  return (floor !== undefined && PURE_FOLDERS.includes(floor)) || PURE_INSIDE.test(path);
}

/** What else a PURE folder may import values from. */
const PURE_GROUND = ["limits", "errors", "check"];

export function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  const statement = /\b(?:import|export)\s+(type\s+)?((?:[\w*$]+\s*,?\s*)?(?:\{[^}]*\}|\*\s+as\s+\w+)?)\s*from\s*["']([^"'\n]+)["']/g;
  for (const match of source.code.matchAll(statement)) {
    const names = match[2]
      ?.match(/^\s*\{([^}]*)\}\s*$/)?.[1]
      ?.split(",")
      .map((name) => name.trim());
    const onlyTypes = names?.every((name) => name === "" || name.startsWith("type ")) ?? false;
    found.push({ specifier: match[3] as string, typeOnly: match[1] !== undefined || onlyTypes, line: lineOf(source.code, match.index) });
  }
  for (const match of source.code.matchAll(/\bimport\s*\(?\s*["']([^"'\n]+)["']/g)) {
    found.push({ specifier: match[1] as string, typeOnly: false, line: lineOf(source.code, match.index) });
  }
  return found;
}

/** What a path belongs to: "kv" for transport/kv/plan.ts, "config" for transport/config.ts and config-units.ts; undefined outside. */
export function floorName(path: string): string | undefined {
  return path.match(/^transport\/([^/.-]+)/)?.[1];
}

export function checkFloors(source: Source): Finding[] {
  const from = floorName(source.path);
  if (from === undefined) return [];
  const height = heightOf(from);
  if (height === -1) return [{ path: source.path, line: 0, message: `"${from}" stands on no floor (test/tidy/imports.ts)` }];
  const findings: Finding[] = [];
  for (const { specifier, typeOnly, line } of importsOf(source)) {
    const message = floorMessage(source.path, from, height, specifier, typeOnly);
    if (message !== undefined) findings.push({ path: source.path, line, message });
  }
  return findings;
}

function floorMessage(path: string, from: string, height: number, specifier: string, typeOnly: boolean): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const target = posix.join(posix.dirname(path), specifier);
  if (!/\.(ts|js|json)$/.test(target)) return `import "${specifier}" names no file (write the .ts)`;
  const to = floorName(target);
  if (to === undefined) return from === "cli" && target.startsWith("bench/") ? undefined : `transport/ imports "${target}" from outside`;
  if (to === from) return undefined;
  const below = heightOf(to);
  if (below > height || (below === height && (typeOnly || sameFolder(from, to) || PURE_FOLDERS.includes(to)))) return undefined;
  return `"${from}" imports "${to}", which is not on a floor below`;
}

/** Files that lie in transport/ itself share that folder; "index" and "cli" are doors and stay apart. */
function sameFolder(from: string, to: string): boolean {
  const files = ["native", "limits", "errors", "check"];
  return files.includes(from) && files.includes(to);
}

function heightOf(name: string): number {
  return FLOORS.findIndex((floor) => floor.includes(name));
}

/** A PURE folder runs no code of the others: what it imports from them are types. */
export function checkPureImports(source: Source): Finding[] {
  const from = floorName(source.path);
  if (from === undefined || !isPure(source.path)) return [];
  const findings: Finding[] = [];
  for (const { specifier, typeOnly, line } of importsOf(source)) {
    const target = specifier.startsWith(".") ? posix.join(posix.dirname(source.path), specifier) : undefined;
    const to = target === undefined ? undefined : floorName(target);
    const allowed =
      target === undefined || to === undefined
        ? mayImportPackage(source.path, specifier)
        : typeOnly || isPure(target) || PURE_GROUND.includes(to);
    if (!allowed) findings.push({ path: source.path, line, message: `PURE: "${from}" imports "${specifier}"` });
  }
  return findings;
}

/** Hashing is a function of its input, so that identity may use the host's; nothing else comes from outside. */
function mayImportPackage(path: string, specifier: string): boolean {
  return ["transport/kv/identity.ts", "transport/codec/identity.ts"].includes(path) && specifier === "node:crypto";
}

/** Circles in the graph of files, each named once by its smallest rotation. */
export function findCycles(sources: readonly Source[]): string[][] {
  const edges = new Map<string, string[]>();
  for (const source of sources) {
    const targets = importsOf(source).map(({ specifier }) => posix.join(posix.dirname(source.path), specifier));
    edges.set(
      source.path,
      targets.filter((target) => sources.some(({ path }) => path === target)),
    );
  }
  const cycles = new Map<string, string[]>();
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    const seen = trail.indexOf(path);
    if (seen !== -1) {
      const cycle = rotate(trail.slice(seen));
      cycles.set(cycle.join(" "), cycle);
      return;
    }
    if (done.has(path)) return;
    for (const target of edges.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  return [...cycles.values()];
}

function rotate(cycle: readonly string[]): string[] {
  const smallest = cycle.indexOf([...cycle].sort()[0] as string);
  return [...cycle.slice(smallest), ...cycle.slice(0, smallest)];
}
