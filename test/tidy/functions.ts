/**
 * How long functions are. A brace opens a function when what stands before it ends in `=>` or in a parameter list that does not belong to
 * `if`, `for` and the like. No parser: a shape this misreads is counted too short, never too long.
 */
import { lineOf, type Source } from "./source.ts";

export interface FunctionSpan {
  /** What stands before the brace, on one line. */
  readonly head: string;
  readonly firstLine: number;
  readonly lines: number;
}

export function functionsOf(source: Source): FunctionSpan[] {
  return source.language === "python" ? pythonFunctions(source.text) : braceFunctions(source.bare, source.code);
}

function braceFunctions(bare: string, code: string): FunctionSpan[] {
  const spans: FunctionSpan[] = [];
  const open: { readonly head: string; readonly from: number }[] = [];
  for (let at = 0; at < bare.length; at++) {
    if (bare[at] === "{") {
      const from = headStart(bare, at);
      open.push({ head: isFunctionHead(bare, from, at) ? code.slice(from, at).trim().replace(/\s+/g, " ") : "", from });
    } else if (bare[at] === "}") {
      const top = open.pop();
      if (top === undefined || top.head === "") continue;
      const firstLine = lineOf(bare, top.from + bare.slice(top.from).search(/\S/) + 1);
      spans.push({ head: top.head, firstLine, lines: lineOf(bare, at) - firstLine + 1 });
    }
  }
  return spans;
}

/** Where the statement or argument begins that ends with the brace at `brace`. */
function headStart(bare: string, brace: number): number {
  let depth = 0;
  for (let at = brace - 1; at >= 0; at--) {
    const character = bare[at] as string;
    if (character === ")" || character === "]") depth++;
    else if (character === "(" || character === "[") {
      if (depth === 0) return at + 1;
      depth--;
    } else if (depth > 0) continue;
    else if (character === "}" && /^\s*[>[]/.test(bare.slice(at + 1, brace))) at = openingBrace(bare, at);
    else if (character === ";" || character === "{" || character === "}") return at + 1;
  }
  return 0;
}

/** The opening brace of the `}` at `close`: braces inside a return type. */
function openingBrace(bare: string, close: number): number {
  let depth = 0;
  for (let at = close; at >= 0; at--) {
    if (bare[at] === "}") depth++;
    if (bare[at] === "{" && --depth === 0) return at;
  }
  return 0;
}

const NOT_FUNCTIONS = new Set(["if", "for", "while", "switch", "catch", "with", "constexpr", "await", "return"]);

function isFunctionHead(bare: string, from: number, brace: number): boolean {
  const head = bare.slice(from, brace).trim();
  // A suite is a list of tests, and each test is counted by itself.
  if (/\b(describe|suite)\s*\($/.test(bare.slice(Math.max(0, from - 16), from)) || /^(export )?function \w+Tests\(/.test(head))
    return false;
  if (head.endsWith("=>")) return true;
  if (/[<|&,:]$/.test(head)) return false;
  if (/^case\b/.test(head) || !/\)\s*((const|noexcept|override|final|mutable|&&?)\s*)*((->|:(?!:)|requires\b)[^=]*)?$/.test(head))
    return false;
  const beforeParameters = head.slice(0, head.indexOf("(")).match(/(\w+)\s*$/)?.[1];
  return beforeParameters === undefined || !NOT_FUNCTIONS.has(beforeParameters);
}

function pythonFunctions(text: string): FunctionSpan[] {
  const lines = text.split("\n");
  const spans: FunctionSpan[] = [];
  lines.forEach((line, index) => {
    const indent = line.match(/^(\s*)(?:async\s+)?def\s/)?.[1];
    if (indent === undefined) return;
    let last = index;
    for (let at = index + 1; at < lines.length; at++) {
      const body = lines[at] as string;
      if (body.trim() === "") continue;
      if (!body.startsWith(`${indent} `) && !/^\s*\)/.test(body)) break;
      last = at;
    }
    spans.push({ head: line.trim(), firstLine: index + 1, lines: last - index + 1 });
  });
  return spans;
}
