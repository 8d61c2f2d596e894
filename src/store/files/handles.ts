/**
 * Open files of recently read objects, so that a range read is one pread and nothing else.
 *
 * An entry is used while a read holds it and closed when it falls out of the cache and nobody does. What this process
 * writes or deletes drops its entry at once. What another process replaces is noticed within {@linkcode CHECK_EVERY_MS}:
 * by then the entry is compared with what the key means now.
 *
 * @module
 */
import type { FileHandle } from "../../deps/node_fs.ts";
import { SingleFlight } from "../../flow/single_flight.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Etag } from "../../ports/object_store.ts";

/** How long an entry is believed without looking. */
export const CHECK_EVERY_MS = 100;

/** An object opened for reading. */
export interface OpenObject {
  readonly handle: FileHandle;
  readonly size: number;
  readonly etag: Etag;
}

/** An open object in the cache. `release` it when the read is over. */
export interface HeldObject extends OpenObject {
  readonly release: () => void;
}

class Entry implements HeldObject {
  readonly handle: FileHandle;
  readonly size: number;
  readonly etag: Etag;
  checkedMs: number;
  holders = 0;
  dropped = false;
  readonly release = () => {
    if (--this.holders === 0 && this.dropped) this.#close();
  };

  constructor(object: OpenObject, checkedMs: number) {
    this.handle = object.handle;
    this.size = object.size;
    this.etag = object.etag;
    this.checkedMs = checkedMs;
  }

  drop(): void {
    if (this.dropped) return;
    this.dropped = true;
    if (this.holders === 0) this.#close();
  }

  #close(): void {
    // Reading is over, so an error at closing would tell nobody anything.
    this.handle.close().catch(() => {});
  }
}

/** How the cache asks the store. */
export interface HandleSource {
  open(key: string): Promise<OpenObject>;
  /** The etag that `key` has now, or undefined when it is gone. */
  currentEtag(key: string): Promise<Etag | undefined>;
}

/** A bounded cache of open objects. */
export class HandleCache {
  readonly #source: HandleSource;
  readonly #clock: Clock;
  readonly #capacity: number;
  readonly #entries = new Map<string, Entry>(); // in order of use, the longest unused first
  readonly #opening = new SingleFlight<string, Entry>({ detached: true });
  /** Keys dropped while they were being opened: what comes of that may be out of date. */
  readonly #overtaken = new Set<string>();
  #closed = false;

  constructor(source: HandleSource, clock: Clock, capacity: number) {
    this.#source = source;
    this.#clock = clock;
    this.#capacity = capacity;
  }

  /** The entry if it can be used at once, without a promise: the hot path. */
  tryHold(key: string): HeldObject | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || this.#clock.monotonicMs() - entry.checkedMs > CHECK_EVERY_MS) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.holders++;
    return entry;
  }

  /** The entry, checked or opened first where necessary. Rejects as the source does. */
  async hold(key: string): Promise<HeldObject> {
    const held = this.tryHold(key);
    if (held !== undefined) return held;
    let entry = await this.#opening.run(key, () => this.#refresh(key));
    if (entry.dropped) { // overwritten or pushed out meanwhile: one of our own, which the release closes
      entry = new Entry(await this.#source.open(key), 0);
      entry.dropped = true;
    }
    entry.holders++;
    return entry;
  }

  async #refresh(key: string): Promise<Entry> {
    const startedMs = this.#clock.monotonicMs();
    try {
      const known = this.#entries.get(key);
      if (known !== undefined) {
        const etag = await this.#source.currentEtag(key);
        if (etag === known.etag) {
          known.checkedMs = startedMs;
          return known;
        }
        this.#discard(key);
      }
      const entry = new Entry(await this.#source.open(key), startedMs);
      if (this.#closed || this.#overtaken.has(key)) entry.drop();
      else this.#keep(key, entry);
      return entry;
    } finally {
      this.#overtaken.delete(key);
    }
  }

  #keep(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    if (this.#entries.size <= this.#capacity) return;
    for (const oldest of this.#entries.keys()) return this.#discard(oldest);
  }

  /** Forgets a key: it was written or deleted. */
  drop(key: string): void {
    if (this.#opening.has(key)) this.#overtaken.add(key);
    this.#discard(key);
  }

  #discard(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    entry.drop();
  }

  /** Closes everything; reads under way finish first. */
  close(): void {
    this.#closed = true;
    for (const key of [...this.#entries.keys()]) this.#discard(key);
  }
}
