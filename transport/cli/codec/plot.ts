/** A plot of ratio against error, as SVG. */
import type { Compared } from "./compare.ts";

const WIDTH = 720;
const HEIGHT = 440;
const MARGIN = { left: 70, right: 120, top: 30, bottom: 50 };
/** What loses nothing is drawn here: its logarithm is nowhere. */
const ERROR_FLOOR = 1e-4;

/** Ratio to the right, error of K and V together upwards, both in powers. */
export function plotOf(results: readonly Compared[], title: string): string {
  const points = results.map((one) => ({
    name: one.profile,
    ratio: Math.max(one.ratio, 0.1),
    error: Math.max(Math.hypot(one.error.k, one.error.v) / Math.SQRT2, ERROR_FLOOR),
  }));
  const x = axis(
    points.map(({ ratio }) => ratio),
    2,
    MARGIN.left,
    WIDTH - MARGIN.right,
  );
  const y = axis(
    points.map(({ error }) => error),
    10,
    HEIGHT - MARGIN.bottom,
    MARGIN.top,
  );
  const lines = [
    ...x.ticks.map((tick) => `<path d="M${x.place(tick)} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}"/>`),
    ...y.ticks.map((tick) => `<path d="M${MARGIN.left} ${y.place(tick)}H${WIDTH - MARGIN.right}"/>`),
  ];
  const labels = [
    ...x.ticks.map((tick) => text(x.place(tick), HEIGHT - MARGIN.bottom + 18, "middle", `${tick}`)),
    ...y.ticks.map((tick) => text(MARGIN.left - 8, y.place(tick) + 4, "end", tick <= ERROR_FLOOR ? "0" : `${tick}`)),
    text(WIDTH / 2, 18, "middle", title),
    text((MARGIN.left + WIDTH - MARGIN.right) / 2, HEIGHT - 12, "middle", "ratio"),
    text(12, MARGIN.top - 8, "start", "relative error"),
  ];
  const dots = points.map(({ name, ratio, error }) => {
    const [left, top] = [x.place(ratio), y.place(error)];
    return `<circle cx="${left}" cy="${top}" r="4" fill="#1764ab"/>${text(left + 7, top + 4, "start", name)}`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<g stroke="#ddd" fill="none">${lines.join("")}</g>`,
    ...labels,
    ...dots,
    "</svg>\n",
  ].join("\n");
}

interface Axis {
  readonly ticks: readonly number[];
  readonly place: (value: number) => number;
}

/** Powers of `base` around the values. */
function axis(values: readonly number[], base: number, from: number, to: number): Axis {
  const power = (value: number): number => Math.log(value) / Math.log(base);
  const low = Math.floor(power(Math.min(...values)));
  const high = Math.max(low + 1, Math.ceil(power(Math.max(...values))));
  const ticks = Array.from({ length: high - low + 1 }, (_, at) => Number((base ** (low + at)).toPrecision(3)));
  return { ticks, place: (value) => Number((from + ((power(value) - low) / (high - low)) * (to - from)).toFixed(1)) };
}

function text(x: number, y: number, anchor: "start" | "middle" | "end", words: string): string {
  const safe = words.replace(/[&<>]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[one] ?? one);
  return `<text x="${x}" y="${y}" text-anchor="${anchor}">${safe}</text>`;
}
