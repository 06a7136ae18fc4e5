/** Chunks that wait for a moment, earliest first; of one moment the lowest chunk first. A binary heap. PURE. */
export class Pauses {
  readonly #atUs: number[] = [];
  readonly #chunks: number[] = [];

  get nextUs(): number {
    return this.#atUs[0] ?? Number.POSITIVE_INFINITY;
  }
  /** The chunk that nextUs is of; -1 if there is none. */
  get first(): number {
    return this.#chunks[0] ?? -1;
  }

  add(chunk: number, atUs: number): void {
    let at = this.#chunks.length;
    this.#atUs.push(atUs);
    this.#chunks.push(chunk);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.#before(at, parent)) break;
      this.#swap(at, parent);
      at = parent;
    }
  }

  removeFirst(): void {
    const last = this.#chunks.length - 1;
    if (last < 0) return;
    this.#swap(0, last);
    this.#atUs.pop();
    this.#chunks.pop();
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      let least = left < last && this.#before(left, at) ? left : at;
      if (left + 1 < last && this.#before(left + 1, least)) least = left + 1;
      if (least === at) return;
      this.#swap(at, least);
      at = least;
    }
  }

  clear(): void {
    this.#atUs.length = 0;
    this.#chunks.length = 0;
  }

  #before(one: number, other: number): boolean {
    const sooner = this.#atUs[one]! - this.#atUs[other]!;
    return sooner < 0 || (sooner === 0 && this.#chunks[one]! < this.#chunks[other]!);
  }

  #swap(one: number, other: number): void {
    const [atUs, chunk] = [this.#atUs[one]!, this.#chunks[one]!];
    this.#atUs[one] = this.#atUs[other]!;
    this.#chunks[one] = this.#chunks[other]!;
    this.#atUs[other] = atUs;
    this.#chunks[other] = chunk;
  }
}
