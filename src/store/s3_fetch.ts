/**
 * A store in a bucket of MinIO, Amazon S3 or what speaks their protocol, with nothing but `fetch` and Web Crypto: for edge
 * workers, where minio-js has no sockets to work with.
 *
 * Both paths, the read path above all. What it promises beyond the port:
 * - every request has time limits and ends at once when its signal fires; nothing is retried: that is `retrying.ts`;
 * - credentials appear neither in the description nor in errors;
 * - reads hold what they return and no more; a write holds its whole body, and goes out as a single PUT.
 *
 * Bodies are not signed (`UNSIGNED-PAYLOAD`): use https wherever the network is not one's own.
 *
 * @module
 */
import { AwsClient } from "../deps/aws4fetch.ts";
import { CorruptionError, ProtocolError, UnavailableError, UnsupportedError } from "../errors.ts";
import { raceAbort, withTimeout } from "../flow/abort.ts";
import { systemClock } from "../flow/system_clock.ts";
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
import { bodySize, emptyBody, readBody } from "./body.ts";
import { checkKey, checkPrefix, checkRange, LONGEST_KEY } from "./keys.ts";
import { parseListing } from "./minio/answers.ts";
import { beyondEnd, checkGivenRange, conditionHeaders, rangeHeaders } from "./minio/protocol.ts";
import { s3Error } from "./minio/s3_errors.ts";

/** Where the bucket is, who we are, how patient we are. */
export interface S3FetchStoreOptions {
  /** `http://host:9000` or `https://host`, without a path. */
  endpoint: string;
  bucket: string;
  /** Keys of this store begin with it in the bucket; a slash follows it. */
  prefix?: string;
  /** Default `us-east-1`. */
  region?: string;
  /** Without keys requests are anonymous. */
  accessKey?: string;
  secretKey?: string;
  sessionToken?: string;
  /** `http://host/bucket/key` instead of `http://bucket.host/key`. Default true. */
  pathStyle?: boolean;
  /** Milliseconds until the head of an answer. Default 30 000. */
  firstByteTimeoutMs?: number;
  /** Milliseconds between two pieces of an answer. Default 30 000. */
  idleTimeoutMs?: number;
  /** Bytes of the largest object that is written. Default 64 MiB: a worker has 128 MiB in all. */
  putLimit?: number;
  clock?: Clock;
  /** Default: the global one. */
  fetch?: typeof fetch;
}

/** One request. */
interface Asked {
  method: "GET" | "HEAD" | "PUT" | "DELETE";
  /** The key; left out for the bucket. */
  path?: string;
  query?: Record<string, string>;
  headers?: Record<string, string>;
  body?: Uint8Array<ArrayBuffer>;
  expect: readonly number[];
}

/** What it is for. */
interface Purpose {
  doing: string;
  condition?: PutCondition;
  signal?: AbortSignal;
}

/** Bytes of an error document that are looked at. */
const ERROR_BYTES_MAX = 64 * 1024;
/** No listing of a thousand keys is longer. */
const LISTING_BYTES_MAX = 8 << 20;

/** Objects in a bucket. */
export class S3FetchStore implements ObjectStore {
  readonly description: string;
  readonly #options: S3FetchStoreOptions;
  readonly #clock: Clock;
  readonly #base: string;
  readonly #prefix: string;
  readonly #signer: AwsClient | undefined;
  readonly #secrets: string[];

  /** Makes no request. Throws TypeError for options that cannot be right. */
  constructor(options: S3FetchStoreOptions) {
    const { endpoint, bucket, prefix = "", accessKey, secretKey, sessionToken, pathStyle = true } = options;
    const url = new URL(endpoint);
    if (
      !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search + url.hash + url.username !== ""
    ) {
      throw new TypeError(`Cannot use the endpoint: expected http://host:port or https://host:port`);
    }
    if (prefix !== "") checkKey(prefix);
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#prefix = prefix === "" ? "" : `${prefix}/`;
    this.#base = pathStyle ? `${url.origin}/${bucket}` : `${url.protocol}//${bucket}.${url.host}`;
    this.description = `s3://${bucket}/${prefix}`;
    this.#secrets = [accessKey, secretKey, sessionToken].filter((text) =>
      text !== undefined && text.length > 3
    ) as string[];
    if (accessKey === undefined || secretKey === undefined) return;
    const region = options.region ?? "us-east-1";
    this.#signer = new AwsClient({
      accessKeyId: accessKey,
      secretAccessKey: secretKey,
      sessionToken,
      service: "s3",
      region,
    });
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: Etag }> {
    const [path, purpose] = this.#about("write", key, options);
    const { putLimit = 64 << 20 } = this.#options;
    const size = bodySize(body) ?? 0;
    if (size > putLimit) throw tooLarge(purpose.doing, size, putLimit);
    const bytes = await raceAbort(readBody(body, options.signal), options.signal);
    if (bytes.length > putLimit) throw tooLarge(purpose.doing, bytes.length, putLimit);
    const headers = conditionHeaders(options.condition);
    return await this.#ask(
      { method: "PUT", path, headers, body: bytes, expect: [200] },
      purpose,
      async (answer) => {
        await this.#read(answer, ERROR_BYTES_MAX, purpose.signal);
        return { etag: etagOf(answer) };
      },
    );
  }

  async get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    const [path, purpose] = this.#about("read", key, options);
    return await this.#ask({ method: "GET", path, expect: [200] }, purpose, async (answer) => {
      const etag = etagOf(answer);
      return { bytes: await this.#readExactly(answer, contentLength(answer), purpose.signal), etag };
    });
  }

  async getRange(
    key: string,
    offset: number,
    length: number,
    options: CallOptions = {},
  ): Promise<Uint8Array> {
    checkRange(offset, length);
    const [path, purpose] = this.#about("read", key, options);
    if (length === 0) { // HTTP has no empty range
      const { size } = await this.head(key, options);
      if (offset > size) throw beyondEnd(key, offset, length, size);
      return new Uint8Array(0);
    }
    const headers = rangeHeaders(offset, length);
    return await this.#ask({ method: "GET", path, headers, expect: [200, 206] }, purpose, async (answer) => {
      const range = answer.headers.get("content-range");
      checkGivenRange(key, offset, length, answer.status, range);
      return await this.#readExactly(answer, length, purpose.signal);
    });
  }

  async getStream(
    key: string,
    options: StreamOptions = {},
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    const { range } = options;
    if (range !== undefined) checkRange(range.offset, range.length);
    const [path, purpose] = this.#about("read", key, options);
    if (range?.length === 0) {
      await this.getRange(key, range.offset, 0, options);
      return { size: 0, body: emptyBody() };
    }
    const own = new AbortController();
    const headers = range === undefined ? undefined : rangeHeaders(range.offset, range.length);
    const asked: Asked = { method: "GET", path, headers, expect: range === undefined ? [200] : [200, 206] };
    return await this.#ask(asked, purpose, (answer) => {
      if (range !== undefined) {
        const { offset, length } = range;
        checkGivenRange(key, offset, length, answer.status, answer.headers.get("content-range"));
      }
      const size = range?.length ?? contentLength(answer);
      return Promise.resolve({ size, body: this.#stream(answer, size, purpose, own) });
    }, own);
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    const [path, purpose] = this.#about("look at", key, options);
    return await this.#ask({ method: "HEAD", path, expect: [200] }, purpose, (answer) => {
      const modifiedMs = Date.parse(answer.headers.get("last-modified") ?? "");
      if (Number.isNaN(modifiedMs)) throw new ProtocolError("expected a time of modification, got none");
      return Promise.resolve({ key, size: contentLength(answer), etag: etagOf(answer), modifiedMs });
    });
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    checkPrefix(prefix);
    const { signal } = options;
    signal?.throwIfAborted();
    const purpose = { doing: `list "${prefix}" in ${this.description}`, signal };
    const base = {
      "encoding-type": "url",
      "list-type": "2",
      "max-keys": "1000",
      prefix: this.#prefix + prefix,
    };
    let next: string | undefined;
    do {
      const query: Record<string, string> = next === undefined
        ? base
        : { ...base, "continuation-token": next };
      const page = await this.#ask({ method: "GET", query, expect: [200] }, purpose, async (answer) => {
        return parseListing(new TextDecoder().decode(await this.#read(answer, LISTING_BYTES_MAX, signal)));
      });
      for (const object of page.objects) {
        signal?.throwIfAborted();
        yield { ...object, key: object.key.slice(this.#prefix.length) };
      }
      next = page.next;
    } while (next !== undefined);
  }

  async delete(key: string, options: CallOptions = {}): Promise<void> {
    const [path, purpose] = this.#about("delete", key, options);
    await this.#ask({ method: "DELETE", path, expect: [200, 204] }, purpose, async (answer) => {
      await this.#read(answer, ERROR_BYTES_MAX, purpose.signal);
    });
  }

  async close(): Promise<void> {}

  /** The key's path in the bucket, and what to say when it goes wrong. */
  #about(doing: string, key: string, { condition, signal }: PutOptions): [path: string, purpose: Purpose] {
    checkKey(key);
    const path = this.#prefix + key;
    if (path.length > LONGEST_KEY) {
      throw new TypeError(
        `Cannot use a key of ${path.length} characters, prefix included: expected at most ${LONGEST_KEY}`,
      );
    }
    signal?.throwIfAborted();
    return [path, { doing: `${doing} object "${key}" in ${this.description}`, condition, signal }];
  }

  /** Sends a request and hands the answer to `consume`; its errors are told by what the caller should do. */
  async #ask<T>(
    asked: Asked,
    purpose: Purpose,
    consume: (answer: Response) => Promise<T>,
    own = new AbortController(),
  ): Promise<T> {
    let answer: Response | undefined;
    let serverCode: string | undefined;
    try {
      answer = await this.#send(asked, purpose, own);
      if (!asked.expect.includes(answer.status)) {
        const text = asked.method === "HEAD"
          ? ""
          : new TextDecoder().decode(await this.#read(answer, ERROR_BYTES_MAX, purpose.signal));
        serverCode = /<Code>([^<]*)<\/Code>/.exec(text)?.[1];
        throw Object.assign(new Error(/<Message>([^<]*)<\/Message>/.exec(text)?.[1] ?? ""), {
          code: serverCode,
        });
      }
      return await consume(answer);
    } catch (error) {
      own.abort(error);
      const { doing, condition, signal } = purpose;
      const isGood = answer !== undefined && asked.expect.includes(answer.status);
      const status = isGood ? undefined : answer?.status;
      throw s3Error({ doing, error, status, serverCode, condition, signal, secrets: this.#secrets });
    }
  }

  async #send(asked: Asked, { doing, signal }: Purpose, own: AbortController): Promise<Response> {
    const { firstByteTimeoutMs = 30_000, fetch: ask = fetch } = this.#options;
    const url = new URL(asked.path === undefined ? this.#base : `${this.#base}/${asked.path}`);
    for (const [name, value] of Object.entries(asked.query ?? {})) url.searchParams.set(name, value);
    const init = { method: asked.method, headers: asked.headers, body: asked.body };
    const signed = await this.#signer?.sign(url.href, init) ?? new Request(url, init);
    const onAbort = () => own.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    using limit = withTimeout(this.#clock, firstByteTimeoutMs, doing, signal);
    try {
      // Anything but the bytes themselves would take its length away.
      const headers = new Headers(signed.headers);
      headers.set("accept-encoding", "identity");
      const sent = ask(url.href, { ...init, headers, signal: own.signal, redirect: "manual" });
      return await raceAbort(sent, limit.signal);
    } catch (error) {
      if (limit.signal.aborted) throw limit.signal.reason;
      throw connectionLost(error);
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** A body of exactly `length` bytes. */
  async #readExactly(answer: Response, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let at = 0;
    await this.#pieces(answer, signal, (piece) => {
      if (at + piece.length > length) throw wrongLength(length, at + piece.length);
      bytes.set(piece, at);
      at += piece.length;
    });
    if (at !== length) throw cutShort();
    return bytes;
  }

  /** A body of at most `limit` bytes. */
  async #read(answer: Response, limit: number, signal?: AbortSignal): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let length = 0;
    await this.#pieces(answer, signal, (piece) => {
      length += piece.length;
      if (length > limit) throw new ProtocolError(`expected an answer of at most ${limit} bytes, got more`);
      pieces.push(piece);
    });
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const piece of pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  async #pieces(
    answer: Response,
    signal: AbortSignal | undefined,
    take: (piece: Uint8Array) => void,
  ): Promise<void> {
    if (answer.body === null) return;
    const reader = answer.body.getReader();
    try {
      for (;;) {
        const { done, value } = await this.#piece(reader, signal);
        if (done) return;
        take(value);
      }
    } catch (error) {
      await reader.cancel().catch(() => {});
      throw error;
    }
  }

  async #piece(
    reader: ReadableStreamDefaultReader<Uint8Array>,
    signal: AbortSignal | undefined,
  ): Promise<ReadableStreamReadResult<Uint8Array>> {
    using limit = withTimeout(this.#clock, this.#options.idleTimeoutMs ?? 30_000, "go on reading", signal);
    try {
      return await raceAbort(reader.read(), limit.signal);
    } catch (error) {
      if (limit.signal.aborted) throw limit.signal.reason;
      throw connectionLost(error);
    }
  }

  #stream(
    answer: Response,
    size: number,
    purpose: Purpose,
    own: AbortController,
  ): ReadableStream<Uint8Array> {
    const reader = answer.body?.getReader();
    let at = 0;
    return new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        try {
          const { done, value } = reader === undefined
            ? { done: true, value: undefined }
            : await this.#piece(reader, purpose.signal);
          if (value !== undefined) {
            at += value.length;
            if (at > size) throw wrongLength(size, at);
            controller.enqueue(value);
          } else if (done && at !== size) throw cutShort();
          else controller.close();
        } catch (error) {
          own.abort(error);
          throw s3Error({ ...purpose, error, secrets: this.#secrets });
        }
      },
      cancel: async (reason) => {
        await reader?.cancel(reason).catch(() => {});
        own.abort(reason);
      },
    }, { highWaterMark: 0 });
  }
}

function contentLength(answer: Response): number {
  const text = answer.headers.get("content-length");
  const length = Number(text);
  if (text !== null && Number.isSafeInteger(length) && length >= 0) return length;
  throw new ProtocolError("expected a Content-Length in the answer, got none");
}

function etagOf(answer: Response): Etag {
  const etag = answer.headers.get("etag");
  if (etag !== null && etag !== "") return etag.replace(/^"|"$/g, "");
  throw new ProtocolError("expected an ETag in the answer, got none");
}

function wrongLength(expected: number, got: number): CorruptionError {
  return new CorruptionError("the answer is not as long as announced", { expected, got });
}

function cutShort(): UnavailableError {
  return new UnavailableError("the connection was closed in the middle of the answer");
}

/** Runtimes say it each in their own way, some with the URL, which has no secrets. */
function connectionLost(error: unknown): UnavailableError {
  const message = error instanceof Error ? error.message : String(error);
  return new UnavailableError(`the connection failed: ${message}`, {
    hint: "Check that the endpoint is right and that the server is up.",
  });
}

function tooLarge(doing: string, size: number, limit: number): UnsupportedError {
  return new UnsupportedError(`Cannot ${doing}: it has ${size} bytes, expected at most ${limit}`, {
    hint: "Write it with the other S3 store, which sends large objects in parts.",
  });
}
