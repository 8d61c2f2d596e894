/**
 * Requests to one S3 bucket: built and signed by minio-js, bounded by `call.ts`, their errors told by `s3_errors.ts`.
 *
 * @module
 */
import { MinioClient } from "../../deps/minio.ts";
import {
  Buffer,
  HttpAgent,
  httpRequest,
  HttpsAgent,
  httpsRequest,
  type IncomingMessage,
  Readable,
} from "../../deps/node_http.ts";
import type { Clock } from "../../ports/clock.ts";
import type { PutCondition } from "../../ports/object_store.ts";
import { type CallContext, type CallLimits, MinioCall } from "./call.ts";
import { s3Error } from "./s3_errors.ts";

/** Bytes per piece of a body on its way out: each that the socket takes counts as progress. */
const SEND_PIECE = 1 << 18;

/** The bucket and who we are. */
export interface BucketOptions {
  endpoint: string;
  bucket: string;
  region: string;
  accessKey?: string;
  secretKey?: string;
  sessionToken?: string;
  pathStyle?: boolean;
  limits: CallLimits;
  clock: Clock;
}

/** One HTTP request. */
export interface S3Request {
  method: "GET" | "HEAD" | "PUT" | "POST" | "DELETE";
  /** The object's whole name in the bucket; left out for requests about the bucket. */
  path?: string;
  query?: string;
  headers?: Record<string, string>;
  body?: Uint8Array;
  /** Statuses that are no error. */
  expect: number[];
}

/** What a request is for, for errors. */
export interface Purpose {
  doing: string;
  condition?: PutCondition;
  signal?: AbortSignal;
}

/** Sends requests over connections that it keeps: a handshake costs more than a range read. */
export class S3Requests {
  readonly #bucket: string;
  readonly #region: string;
  readonly #signsBodies: boolean;
  readonly #secrets: string[];
  readonly #agent: HttpAgent;
  readonly #context: CallContext;

  constructor(options: BucketOptions) {
    const url = parseEndpoint(options.endpoint);
    const useSSL = url.protocol === "https:";
    const { accessKey, secretKey, sessionToken } = options;
    this.#bucket = options.bucket;
    this.#region = options.region;
    this.#secrets = [accessKey, secretKey, sessionToken].filter((s) =>
      s !== undefined && s.length > 3
    ) as string[];
    this.#agent = useSSL ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
    const client = new MinioClient({
      endPoint: url.hostname,
      port: url.port === "" ? undefined : Number(url.port),
      useSSL,
      accessKey,
      secretKey,
      sessionToken,
      region: options.region, // known, so that minio-js does not ask for it
      pathStyle: options.pathStyle,
      transportAgent: this.#agent,
      retryOptions: { disableRetry: true },
    });
    this.#signsBodies = client.enableSHA256;
    const { clock, limits } = options;
    this.#context = { client, clock, limits, send: useSSL ? httpsRequest : httpRequest, host: url.host };
  }

  /** Sends a request and hands the answer to `consume`, which must read all of it. */
  async run<T>(
    request: S3Request,
    purpose: Purpose,
    consume: (call: MinioCall, response: IncomingMessage) => Promise<T>,
  ): Promise<T> {
    return await this.open(request, purpose, async (call, response) => {
      const result = await consume(call, response);
      call.end();
      return result;
    });
  }

  /** Sends a request whose answer outlives `consume`: that must see to it that the call ends. */
  async open<T>(
    request: S3Request,
    purpose: Purpose,
    consume: (
      call: MinioCall,
      response: IncomingMessage,
      mapError: (error: unknown) => unknown,
    ) => Promise<T>,
  ): Promise<T> {
    const call = new MinioCall(this.#context, purpose.signal);
    const mapError = (error: unknown) =>
      s3Error({
        ...purpose,
        error,
        status: call.status,
        serverCode: call.serverCode,
        secrets: this.#secrets,
      });
    try {
      return await consume(call, await this.#send(call, request), mapError);
    } catch (error) {
      call.destroy();
      throw mapError(error);
    }
  }

  async #send(call: MinioCall, request: S3Request): Promise<IncomingMessage> {
    const options = {
      method: request.method,
      bucketName: this.#bucket,
      objectName: request.path,
      query: request.query,
      headers: { ...request.headers } as Record<string, string>,
    };
    const { body } = request;
    if (body === undefined) return await call.race(call.client.makeRequestAsync(options, "", request.expect));
    options.headers["content-length"] = String(body.length);
    const sha256 = this.#signsBodies ? await sha256Hex(body) : "";
    const payload = body.length <= SEND_PIECE ? toBuffer(body) : sendingStream(call, body);
    return await call.race(
      call.client.makeRequestStreamAsync(options, payload, sha256, request.expect, this.#region),
    );
  }

  /** Closes the connections. */
  close(): void {
    this.#agent.destroy();
  }
}

/** A body that tells the call whenever the socket has taken a piece. */
function sendingStream(call: MinioCall, body: Uint8Array): Readable {
  const pieces = function* () {
    for (let at = 0; at < body.length; at += SEND_PIECE) {
      call.progressed();
      yield toBuffer(body.subarray(at, at + SEND_PIECE));
    }
  };
  return Readable.from(pieces(), { objectMode: false, highWaterMark: SEND_PIECE });
}

/** minio-js takes nothing else. */
function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

async function sha256Hex(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parseEndpoint(endpoint: string): URL {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  if (url === undefined || !isHttp || url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    throw new TypeError(
      "Cannot use the endpoint: expected http://host:port or https://host:port, without a path",
    );
  }
  // The text may hold a password, so that it is not shown.
  if (url.username !== "" || url.password !== "") {
    throw new TypeError("Cannot use an endpoint with credentials in it");
  }
  return url;
}
