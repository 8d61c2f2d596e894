/**
 * How long the source could not be reached, for `--give-up-after`. The engine itself tries for ever.
 *
 * @module
 */
import { UnavailableError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { VarveEvent } from "../ports/events.ts";
import { formatDuration } from "./values.ts";

/** A connection that lasts so long was one; before, the server may still refuse what we ask for. */
const LASTING_MS = 2000;

/** Watches the attempts; the hooks may be handed on as they are. */
export class Outage {
  readonly #clock: Clock;
  readonly #limitMs: number;
  #sinceMs: number | undefined;
  #connectedMs = 0;
  #failure: unknown;
  #giveUp: (() => void) | undefined;

  constructor(clock: Clock, limitMs: number | undefined) {
    this.#clock = clock;
    this.#limitMs = limitMs ?? Infinity;
  }

  /** Why we gave up; undefined while we did not. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Calls `giveUp` when the time is over, at once if it already is. */
  onGiveUp(giveUp: () => void): void {
    this.#giveUp = giveUp;
    if (this.#failure !== undefined) giveUp();
  }

  readonly onConnections = (change: 1 | -1): void => {
    const now = this.#clock.monotonicMs();
    if (change === 1) this.#connectedMs = now;
    else if (now - this.#connectedMs >= LASTING_MS) this.#sinceMs = undefined;
  };

  readonly onEvent = ({ topic, error, fields }: VarveEvent): void => {
    if (topic !== "source.retry" || this.#failure !== undefined) return;
    const now = this.#clock.monotonicMs();
    this.#sinceMs ??= now;
    const waitMs = Number(fields?.waitMs ?? 0);
    if (now + waitMs - this.#sinceMs < this.#limitMs) return;
    this.#failure = error ?? new UnavailableError(
      `Cannot follow the source: it could not be reached for ${formatDuration(now - this.#sinceMs)}`,
    );
    this.#giveUp?.();
  };
}
