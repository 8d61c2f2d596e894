/**
 * An object store whose requests arrive, are answered, get lost or come late as the scheduler draws it.
 *
 * {@linkcode Bucket} is what is stored; {@linkcode SimulatedStore} is one process's way to it. Each request does one of:
 * happen and be answered, be answered later than others that came after it, fail without having happened, happen without
 * an answer, fail now and happen later all the same (its client's time limit was shorter than the network's).
 *
 * @module
 */
import {
  CorruptionError,
  NotFoundError,
  PreconditionFailedError,
  UnavailableError,
  type VarveError,
} from "../../src/errors.ts";
import type {
  CallOptions,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StreamOptions,
} from "../../src/ports/object_store.ts";
import { readBody } from "../../src/store/body.ts";
import type { Scheduler, SimulatedProcess } from "./scheduler.ts";

interface StoredObject {
  readonly bytes: Uint8Array;
  readonly etag: string;
  readonly modifiedMs: number;
}

/** Told of every change when it has happened. */
export type BucketWatcher = (
  key: string,
  now: Uint8Array | undefined,
  before: Uint8Array | undefined,
) => void;

/** What is stored. */
export class Bucket {
  readonly objects = new Map<string, StoredObject>();
  readonly #scheduler: Scheduler;
  readonly #watch: BucketWatcher;
  #writes = 0;

  constructor(scheduler: Scheduler, watch: BucketWatcher) {
    this.#scheduler = scheduler;
    this.#watch = watch;
  }

  put(key: string, bytes: Uint8Array, condition?: PutOptions["condition"]): { etag: string } {
    const before = this.objects.get(key);
    if (condition !== undefined) {
      const wanted = "ifMatch" in condition ? condition.ifMatch : undefined;
      if (before?.etag !== wanted) {
        throw new PreconditionFailedError(`Cannot write "${key}": expected ${wanted}, got ${before?.etag}`);
      }
    }
    const etag = `e${++this.#writes}`;
    this.objects.set(key, { bytes, etag, modifiedMs: this.#scheduler.nowMs });
    this.#watch(key, bytes, before?.bytes);
    return { etag };
  }

  get(key: string): StoredObject {
    const found = this.objects.get(key);
    if (found === undefined) throw new NotFoundError(`Cannot read "${key}": no such object`);
    return found;
  }

  list(prefix: string): ObjectInfo[] {
    const infos: ObjectInfo[] = [];
    for (const [key, { bytes, etag, modifiedMs }] of this.objects) {
      if (key.startsWith(prefix)) infos.push({ key, size: bytes.length, etag, modifiedMs });
    }
    return infos.sort((left, right) => left.key < right.key ? -1 : 1);
  }

  delete(key: string): void {
    const before = this.objects.get(key);
    if (before === undefined) return;
    this.objects.delete(key);
    this.#watch(key, undefined, before.bytes);
  }
}

/** How often, of 1, a request does not simply happen and is answered. */
export interface StoreFaults {
  fails: number;
  losesAnswer: number;
  happensLate: number;
  answersLate: number;
}

export const NO_FAULTS: StoreFaults = { fails: 0, losesAnswer: 0, happensLate: 0, answersLate: 0 };

/** See the module's description. */
export class SimulatedStore implements ObjectStore {
  readonly description = "simulated:";
  readonly bucket: Bucket;
  readonly #process: SimulatedProcess;
  /** May be changed at any time. */
  readonly #faults: () => StoreFaults;
  readonly #onFailure: () => void;

  /** @param onFailure Told of each request that is answered with a failure. */
  constructor(bucket: Bucket, process: SimulatedProcess, faults: () => StoreFaults, onFailure: () => void) {
    this.#onFailure = onFailure;
    this.bucket = bucket;
    this.#process = process;
    this.#faults = faults;
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: string }> {
    const { condition, signal } = options;
    const bytes = (await readBody(body, signal)).slice();
    return await this.#request("put", key, true, () => this.bucket.put(key, bytes, condition), signal);
  }

  get(key: string, { signal }: CallOptions = {}): Promise<ObjectContent> {
    return this.#request("get", key, false, () => {
      const { bytes, etag } = this.bucket.get(key);
      return { bytes: bytes.slice(), etag };
    }, signal);
  }

  getRange(key: string, offset: number, length: number, { signal }: CallOptions = {}): Promise<Uint8Array> {
    return this.#request("getRange", key, false, () => {
      const { bytes } = this.bucket.get(key);
      if (offset + length > bytes.length) {
        throw new CorruptionError("Cannot read a range beyond the object's end", { object: key });
      }
      return bytes.slice(offset, offset + length);
    }, signal);
  }

  async getStream(
    key: string,
    { signal, range }: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    const bytes = await this.#request("getStream", key, false, () => {
      const { bytes } = this.bucket.get(key);
      if (range === undefined) return bytes;
      if (range.offset + range.length > bytes.length) {
        throw new CorruptionError("Cannot read a range beyond the object's end", { object: key });
      }
      return bytes.subarray(range.offset, range.offset + range.length);
    }, signal);
    // It may break off in the middle.
    const whole = !this.#process.random.chance(this.#faults().fails);
    const parts = [bytes.slice(0, bytes.length >> 1), bytes.slice(bytes.length >> 1)];
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        const part = parts.shift();
        if (part === undefined) return controller.close();
        if (parts.length === 0 && !whole) return controller.error(new UnavailableError("Broken off"));
        controller.enqueue(part);
      },
    }, { highWaterMark: 0 });
    return { size: bytes.length, body };
  }

  head(key: string, { signal }: CallOptions = {}): Promise<ObjectInfo> {
    return this.#request("head", key, false, () => {
      const { bytes, etag, modifiedMs } = this.bucket.get(key);
      return { key, size: bytes.length, etag, modifiedMs };
    }, signal);
  }

  async *list(prefix: string, { signal }: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    yield* await this.#request("list", prefix, false, () => this.bucket.list(prefix), signal);
  }

  delete(key: string, { signal }: CallOptions = {}): Promise<void> {
    return this.#request("delete", key, true, () => this.bucket.delete(key), signal);
  }

  async close(): Promise<void> {}

  #request<T>(
    method: string,
    key: string,
    changes: boolean,
    happen: () => T,
    signal?: AbortSignal,
  ): Promise<T> {
    const process = this.#process;
    const { scheduler, random } = process;
    return new Promise<T>((resolve, reject) => {
      if (!process.isAlive) return;
      if (signal?.aborted) return reject(signal.reason);
      // Who gives up hears no answer; the request is on its way all the same.
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      const answer = (how: () => T) => {
        if (!process.isAlive) return;
        try {
          resolve(how());
        } catch (error) {
          reject(error);
        }
      };
      const quietly = () => {
        try {
          happen();
        } catch {
          // Nobody hears of it.
        }
      };
      const fail = (why: string) => {
        this.#onFailure();
        scheduler.log(process, `${method} ${why}`);
        if (process.isAlive) reject(new UnavailableError(`Cannot ${method} "${key}": ${why}`));
      };
      scheduler.add(process, method, key, () => {
        if (!process.isAlive) {
          // Sent by one that has died since: it may arrive, or not.
          if (changes && random.chance(0.5)) quietly();
          return;
        }
        const { fails, losesAnswer, happensLate, answersLate } = this.#faults();
        let drawn = random.float();
        if (process.isCutOff || (drawn -= fails) < 0) return fail("no answer, it did not happen");
        if ((drawn -= losesAnswer) < 0) {
          quietly();
          return fail("no answer, it happened");
        }
        if (changes && (drawn -= happensLate) < 0) {
          scheduler.add(process, `late ${method}`, key, quietly);
          return fail("no answer, it will happen");
        }
        const outcome = outcomeOf(happen);
        if ((drawn -= answersLate) < 0) {
          scheduler.add(process, `answer of ${method}`, key, () => answer(outcome));
        } else answer(outcome);
      });
    });
  }
}

/** Makes it happen now and tells of it later. */
function outcomeOf<T>(happen: () => T): () => T {
  try {
    const result = happen();
    return () => result;
  } catch (error) {
    return () => {
      throw error as VarveError;
    };
  }
}

/** A way to the bucket for who watches the simulation from outside: every request happens at once. */
export class DirectStore implements ObjectStore {
  readonly description = "direct:";
  readonly #bucket: Bucket;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  put(): Promise<never> {
    return Promise.reject(new TypeError("The watcher changes nothing"));
  }
  // deno-lint-ignore require-await -- errors must come as rejections
  async get(key: string): Promise<ObjectContent> {
    const { bytes, etag } = this.#bucket.get(key);
    return { bytes, etag };
  }
  // deno-lint-ignore require-await -- errors must come as rejections
  async getRange(key: string, offset: number, length: number): Promise<Uint8Array> {
    const { bytes } = this.#bucket.get(key);
    if (offset + length > bytes.length) throw new CorruptionError("Beyond the end", { object: key });
    return bytes.subarray(offset, offset + length);
  }
  async getStream(
    key: string,
    { range }: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    const { offset, length } = range ?? { offset: 0, length: this.#bucket.get(key).bytes.length };
    const bytes = await this.getRange(key, offset, length);
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        if (length > 0) controller.enqueue(bytes);
        controller.close();
      },
    });
    return { size: length, body };
  }
  // deno-lint-ignore require-await -- errors must come as rejections
  async head(key: string): Promise<ObjectInfo> {
    const { bytes, etag, modifiedMs } = this.#bucket.get(key);
    return { key, size: bytes.length, etag, modifiedMs };
  }
  async *list(prefix: string): AsyncGenerator<ObjectInfo, void, void> {
    yield* this.#bucket.list(prefix);
  }
  delete(): Promise<never> {
    return Promise.reject(new TypeError("The watcher changes nothing"));
  }
  async close(): Promise<void> {}
}
