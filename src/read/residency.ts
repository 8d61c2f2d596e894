/**
 * Which layers deserve a local copy: how often each is read, which goes when there is no room.
 *
 * Read path, inside fetch; pure bookkeeping, no I/O. Three rules:
 * - a layer becomes worth a download when a share of its bytes was read by range;
 * - room is made least recently used first, and only of layers that are read less than half as often as the one that
 *   wants to come in: a working set that is larger than the budget keeps what it has and reads the rest by range, instead
 *   of pushing everything out in turn;
 * - the most recently used copies, up to a minimum in bytes, do not go at all to make room.
 *
 * Frequencies are halved from time to time, so that what was popular once does not stay for ever.
 *
 * @module
 */
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";

/** How much may be local, and when a layer comes to be. */
export interface ResidencyOptions {
  /** Bytes of local copies to keep at most. Default: no limit. */
  localBytes?: number;
  /** Bytes of the most recently used copies that no other layer may displace. Default: a quarter of `localBytes`. */
  protectedBytes?: number;
  /**
   * Share of a layer's bytes that must have been read by range until it is downloaded whole, in the background. 0: at the
   * first read, which waits for it. Infinity: only on request. Default 0.25.
   */
  hotShare?: number;
}

export const DEFAULT_HOT_SHARE = 0.25;
/** All frequencies are halved after so many uses. */
const USES_PER_AGE = 4096;
/** How many times as often a layer must be read to displace another. */
const ADVANTAGE = 2;

/** What is known of the use of one layer. */
interface Use {
  frequency: number;
  /** Bytes read by range since the last decision. */
  rangeBytes: number;
  lastUsedMs: number | undefined;
}

/** See the module's description. */
export class Residency {
  readonly localBytes: number;
  readonly protectedBytes: number;
  readonly hotShare: number;
  readonly #uses = new Map<string, Use>();
  /** Sizes of local copies; least recently used first, as a Map iterates in order of insertion. */
  readonly #resident = new Map<string, number>();
  /** Bytes that downloads under way will add. */
  readonly #reserved = new Map<string, number>();
  #residentBytes = 0;
  #reservedBytes = 0;
  #usesLeft = USES_PER_AGE;

  constructor(options: ResidencyOptions = {}) {
    const { localBytes = Infinity, hotShare = DEFAULT_HOT_SHARE } = options;
    if (!(localBytes >= 0) || !(hotShare >= 0)) {
      throw new RangeError(
        `Cannot keep local copies: localBytes and hotShare must not be negative, got ${localBytes} and ${hotShare}`,
      );
    }
    this.localBytes = localBytes;
    this.protectedBytes = Math.min(options.protectedBytes ?? localBytes / 4, localBytes);
    this.hotShare = hotShare;
  }

  get residentBytes(): number {
    return this.#residentBytes;
  }
  get residentCount(): number {
    return this.#resident.size;
  }
  has(name: string): boolean {
    return this.#resident.has(name);
  }
  names(): string[] {
    return [...this.#resident.keys()];
  }

  /** When a layer was read last, milliseconds since the epoch; undefined if it was not. */
  lastUsedMs(name: string): number | undefined {
    return this.#uses.get(name)?.lastUsedMs;
  }

  /** Notes that a layer is read. */
  use(name: string, nowMs: number | undefined): void {
    const use = this.#useOf(name);
    use.frequency++;
    use.lastUsedMs = nowMs;
    const size = this.#resident.get(name);
    if (size !== undefined) {
      this.#resident.delete(name);
      this.#resident.set(name, size);
    }
    if (--this.#usesLeft > 0) return;
    this.#usesLeft = USES_PER_AGE;
    for (const each of this.#uses.values()) each.frequency /= 2;
  }

  /** Notes bytes read by range; returns whether the layer has become worth a download. Then the share is counted anew. */
  countRange(layer: LayerDescriptor, bytes: number): boolean {
    const use = this.#useOf(layer.name);
    use.rangeBytes += bytes;
    if (use.rangeBytes < this.hotShare * layer.size) return false;
    use.rangeBytes = 0;
    return true;
  }

  /** A copy is there. */
  add(name: string, size: number): void {
    this.remove(name);
    this.release(name);
    this.#resident.set(name, size);
    this.#residentBytes += size;
  }

  /** A copy is gone. */
  remove(name: string): void {
    const size = this.#resident.get(name);
    if (size === undefined) return;
    this.#resident.delete(name);
    this.#residentBytes -= size;
  }

  /** Forgets a layer that the timeline does not have any more. */
  forget(name: string): void {
    this.remove(name);
    this.#uses.delete(name);
  }

  /** Keeps room for a download under way. */
  reserve(name: string, size: number): void {
    this.release(name);
    this.#reserved.set(name, size);
    this.#reservedBytes += size;
  }

  release(name: string): void {
    this.#reservedBytes -= this.#reserved.get(name) ?? 0;
    this.#reserved.delete(name);
  }

  /**
   * The copies to remove so that a layer fits; undefined if it cannot, or should not, come in.
   *
   * @param mayGo Whether a copy may be removed at all: durable in the store, under no reader.
   * @param insist It was asked for by name: how often others are read does not count.
   */
  roomFor(layer: LayerDescriptor, mayGo: (name: string) => boolean, insist: boolean): string[] | undefined {
    let excess = this.#residentBytes + this.#reservedBytes + layer.size - this.localBytes;
    if (excess <= 0) return [];
    if (layer.size > this.localBytes) return undefined;
    const limit = insist ? Infinity : this.#useOf(layer.name).frequency / ADVANTAGE;
    const victims: string[] = [];
    for (const [name, size] of this.#displaceable(insist)) {
      if (excess <= 0) break;
      if (!mayGo(name) || (this.#uses.get(name)?.frequency ?? 0) > limit) continue;
      victims.push(name);
      excess -= size;
    }
    return excess <= 0 ? victims : undefined;
  }

  /** The copies to remove, least recently used first, until no more than the budget is local. */
  overBudget(mayGo: (name: string) => boolean): string[] {
    let excess = this.#residentBytes + this.#reservedBytes - this.localBytes;
    const victims: string[] = [];
    for (const [name, size] of this.#resident) {
      if (excess <= 0) break;
      if (!mayGo(name)) continue;
      victims.push(name);
      excess -= size;
    }
    return victims;
  }

  /** Copies by their last use, oldest first, without the protected ones. */
  #displaceable(insist: boolean): [name: string, size: number][] {
    let unprotected = insist ? Infinity : this.#residentBytes - this.protectedBytes;
    const found: [string, number][] = [];
    for (const entry of this.#resident) {
      if (unprotected < entry[1]) break;
      unprotected -= entry[1];
      found.push(entry);
    }
    return found;
  }

  #useOf(name: string): Use {
    let use = this.#uses.get(name);
    if (use === undefined) {
      use = { frequency: 0, rangeBytes: 0, lastUsedMs: undefined };
      this.#uses.set(name, use);
    }
    return use;
  }
}
