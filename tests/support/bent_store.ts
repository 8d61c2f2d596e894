/**
 * A store over another whose every call a test may bend: fail it, hold it, watch it.
 *
 * @module
 */
import { UnavailableError } from "../../src/errors.ts";
import type {
  CallOptions,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StreamOptions,
} from "../../src/ports/object_store.ts";
import { MemoryStore } from "../../src/store/memory.ts";

export type StoreMethod = "put" | "get" | "getRange" | "getStream" | "head" | "list" | "delete";

/** See the module's description. Unbent it is the store below. */
export class BentStore implements ObjectStore {
  readonly description = "bent:";
  readonly below: ObjectStore;
  /** Every call so far: method and key. */
  readonly calls: { method: StoreMethod; key: string }[] = [];
  /** Runs before a call reaches the store; what it throws is the answer. */
  before: (method: StoreMethod, key: string, signal?: AbortSignal) => void | Promise<void> = () => {};
  /** Runs after a call has happened; what it throws is the answer in place of the true one. */
  after: (method: StoreMethod, key: string) => void | Promise<void> = () => {};

  constructor(below: ObjectStore = new MemoryStore()) {
    this.below = below;
  }

  /** Nothing answers until {@linkcode BentStore.comeBack}. */
  goAway(): void {
    this.before = () => {
      throw new UnavailableError("The store is away");
    };
  }

  comeBack(): void {
    this.before = this.after = () => {};
  }

  /** Keys of calls of a method whose key has this in it. */
  keysOf(method: StoreMethod, part = ""): string[] {
    return this.calls.filter((call) => call.method === method && call.key.includes(part)).map(({ key }) =>
      key
    );
  }

  async #call<T>(
    method: StoreMethod,
    key: string,
    signal: AbortSignal | undefined,
    run: () => Promise<T>,
  ): Promise<T> {
    this.calls.push({ method, key });
    await this.before(method, key, signal);
    const result = await run();
    await this.after(method, key);
    return result;
  }

  put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: string }> {
    return this.#call("put", key, options.signal, () => this.below.put(key, body, options));
  }
  get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    return this.#call("get", key, options.signal, () => this.below.get(key, options));
  }
  getRange(key: string, offset: number, length: number, options: CallOptions = {}): Promise<Uint8Array> {
    return this.#call(
      "getRange",
      key,
      options.signal,
      () => this.below.getRange(key, offset, length, options),
    );
  }
  getStream(
    key: string,
    options: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    return this.#call("getStream", key, options.signal, () => this.below.getStream(key, options));
  }
  head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    return this.#call("head", key, options.signal, () => this.below.head(key, options));
  }
  list(prefix: string, options: CallOptions = {}): AsyncIterable<ObjectInfo> {
    this.calls.push({ method: "list", key: prefix });
    return this.below.list(prefix, options);
  }
  delete(key: string, options: CallOptions = {}): Promise<void> {
    return this.#call("delete", key, options.signal, () => this.below.delete(key, options));
  }
  async close(): Promise<void> {}
}

/** A promise and its ends: `Promise.withResolvers`, which Node 20 lacks. */
export function deferred<T = void>(): {
  promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
} {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((yes, no) => [resolve, reject] = [yes, no]);
  return { promise, resolve, reject };
}
