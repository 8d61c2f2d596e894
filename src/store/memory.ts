/**
 * A store in memory: for tests, simulations and short-lived workers. The reference implementation of
 * `ports/object_store.ts`, because nothing in it can get in the way of the promises.
 *
 * @module
 */
import { CorruptionError, NotFoundError, PreconditionFailedError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type {
  CallOptions,
  Etag,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutCondition,
  PutOptions,
  StreamOptions,
} from "../ports/object_store.ts";
import { readBody } from "./body.ts";
import { checkKey, checkPrefix, checkRange } from "./keys.ts";

interface StoredObject {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly etag: Etag;
  readonly modifiedMs: number;
}

/** Options of a {@linkcode MemoryStore}. */
export interface MemoryStoreOptions {
  /** Tells `modifiedMs`. Without one it counts writes. */
  clock?: Clock;
}

/** Keeps objects in a Map. */
export class MemoryStore implements ObjectStore {
  readonly description = "memory:";
  readonly #objects = new Map<string, StoredObject>();
  readonly #clock: Clock | undefined;
  #writes = 0;

  constructor(options: MemoryStoreOptions = {}) {
    this.#clock = options.clock;
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: Etag }> {
    checkKey(key);
    options.signal?.throwIfAborted();
    const bytes = await readBody(body, options.signal);
    options.signal?.throwIfAborted();
    // No await from here on: the check and the write are one step.
    if (options.condition !== undefined) this.#check(key, options.condition);
    const etag = `m${++this.#writes}`;
    this.#objects.set(key, { bytes, etag, modifiedMs: this.#clock?.now() ?? this.#writes });
    return { etag };
  }

  #check(key: string, condition: PutCondition): void {
    const current = this.#objects.get(key)?.etag;
    const wanted = "ifMatch" in condition ? condition.ifMatch : undefined;
    if (current === wanted) return;
    throw new PreconditionFailedError(
      `Cannot write object "${key}" in ${this.description}: expected ${wanted ?? "none"}, got ${
        current ?? "none"
      }`,
    );
  }

  // deno-lint-ignore require-await -- errors must come as rejections
  async get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    const { bytes, etag } = this.#find(key, options);
    return { bytes: bytes.slice(), etag };
  }

  // deno-lint-ignore require-await -- errors must come as rejections
  async getRange(
    key: string,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): Promise<Uint8Array> {
    checkRange(offset, length);
    return rangeOf(key, this.#find(key, options).bytes, offset, length).slice();
  }

  // deno-lint-ignore require-await -- errors must come as rejections
  async getStream(
    key: string,
    options: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    const { bytes: all } = this.#find(key, options);
    const { signal, range } = options;
    const bytes = range === undefined ? all : rangeOf(key, all, range.offset, range.length);
    let at = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (signal?.aborted) return controller.error(signal.reason);
        if (at >= bytes.length) return controller.close();
        controller.enqueue(bytes.slice(at, at += 1 << 18));
      },
    }, { highWaterMark: 0 });
    return { size: bytes.length, body };
  }

  // deno-lint-ignore require-await -- errors must come as rejections
  async head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    const { bytes, etag, modifiedMs } = this.#find(key, options);
    return { key, size: bytes.length, etag, modifiedMs };
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    checkPrefix(prefix);
    const keys = [...this.#objects.keys()].filter((key) => key.startsWith(prefix)).sort();
    for (const key of keys) {
      options.signal?.throwIfAborted();
      const found = this.#objects.get(key); // may have been deleted while the caller was busy
      if (found !== undefined) {
        yield { key, size: found.bytes.length, etag: found.etag, modifiedMs: found.modifiedMs };
      }
    }
  }

  // deno-lint-ignore require-await -- errors must come as rejections
  async delete(key: string, options: CallOptions = {}): Promise<void> {
    checkKey(key);
    options.signal?.throwIfAborted();
    this.#objects.delete(key);
  }

  async close(): Promise<void> {}

  #find(key: string, options: CallOptions): StoredObject {
    options.signal?.throwIfAborted();
    const found = this.#objects.get(key);
    if (found === undefined) {
      checkKey(key); // one that is found has passed it before
      throw new NotFoundError(`Cannot read object "${key}" in ${this.description}: no such object`);
    }
    return found;
  }
}

/** A view of a range. */
function rangeOf(key: string, bytes: Uint8Array, offset: number, length: number): Uint8Array {
  checkRange(offset, length);
  if (offset + length <= bytes.length) return bytes.subarray(offset, offset + length);
  throw new CorruptionError(`Cannot read ${length} bytes: they reach beyond the object's end`, {
    object: key,
    offset,
    expected: `${offset + length} bytes`,
    got: `${bytes.length} bytes`,
  });
}
