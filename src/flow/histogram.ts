/**
 * Counts of values by size, cheap enough to be kept always: what a metrics endpoint shows as a histogram.
 *
 * @module
 */

/** Counts how many observed values were at most each bound. */
export class Histogram {
  /** Upper bounds, ascending; beyond the last there is one more bucket. */
  readonly bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;
  #count = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** Values observed. */
  get count(): number {
    return this.#count;
  }
  /** Their sum. */
  get sum(): number {
    return this.#sum;
  }

  observe(value: number): void {
    const { bounds } = this;
    let bucket = 0;
    while (bucket < bounds.length && value > bounds[bucket]) bucket++;
    this.#counts[bucket]++;
    this.#sum += value;
    this.#count++;
  }

  /** For each bound, how many values were at most that. */
  cumulative(): number[] {
    let sum = 0;
    return this.bounds.map((_, bucket) => sum += this.#counts[bucket]);
  }
}
