/** How the demo speaks: indented lines, wrapped texts, sizes in binary units, rates in Gbit/s, times that a person would say. */

const COLUMNS = 92;

export function title(text: string): void {
  console.log(`\n${text}`);
}

export function say(label: string, text: string): void {
  console.log(`  ${label.padEnd(26)}${text}`);
}

/** A quoted text under a label, wrapped. */
export function quote(label: string, text: string): void {
  const lines = wrap(text.trim().replace(/\s+/g, " "), COLUMNS - 28);
  lines.forEach((line, index) =>
    console.log(`  ${(index === 0 ? label : "").padEnd(26)}${index === 0 ? '"' : " "}${line}${index === lines.length - 1 ? '"' : ""}`),
  );
}

export function paragraph(text: string): void {
  for (const line of wrap(text, COLUMNS)) console.log(line);
}

/** A line that is rewritten while something runs, where standard error is a terminal; elsewhere only its last state is printed. */
export function progressLine(label: string, state: string, done: boolean): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${done ? "" : `  ${label.padEnd(26)}${state}`}`);
  if (done) say(label, state);
}

/** Shows, on a terminal, for how long something has been going on. */
export async function during<T>(label: string, state: string, work: Promise<T>): Promise<T> {
  let seconds = 0;
  const ticks = setInterval(() => progressLine(label, `${state}, ${++seconds} s`, false), 1000);
  try {
    return await work;
  } finally {
    clearInterval(ticks);
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[2K");
  }
}

export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

export function gigabits(bytes: number, seconds: number): string {
  return `${((bytes * 8) / seconds / 1e9).toFixed(2)} Gbit/s`;
}

export function duration(milliseconds: number): string {
  return milliseconds < 1000 ? `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
}

export function count(number: number): string {
  return number.toLocaleString("en-US");
}
