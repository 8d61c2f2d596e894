/**
 * One flight per key, however many ask: the first asker starts the work, later ones share its result or its error.
 *
 * On the read path it keeps a burst of readers from downloading the same block or layer more than once. It promises:
 * - at most one flight of a key is under way, unless every asker of the former one gave up;
 * - an asker that aborts leaves the others' flight alone and rejects at once with its own reason;
 * - a flight whose every asker gave up is aborted (or, when detached, runs to its end for the next asker to join);
 * - nothing is remembered: once a flight has landed, the next asker starts anew, after errors too.
 *
 * @module
 */
import { abortReason } from "./abort.ts";

/** How a {@linkcode SingleFlight} treats work that nobody waits for. */
export interface SingleFlightOptions {
  /** Let a flight run on when all of its askers have given up. Default false. */
  detached?: boolean;
}

interface Flight<V> {
  readonly landed: Promise<V>;
  readonly controller: AbortController;
  waiters: number;
}

/** Joins concurrent calls with equal keys into one. */
export class SingleFlight<K, V> {
  readonly #flights = new Map<K, Flight<V>>();
  readonly #detached: boolean;

  constructor(options: SingleFlightOptions = {}) {
    this.#detached = options.detached ?? false;
  }

  /** Flights under way. */
  get size(): number {
    return this.#flights.size;
  }

  /** Whether a flight for `key` is under way. */
  has(key: K): boolean {
    return this.#flights.has(key);
  }

  /**
   * The result of the flight for `key`; `start` is called only when there is none. `start` gets the flight's own
   * signal, not the asker's. Rejects with the flight's error, or with the reason of `signal` when that fires first.
   */
  run(key: K, start: (signal: AbortSignal) => Promise<V>, signal?: AbortSignal): Promise<V> {
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    const flight = this.#flights.get(key) ?? this.#launch(key, start);
    return this.#wait(key, flight, signal);
  }

  #launch(key: K, start: (signal: AbortSignal) => Promise<V>): Flight<V> {
    const controller = new AbortController();
    // Called in a microtask, so that a throw and a reentrant ask for the same key both find the flight registered.
    const landed = Promise.resolve().then(() => start(controller.signal));
    const flight: Flight<V> = { landed, controller, waiters: 0 };
    this.#flights.set(key, flight);
    const leave = () => this.#forget(key, flight);
    landed.then(leave, leave); // also marks the rejection as handled when all askers have gone
    return flight;
  }

  #wait(key: K, flight: Flight<V>, signal: AbortSignal | undefined): Promise<V> {
    flight.waiters++;
    if (signal === undefined) return flight.landed; // cannot give up, so it keeps the flight alive for good
    return new Promise<V>((resolve, reject) => {
      const onAbort = () => {
        reject(abortReason(signal));
        this.#giveUp(key, flight, signal);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      flight.landed.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
    });
  }

  #giveUp(key: K, flight: Flight<V>, signal: AbortSignal): void {
    flight.waiters--;
    if (flight.waiters > 0 || this.#detached) return;
    // Out of the map before it is aborted: who asks from now on must not board a flight that is going down.
    this.#forget(key, flight);
    flight.controller.abort(abortReason(signal));
  }

  #forget(key: K, flight: Flight<V>): void {
    if (this.#flights.get(key) === flight) this.#flights.delete(key);
  }
}
