/**
 * Blanks out comments and the insides of strings, so that the rules look at code only. Knows enough of TypeScript and C++ for that:
 * nested templates, regular expressions, raw strings, digit separators. Every character keeps its place, so that lines keep their numbers.
 */

export interface Masked {
  /** Comments blanked. */
  readonly code: string;
  /** Comments and the insides of strings, templates and regular expressions blanked. */
  readonly bare: string;
}

export type Language = "typescript" | "cpp";

export function mask(text: string, language: Language): Masked {
  const scanner = new Scanner(text, language);
  scanner.scan();
  return { code: blank(text, scanner.comments), bare: blank(text, [...scanner.comments, ...scanner.strings]) };
}

type Span = readonly [from: number, to: number];

function blank(text: string, spans: readonly Span[]): string {
  const characters = text.split("");
  for (const [from, to] of spans) {
    for (let at = from; at < to; at++) if (characters[at] !== "\n") characters[at] = " ";
  }
  return characters.join("");
}

class Scanner {
  readonly comments: Span[] = [];
  readonly strings: Span[] = [];
  readonly #text: string;
  readonly #language: Language;
  #at = 0;

  constructor(text: string, language: Language) {
    this.#text = text;
    this.#language = language;
  }

  /** Code up to the end, or (inside a template) up to the brace that ends its `${`. */
  scan(insideTemplate = false): void {
    let depth = 0;
    while (this.#at < this.#text.length) {
      const character = this.#text[this.#at];
      if (insideTemplate && character === "}" && depth === 0) return;
      if (character === "{") depth++;
      if (character === "}") depth--;
      if (!this.#comment() && !this.#string(character as string)) this.#at++;
    }
  }

  #comment(): boolean {
    const from = this.#at;
    if (this.#text.startsWith("//", from)) this.#at = indexOrEnd(this.#text, "\n", from);
    else if (this.#text.startsWith("/*", from)) this.#at = Math.min(indexOrEnd(this.#text, "*/", from + 2) + 2, this.#text.length);
    else return false;
    this.comments.push([from, this.#at]);
    return true;
  }

  #string(character: string): boolean {
    if (character === '"' && this.#isRaw()) this.#rawString();
    else if (character === '"') this.#quoted('"');
    else if (character === "'" && !this.#isDigitSeparator()) this.#quoted("'");
    else if (character === "`" && this.#language === "typescript") this.#template();
    else if (character === "/" && this.#language === "typescript" && this.#startsRegularExpression()) this.#regularExpression();
    else return false;
    return true;
  }

  #quoted(quote: string): void {
    const from = ++this.#at;
    while (this.#at < this.#text.length && this.#text[this.#at] !== quote && this.#text[this.#at] !== "\n") {
      this.#at += this.#text[this.#at] === "\\" ? 2 : 1;
    }
    this.strings.push([from, this.#at]);
    this.#at++;
  }

  #rawString(): void {
    const from = ++this.#at;
    const delimiter = this.#text.slice(from, indexOrEnd(this.#text, "(", from));
    this.#at = Math.min(indexOrEnd(this.#text, `)${delimiter}"`, from) + delimiter.length + 1, this.#text.length);
    this.strings.push([from, this.#at]);
    this.#at++;
  }

  #template(): void {
    let from = ++this.#at;
    while (this.#at < this.#text.length && this.#text[this.#at] !== "`") {
      if (this.#text.startsWith("${", this.#at)) {
        this.strings.push([from, this.#at]);
        this.#at += 2;
        this.scan(true);
        from = ++this.#at;
      } else this.#at += this.#text[this.#at] === "\\" ? 2 : 1;
    }
    this.strings.push([from, this.#at]);
    this.#at++;
  }

  #regularExpression(): void {
    const from = ++this.#at;
    let inClass = false;
    while (this.#at < this.#text.length && this.#text[this.#at] !== "\n") {
      const character = this.#text[this.#at];
      if (character === "/" && !inClass) break;
      if (character === "[") inClass = true;
      if (character === "]") inClass = false;
      this.#at += character === "\\" ? 2 : 1;
    }
    this.strings.push([from, this.#at]);
    this.#at++;
  }

  #isRaw(): boolean {
    return this.#language === "cpp" && /\bR$/.test(this.#text.slice(Math.max(0, this.#at - 3), this.#at));
  }

  #isDigitSeparator(): boolean {
    const around = `${this.#text[this.#at - 1] ?? ""}${this.#text[this.#at + 1] ?? ""}`;
    return this.#language === "cpp" && /^[0-9a-fA-F]{2}$/.test(around);
  }

  /** A slash begins an expression where a value is expected: after an operator, an opening bracket or a keyword. */
  #startsRegularExpression(): boolean {
    const before = this.#text.slice(Math.max(0, this.#at - 64), this.#at).trimEnd();
    return before === "" || /[(,=:[!&|?{};+\-*%^~<>]$/.test(before) || /\b(return|typeof|case|in|of|void|throw)$/.test(before);
  }
}

function indexOrEnd(text: string, what: string, from: number): number {
  const at = text.indexOf(what, from);
  return at === -1 ? text.length : at;
}
