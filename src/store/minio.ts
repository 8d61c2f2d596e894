/**
 * A store in a bucket of MinIO, Amazon S3 or what speaks their protocol, through minio-js.
 *
 * Both paths. What it promises beyond the port:
 * - every request has time limits and ends at once when its signal fires (`minio/call.ts`);
 * - nothing is retried here: that is `retrying.ts`;
 * - credentials appear neither in the description nor in errors;
 * - a write holds at most {@linkcode MinioStoreOptions.singlePutLimit} bytes of its body in memory, except that a
 *   write with a condition holds all of it and goes out as a single PUT: that is where `probe.ts` has made sure that
 *   the server keeps conditions, and not every server that does keeps them when a multipart upload is completed.
 *
 * On S3 an etag is a hash of the content. So a version is not told from another one with the same bytes, and a
 * conditional write of the very bytes that are there leaves the condition met for the next writer: put something of
 * the writer into the body, as the manifest does with its commit id.
 *
 * Over plain http, bodies are signed with their SHA-256; over https, where TLS guards them, they are not.
 *
 * @module
 */
import type { IncomingMessage } from "../deps/node_http.ts";
import { systemClock } from "../deps/system_clock.ts";
import { ProtocolError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type {
  CallOptions,
  Etag,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StreamOptions,
} from "../ports/object_store.ts";
import { bodyPieces, bodySize, emptyBody, readBody } from "./body.ts";
import { checkKey, checkPrefix, checkRange, LONGEST_KEY } from "./keys.ts";
import {
  contentLength,
  etagOf,
  parseCompleted,
  parseListing,
  parseUploadId,
  readExactly,
  readText,
  streamBody,
} from "./minio/answers.ts";
import type { MinioCall } from "./minio/call.ts";
import { beyondEnd, checkGivenRange, conditionHeaders, rangeHeaders } from "./minio/protocol.ts";
import { type Purpose, type S3Request, S3Requests } from "./minio/requests.ts";
import { gatherParts, MOST_PARTS, type MultipartProtocol, uploadMultipart } from "./minio/upload.ts";

/** Where the bucket is, who we are, how patient we are. */
export interface MinioStoreOptions {
  /** `http://host:9000` or `https://host`, without a path. */
  endpoint: string;
  bucket: string;
  /** Keys of this store begin with it in the bucket; a slash follows it. */
  prefix?: string;
  /** Default `us-east-1`. Never asked of the server. */
  region?: string;
  /** Without keys requests are anonymous. */
  accessKey?: string;
  secretKey?: string;
  sessionToken?: string;
  /** `http://host/bucket/key` instead of `http://bucket.host/key`. Default true, except at Amazon, where it is never. */
  pathStyle?: boolean;
  /** Milliseconds to get a connection. Default 10 000. */
  connectTimeoutMs?: number;
  /** Milliseconds from the last byte sent to the first one received. Default 30 000. */
  firstByteTimeoutMs?: number;
  /** Milliseconds between two pieces of an answer. Default 30 000. */
  idleTimeoutMs?: number;
  /** Larger bodies are sent in parts, unless there is a condition. Default 64 MiB. */
  singlePutLimit?: number;
  /** Bytes per part, at least 5 MiB. Default 16 MiB. */
  partSize?: number;
  clock?: Clock;
}

/** Objects in a bucket. */
export class MinioStore implements ObjectStore {
  readonly description: string;
  readonly #prefix: string;
  readonly #singlePutLimit: number;
  readonly #partSize: number;
  readonly #requests: S3Requests;

  /** Makes no request. Throws TypeError for options that cannot be right. */
  constructor(options: MinioStoreOptions) {
    const prefix = options.prefix ?? "";
    if (prefix !== "") checkKey(prefix);
    this.#prefix = prefix === "" ? "" : `${prefix}/`;
    this.description = `s3://${options.bucket}/${prefix}`;
    this.#singlePutLimit = options.singlePutLimit ?? 64 << 20;
    this.#partSize = options.partSize ?? 16 << 20;
    this.#requests = new S3Requests({
      ...options,
      region: options.region ?? "us-east-1",
      clock: options.clock ?? systemClock,
      limits: {
        connectMs: options.connectTimeoutMs ?? 10_000,
        firstByteMs: options.firstByteTimeoutMs ?? 30_000,
        idleMs: options.idleTimeoutMs ?? 30_000,
      },
    });
  }

  async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: Etag }> {
    const [path, purpose] = this.#about("write", key, options);
    const size = bodySize(body);
    if (options.condition !== undefined || (size !== undefined && size <= this.#singlePutLimit)) {
      const bytes = body instanceof Uint8Array ? body : await readBody(body, options.signal);
      return { etag: await this.#putWhole(path, bytes, purpose) };
    }
    const partSize = Math.max(this.#partSize, Math.ceil((size ?? 0) / MOST_PARTS));
    const parts = gatherParts(bodyPieces(body, options.signal), partSize);
    const first = await parts.next();
    if (first.done || first.value.length < partSize) { // of unknown size, and it turns out small
      return { etag: await this.#putWhole(path, first.value ?? new Uint8Array(0), purpose) };
    }
    const all = async function* () {
      yield first.value;
      yield* parts;
    };
    return { etag: await uploadMultipart(this.#multipart(path, purpose.doing), all(), purpose.signal) };
  }

  #putWhole(path: string, body: Uint8Array, purpose: Purpose): Promise<Etag> {
    const headers = conditionHeaders(purpose.condition);
    return this.#requests.run({ method: "PUT", path, headers, body, expect: [200] }, purpose, readEtag);
  }

  #multipart(path: string, doing: string): MultipartProtocol {
    const expect = [200, 204];
    const run = this.#requests.run.bind(this.#requests);
    const idQuery = (id: string) => `uploadId=${escape(id)}`;
    return {
      initiate: (signal) =>
        run({ method: "POST", path, query: "uploads", expect }, { doing, signal }, async (call, response) => {
          return parseUploadId(await readText(call, response));
        }),
      uploadPart: (id, number, body, signal) => {
        const query = `partNumber=${number}&${idQuery(id)}`;
        return run({ method: "PUT", path, query, body, expect }, { doing, signal }, readEtag);
      },
      complete: (id, etags, signal) => {
        const body = new TextEncoder().encode(completionDocument(etags));
        const request: S3Request = { method: "POST", path, query: idQuery(id), body, expect };
        return run(request, { doing, signal }, async (call, response) => {
          const completed = parseCompleted(await readText(call, response));
          if ("etag" in completed) return completed.etag;
          call.status = undefined; // it was 200 when the work began; the code tells how it ended
          throw Object.assign(new Error(completed.message), { code: completed.code });
        });
      },
      abort: async (id) => {
        await run({ method: "DELETE", path, query: idQuery(id), expect }, { doing }, readText);
      },
    };
  }

  async get(key: string, options: CallOptions = {}): Promise<ObjectContent> {
    const [path, purpose] = this.#about("read", key, options);
    return await this.#requests.run(
      { method: "GET", path, expect: [200] },
      purpose,
      async (call, response) => {
        const etag = etagOf(response);
        return { bytes: await readExactly(call, response, contentLength(response)), etag };
      },
    );
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
    const request: S3Request = { method: "GET", path, headers, expect: [200, 206] };
    return await this.#requests.run(request, purpose, async (call, response) => {
      const range = response.headers["content-range"];
      checkGivenRange(key, offset, length, response.statusCode, range);
      return await readExactly(call, response, length);
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
    const headers = range === undefined ? undefined : rangeHeaders(range.offset, range.length);
    const request: S3Request = {
      method: "GET",
      path,
      headers,
      expect: range === undefined ? [200] : [200, 206],
    };
    return await this.#requests.open(request, purpose, (call, response, mapError) => {
      if (range !== undefined) {
        const { offset, length } = range;
        checkGivenRange(key, offset, length, response.statusCode, response.headers["content-range"]);
      }
      const size = range?.length ?? contentLength(response);
      return Promise.resolve({ size, body: streamBody(call, response, size, mapError) });
    });
  }

  async head(key: string, options: CallOptions = {}): Promise<ObjectInfo> {
    const [path, purpose] = this.#about("look at", key, options);
    return await this.#requests.run({ method: "HEAD", path, expect: [200] }, purpose, (_, response) => {
      response.resume();
      const modifiedMs = Date.parse(response.headers["last-modified"] ?? "");
      if (Number.isNaN(modifiedMs)) throw new ProtocolError("expected a time of modification, got none");
      return Promise.resolve({ key, size: contentLength(response), etag: etagOf(response), modifiedMs });
    });
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, void> {
    checkPrefix(prefix);
    const { signal } = options;
    signal?.throwIfAborted();
    const purpose = { doing: `list "${prefix}" in ${this.description}`, signal };
    const base = `encoding-type=url&list-type=2&max-keys=1000&prefix=${escape(this.#prefix + prefix)}`;
    let next: string | undefined;
    do {
      const query = next === undefined ? base : `continuation-token=${escape(next)}&${base}`;
      const request: S3Request = { method: "GET", query, expect: [200] };
      const page = await this.#requests.run(request, purpose, async (call, response) => {
        return parseListing(await readText(call, response));
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
    await this.#requests.run({ method: "DELETE", path, expect: [200, 204] }, purpose, readText);
  }

  // deno-lint-ignore require-await -- the interface is asynchronous
  async close(): Promise<void> {
    this.#requests.close();
  }

  /** The key's path in the bucket, and what to say when it goes wrong. */
  #about(doing: string, key: string, options: PutOptions): [path: string, purpose: Purpose] {
    checkKey(key);
    const path = this.#prefix + key;
    if (path.length > LONGEST_KEY) {
      throw new TypeError(
        `Cannot use a key of ${path.length} characters, prefix included: expected at most ${LONGEST_KEY}`,
      );
    }
    const { condition, signal } = options;
    signal?.throwIfAborted();
    return [path, { doing: `${doing} object "${key}" in ${this.description}`, condition, signal }];
  }
}

async function readEtag(call: MinioCall, response: IncomingMessage): Promise<Etag> {
  const etag = etagOf(response);
  await readText(call, response);
  return etag;
}

function completionDocument(etags: string[]): string {
  const parts = etags.map((etag, i) =>
    `<Part><PartNumber>${i + 1}</PartNumber><ETag>"${etag}"</ETag></Part>`
  );
  return `<CompleteMultipartUpload>${parts.join("")}</CompleteMultipartUpload>`;
}

/** As `encodeURIComponent`, and what S3's signature wants escaped besides. */
function escape(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}
