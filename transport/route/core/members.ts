/**
 * The members of a JSON object as they are written. A body goes to the engines with every number, string and space of the client's own:
 * JSON.parse and back would round a 64-bit seed or a block id.
 */

export interface Member {
  readonly name: string;
  /** The value's own text. */
  readonly text: string;
}

/**
 * Of a text that JSON.parse takes; undefined where it is no object or is nested deeper than `depthMax`.
 * Names are decoded, so that an escape hides none.
 */
export function membersOf(text: string, depthMax: number): Member[] | undefined {
  const members: Member[] = [];
  let at = skipSpace(text, 0);
  if (text[at] !== "{") return undefined;
  at = skipSpace(text, at + 1);
  while (text[at] !== "}") {
    const nameEnd = endOfString(text, at);
    const name = JSON.parse(text.slice(at, nameEnd)) as string;
    const start = skipSpace(text, skipSpace(text, nameEnd) + 1);
    const end = endOfValue(text, start, depthMax);
    if (end === undefined) return undefined;
    members.push({ name, text: text.slice(start, end).trimEnd() });
    at = text[end] === "," ? skipSpace(text, end + 1) : end;
  }
  return members;
}

export function objectOf(members: readonly Member[]): string {
  return `{${members.map(({ name, text }) => `${JSON.stringify(name)}:${text}`).join(",")}}`;
}

function skipSpace(text: string, from: number): number {
  let at = from;
  while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at++;
  return at;
}

/** Where the string that begins at `start` has ended: behind a quote with an even number of backslashes in front. */
function endOfString(text: string, start: number): number {
  let quote = text.indexOf('"', start + 1);
  for (; quote !== -1; quote = text.indexOf('"', quote + 1)) {
    let slashes = 0;
    while (text[quote - 1 - slashes] === "\\") slashes++;
    if (slashes % 2 === 0) return quote + 1;
  }
  return text.length;
}

/** At the comma or the brace behind the value; spaces in front of that are left to the caller. */
function endOfValue(text: string, start: number, depthMax: number): number | undefined {
  let depth = 0;
  let at = start;
  while (at < text.length) {
    const character = text[at];
    if (character === '"') {
      at = endOfString(text, at);
      continue;
    }
    if (depth === 0 && (character === "," || character === "}")) return at;
    if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    if (depth > depthMax) return undefined;
    at++;
  }
  return at;
}
