/** Counts of chunks, kept as plain numbers: they come by the ten thousand a second, and only a scrape needs them in Prometheus' form. */

export type Direction = "in" | "out";

export class ChunkTally {
  readonly counts = { in: 0, out: 0 };
  readonly bytes = { in: 0, out: 0 };
  readonly #boundsSeconds: readonly number[];
  /** Samples at most as long as each bound, and last those longer than all. */
  readonly #buckets: Float64Array;
  #sumUs = 0;

  constructor(boundsSeconds: readonly number[]) {
    this.#boundsSeconds = boundsSeconds;
    this.#buckets = new Float64Array(boundsSeconds.length + 1);
  }

  add(direction: Direction, bytes: number, durationUs: number): void {
    this.counts[direction]++;
    this.bytes[direction] += bytes;
    if (direction === "in") return;
    this.#sumUs += durationUs;
    let bucket = 0;
    while (bucket < this.#boundsSeconds.length && durationUs > this.#boundsSeconds[bucket]! * 1e6) bucket++;
    this.#buckets[bucket]!++;
  }

  /** As prom-client has the values of a histogram: cumulative buckets, sum, count. */
  histogramValues(name: string): { metricName: string; labels: Record<string, string | number>; value: number }[] {
    let total = 0;
    const buckets = Array.from(this.#buckets, (count, index) => {
      total += count;
      return { metricName: `${name}_bucket`, labels: { le: this.#boundsSeconds[index] ?? "+Inf" }, value: total };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels: {}, value: this.#sumUs / 1e6 },
      { metricName: `${name}_count`, labels: {}, value: total },
    ];
  }
}
