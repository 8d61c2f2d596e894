/**
 * Port: object storage. Types only; what each method promises is written here and judged by
 * `tests/suites/object_store.ts`, which every implementation in `src/store/` runs.
 *
 * Keys are relative, `/`-separated, of `[A-Za-z0-9._-]` components (no empty, `.` or `..` component).
 * All methods take an optional AbortSignal and reject with its reason when it fires. Errors:
 * {@linkcode NotFoundError} (object absent), {@linkcode PreconditionFailedError} (condition not met),
 * {@linkcode UnavailableError} (store down, time-out, 5xx, 429: retry may work), {@linkcode VarveError} with
 * code `STORE_DENIED` (read-only, forbidden: retry will not help), {@linkcode CorruptionError} (fewer bytes than promised).
 *
 * @module
 */

/** Opaque version of an object's content, compared for equality only. Versions with the same bytes may share it (S3). */
export type Etag = string;

/** What is known of an object without its content. */
export interface ObjectInfo {
  key: string;
  /** Bytes. */
  size: number;
  etag: Etag;
  /** Milliseconds since the epoch, as the store tells. */
  modifiedMs: number;
}

/** An object's bytes with the version they belong to. */
export interface ObjectContent {
  bytes: Uint8Array;
  etag: Etag;
}

/**
 * A body: bytes at hand, or bytes that come in pieces (a fresh iterator per call, so that a retry can start over).
 * With `size`, exactly so many bytes must come; without, as many as come are the object (stores may then buffer parts).
 */
export type ObjectBody = Uint8Array | { size?: number; open(): AsyncIterable<Uint8Array> };

/** Condition of a write: create only if absent, or replace only this version. */
export type PutCondition = { ifAbsent: true } | { ifMatch: Etag };

export interface PutOptions {
  condition?: PutCondition;
  signal?: AbortSignal;
}

export interface CallOptions {
  signal?: AbortSignal;
}

/** Neighbouring bytes of an object. */
export interface ByteRange {
  offset: number;
  length: number;
}

export interface StreamOptions extends CallOptions {
  /** Only these bytes. Default: all. */
  range?: ByteRange;
}

/** A flat name space of immutable-by-convention objects, plus a few that are replaced by compare-and-swap. */
export interface ObjectStore {
  /** What this store is, for logs and errors: no credentials, for example `s3://bucket/prefix`. */
  readonly description: string;

  /**
   * Writes one object whole. When it resolves, the object is durable and every later read sees it; readers never
   * see half of it. Without a condition an existing object is replaced. With one, of any number of concurrent
   * writers with the same condition exactly one resolves; others reject with PreconditionFailedError.
   * A rejection with UnavailableError may hide a write that happened: the caller re-reads to find out.
   */
  put(key: string, body: ObjectBody, options?: PutOptions): Promise<{ etag: Etag }>;

  /** The whole object. For small ones (manifests); bounded by memory. */
  get(key: string, options?: CallOptions): Promise<ObjectContent>;

  /**
   * Exactly `length` bytes from `offset`. A range that reaches beyond the object's end rejects with CorruptionError:
   * a short answer is never passed off as a full one.
   */
  getRange(key: string, offset: number, length: number, options?: CallOptions): Promise<Uint8Array>;

  /**
   * The object or a range of it in pieces, in order, which are the caller's; `size` is how many bytes come. Little more is
   * taken than has been asked for. A range that reaches beyond the object's end rejects with CorruptionError, as does a
   * body that ends before its announced size.
   */
  getStream(
    key: string,
    options?: StreamOptions,
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }>;

  /** Size and version without content. */
  head(key: string, options?: CallOptions): Promise<ObjectInfo>;

  /** Every object whose key starts with `prefix`, in ascending key order. Objects written before the call are included. */
  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo>;

  /** Removes an object; resolves also when it is absent already. */
  delete(key: string, options?: CallOptions): Promise<void>;

  /** Releases sockets and handles. Idempotent. */
  close(): Promise<void>;
}
