/**
 * A store over another that fails at random, in every way a store may: refuses, is slow, is overloaded, cuts bodies short,
 * answers wrong bytes, does what was asked and loses the answer. Seeded: the same seed and calls give the same faults.
 *
 * @module
 */
import { CorruptionError, UnavailableError } from "../../src/errors.ts";
import type {
  CallOptions,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StreamOptions,
} from "../../src/ports/object_store.ts";
import type { SeededRandom } from "./random.ts";

/** What may happen to a call. */
export type StoreFault = "refused" | "overloaded" | "delayed" | "cut" | "wrong bytes" | "lost answer";

export const STORE_FAULTS: readonly StoreFault[] = [
  "refused",
  "overloaded",
  "delayed",
  "cut",
  "wrong bytes",
  "lost answer",
];

/** See the module's description. */
export class FaultyStore implements ObjectStore {
  readonly description: string;
  readonly below: ObjectStore;
  /** Probability of a fault per call; 0: none. */
  rate: number;
  /** How often each was. */
  readonly faults: Record<StoreFault, number> = {
    refused: 0,
    overloaded: 0,
    delayed: 0,
    cut: 0,
    "wrong bytes": 0,
    "lost answer": 0,
  };
  readonly #random: SeededRandom;

  constructor(below: ObjectStore, random: SeededRandom, rate = 0) {
    this.description = `faulty ${below.description}`;
    this.below = below;
    this.rate = rate;
    this.#random = random;
  }

  /** Faults so far. */
  get total(): number {
    return Object.values(this.faults).reduce((sum, count) => sum + count, 0);
  }

  #draw(possible: readonly StoreFault[]): StoreFault | undefined {
    if (!this.#random.chance(this.rate)) return undefined;
    const fault = this.#random.pick([...possible]);
    this.faults[fault]++;
    return fault;
  }

  /** Faults that come before the call has any effect. */
  async #before(fault: StoreFault | undefined): Promise<void> {
    if (fault === "refused") throw new UnavailableError("Cannot reach the store: connection refused");
    if (fault === "overloaded") {
      throw new UnavailableError(`Cannot reach the store: status ${this.#random.pick([429, 503])}`);
    }
    if (fault === "delayed") {
      for (let turns = this.#random.int(1, 50); turns > 0; turns--) await Promise.resolve();
    }
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: string }> {
    const fault = this.#draw(["refused", "overloaded", "delayed", "lost answer"]);
    await this.#before(fault);
    const result = await this.below.put(key, body, options);
    if (fault === "lost answer") throw new UnavailableError("Cannot write: the connection was lost");
    return result;
  }

  async get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    // Objects read whole have no checksum of their own: damage on the way is TLS's to find.
    const fault = this.#draw(["refused", "overloaded", "delayed", "cut"]);
    await this.#before(fault);
    const content = await this.below.get(key, options);
    if (fault === "cut") throw new UnavailableError("Cannot read: the connection was lost");
    return content;
  }

  async getRange(
    key: string,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): Promise<Uint8Array> {
    const fault = this.#draw(["refused", "overloaded", "delayed", "cut", "wrong bytes"]);
    await this.#before(fault);
    const bytes = await this.below.getRange(key, offset, length, options);
    if (fault === "cut") throw this.#cut(key);
    return fault === "wrong bytes" ? this.#damaged(bytes) : bytes;
  }

  async getStream(
    key: string,
    options: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    const fault = this.#draw(["refused", "overloaded", "delayed", "cut", "wrong bytes"]);
    await this.#before(fault);
    const { size, body } = await this.below.getStream(key, options);
    if (fault !== "cut" && fault !== "wrong bytes") return { size, body };
    const at = this.#random.int(0, Math.max(0, size - 1));
    let seen = 0;
    return {
      size,
      body: body.pipeThrough(
        new TransformStream<Uint8Array, Uint8Array>({
          transform: (chunk, controller) => {
            const start = seen;
            seen += chunk.length;
            if (at < start || at >= seen) return controller.enqueue(chunk);
            if (fault === "cut") return controller.error(this.#cut(key));
            const damaged = chunk.slice();
            damaged[at - start] ^= 1 << this.#random.int(0, 7);
            controller.enqueue(damaged);
          },
        }),
      ),
    };
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    await this.#before(this.#draw(["refused", "overloaded", "delayed"]));
    return await this.below.head(key, options);
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    await this.#before(this.#draw(["refused", "overloaded", "delayed"]));
    yield* this.below.list(prefix, options);
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    const fault = this.#draw(["refused", "overloaded", "delayed", "lost answer"]);
    await this.#before(fault);
    await this.below.delete(key, options);
    if (fault === "lost answer") throw new UnavailableError("Cannot delete: the connection was lost");
  }

  async close(): Promise<void> {}

  #cut(key: string): Error {
    return this.#random.chance(0.5)
      ? new UnavailableError("Cannot read: the connection was lost")
      : new CorruptionError("Cannot read: the body ended early", { object: key });
  }

  #damaged(bytes: Uint8Array): Uint8Array {
    const damaged = bytes.slice();
    if (damaged.length > 0) damaged[this.#random.int(0, damaged.length - 1)] ^= 1 << this.#random.int(0, 7);
    return damaged;
  }
}
