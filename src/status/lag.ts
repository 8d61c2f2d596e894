/**
 * How far a timeline is behind its server, in seconds.
 *
 * WAL bytes carry no time of their own. So we note when the server first told of each position of its WAL; the lag is the
 * age of the oldest such position that has not been taken in yet. Memory is bounded: positions told within a tenth of a
 * second count as one, and when there are many, neighbours are joined.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";

const JOIN_MS = 100;
const SAMPLES_MAX = 512;

/** The server had WAL up to `walEnd` at `timeMs` (the earliest that anything up to there was told of). */
interface Sample {
  readonly timeMs: number;
  walEnd: Lsn;
}

/** See the module's description. */
export class LagMeter {
  /** Oldest first, both fields rising. */
  #samples: Sample[] = [];

  /** The server said at `nowMs` that its WAL reaches to `walEnd`; `processed` is how far we are. */
  observe(nowMs: number, walEnd: Lsn, processed: Lsn): void {
    this.#forget(processed);
    if (walEnd <= processed) return;
    const last = this.#samples.at(-1);
    if (last === undefined) {
      this.#samples.push({ timeMs: nowMs, walEnd });
    } else if (walEnd > last.walEnd) {
      if (nowMs - last.timeMs < JOIN_MS) last.walEnd = walEnd;
      else this.#samples.push({ timeMs: nowMs, walEnd });
    }
    if (this.#samples.length > SAMPLES_MAX) this.#joinNeighbours();
  }

  /** Seconds since the server first told of something that is not processed yet; 0 if there is nothing such. */
  seconds(nowMs: number, processed: Lsn): number {
    this.#forget(processed);
    return this.#samples.length === 0 ? 0 : Math.max(0, (nowMs - this.#samples[0].timeMs) / 1000);
  }

  #forget(processed: Lsn): void {
    let done = 0;
    while (done < this.#samples.length && this.#samples[done].walEnd <= processed) done++;
    if (done > 0) this.#samples.splice(0, done);
  }

  #joinNeighbours(): void {
    const joined: Sample[] = [];
    for (let i = 0; i < this.#samples.length; i += 2) {
      const { timeMs, walEnd } = this.#samples[i];
      joined.push({ timeMs, walEnd: this.#samples[i + 1]?.walEnd ?? walEnd });
    }
    this.#samples = joined;
  }
}
