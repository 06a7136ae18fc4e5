/** House style as code: each rule looks at one file and says what is wrong where. STYLE.md names them. */
import { posix } from "node:path";
import { functionsOf } from "./functions.ts";
import { checkFloors, checkPureImports, floorName, isPure } from "./imports.ts";
import { type Finding, isCode, isGenerated, lineOf, type Source } from "./source.ts";

export interface Rule {
  readonly name: string;
  readonly check: (source: Source) => Finding[];
}

const FILE_LINES_MAX = 400;
const FUNCTION_LINES_MAX = 70;
const COLUMNS_MAX = 170;

/** Split so that this file does not hold the words that it forbids. */
const words = (...parts: readonly string[]): RegExp => new RegExp(parts.join(""), "g");

const UNFINISHED: readonly RegExp[] = [words("\\bTO", "DO\\b"), words("\\bFIX", "ME\\b"), words("\\bXX", "X\\b"), words("\\bHA", "CK\\b")];

const LOOSE: readonly RegExp[] = [
  words("\\bas", " any\\b"),
  words("@ts-", "(?:ignore|nocheck)"),
  words("\\b(?:test|it|describe|suite)\\.", "(?:only|skip)\\("),
  words("\\bexport declare ", "(?:class|function|const)\\b"),
];

/** Places that exist on one machine only, and hosts that packages come from: every machine has its own. */
const MACHINE: readonly RegExp[] = [
  words("(?<![\\w.~$)}-])/(?:work|root|home|opt/pypi|opt/wheels)", "/"),
  words("\\b(?:registry\\.npm", "js|npm", "js\\.(?:org|com)|py", "pi\\.org|python", "hosted\\.org|deb\\.", "debian\\.org|npm", "mirror)"),
];

const PURE_BANS: readonly RegExp[] = [
  /\b(?:Date|performance|process|globalThis|console|crypto|Promise|require|queueMicrotask|AbortSignal|fetch)\b/g,
  /\b(?:set|clear)(?:Timeout|Interval|Immediate)\b/g,
  /\b(?:async|await)\b/g,
  /\bMath\.(?!(?:abs|ceil|clz32|floor|imul|max|min|round|sign|sqrt|trunc)\b)\w+/g,
  /\.sort\(\s*\)/g,
];

/** What somebody may set. Of a certificate it says whether it is valid, and nothing else may follow from it. */
const WALL_CLOCKS: readonly RegExp[] = [
  /\bDate\.now\b/g,
  /\bnew Date\(\s*\)/g,
  /\b(?:CLOCK_REALTIME|system_clock|gettimeofday)\b/g,
  /\btime\(\s*(?:nullptr|NULL|0)\s*\)/g,
];
const JUDGES_OF_CERTIFICATES = ["transport/ferry/node-tls.ts", "transport/link/js-tls.ts", "transport/link/native-link.ts"];

const RULES: readonly Rule[] = [
  { name: "floors", check: checkFloors },
  { name: "pure-imports", check: checkPureImports },
  { name: "pure-bans", check: checkPure },
  { name: "file-lines", check: checkFileLines },
  { name: "function-lines", check: checkFunctionLines },
  { name: "columns", check: checkColumns },
  { name: "unfinished", check: (source) => findAll(source, source.text, UNFINISHED, "unfinished work") },
  { name: "loose", check: checkLoose },
  { name: "machine", check: (source) => findAll(source, source.text, MACHINE, "names a place or host of one machine") },
  { name: "environment", check: checkEnvironment },
  { name: "console", check: checkConsole },
  { name: "wall-clock", check: checkWallClock },
  { name: "test-head", check: checkTestHead },
];

export function ruleNamed(name: string): Rule {
  const rule = RULES.find((candidate) => candidate.name === name);
  if (rule === undefined) throw new Error(`no rule is called ${name}`);
  return rule;
}

export const RULE_NAMES: readonly string[] = RULES.map(({ name }) => name);

function checkPure(source: Source): Finding[] {
  if (!isPure(source.path)) return [];
  return findAll(source, source.bare, PURE_BANS, `PURE: ${posix.dirname(source.path)}/ may not use it`);
}

function checkFileLines(source: Source): Finding[] {
  if (!isCode(source)) return [];
  const lines = source.text.split("\n").length - (source.text.endsWith("\n") ? 1 : 0);
  return lines <= FILE_LINES_MAX ? [] : [{ path: source.path, line: 0, message: `${lines} lines (${FILE_LINES_MAX} at most)` }];
}

function checkFunctionLines(source: Source): Finding[] {
  if (!isCode(source)) return [];
  const long = functionsOf(source).filter(({ lines }) => lines > FUNCTION_LINES_MAX);
  return long.map(({ head, firstLine, lines }) => ({
    path: source.path,
    line: firstLine,
    message: `function of ${lines} lines (${FUNCTION_LINES_MAX} at most): ${head.slice(0, 60)}`,
  }));
}

function checkColumns(source: Source): Finding[] {
  if (!isCode(source)) return [];
  const findings: Finding[] = [];
  source.text.split("\n").forEach((line, index) => {
    if (line.length > COLUMNS_MAX) {
      findings.push({ path: source.path, line: index + 1, message: `${line.length} columns (${COLUMNS_MAX} at most)` });
    }
  });
  return findings;
}

function checkLoose(source: Source): Finding[] {
  if (isGenerated(source.path) || source.language !== "typescript") return [];
  // Directives are comments, so the text is searched; what stands in the strings of a rule's own test is not meant.
  return findAll(source, source.bare, LOOSE, "loosens a check").concat(
    findAll(source, source.text, [words("@ts-", "(?:ignore|nocheck)")], "loosens a check"),
  );
}

/** The environment is parsed once, at the edge. */
function checkEnvironment(source: Source): Finding[] {
  const floor = floorName(source.path);
  if (floor === undefined || ["config", "cli", "native"].includes(floor)) return [];
  return findAll(source, source.bare, [/\bprocess\.env\b/g], "only config, cli and native read the environment");
}

/** A library does not write to its user's terminal. */
function checkConsole(source: Source): Finding[] {
  const floor = floorName(source.path);
  if (floor === undefined || floor === "cli") return [];
  return findAll(source, source.bare, [/\bconsole\./g, /\bprocess\.std(?:out|err)\b/g], "only cli writes to the terminal");
}

/** Whoever sets the host's clock changes nothing that runs. */
function checkWallClock(source: Source): Finding[] {
  const floor = floorName(source.path);
  if (floor === undefined && !(source.path.startsWith("native/") && source.language === "cpp")) return [];
  if (floor === "tls" || floor === "cli" || JUDGES_OF_CERTIFICATES.includes(source.path)) return [];
  return findAll(source, source.bare, WALL_CLOCKS, "a clock that jumps decides nothing");
}

/** The head of a test says what it does and how. */
function checkTestHead(source: Source): Finding[] {
  if (!/^test\/.*\.test\.ts$/.test(source.path) || /^\/[/*]/.test(source.text)) return [];
  return [{ path: source.path, line: 1, message: "a test file begins with a comment that says its method" }];
}

function findAll(source: Source, text: string, patterns: readonly RegExp[], message: string): Finding[] {
  const findings: Finding[] = [];
  for (const pattern of patterns) {
    for (const match of text.matchAll(pattern)) {
      findings.push({ path: source.path, line: lineOf(text, match.index), message: `"${match[0].trim()}": ${message}` });
    }
  }
  return findings;
}
