/**
 * What comes back from an S3 server: bodies, read with their announced length in mind, and the three XML documents
 * that we need.
 *
 * We read the listing ourselves because minio-js takes keys that look like numbers for numbers (`000012` becomes
 * `12`). Keys, etags and upload ids have no markup, so scanning for tags is exact.
 *
 * The messages of errors here are completed by `s3_errors.ts`, which knows what was being done.
 *
 * @module
 */
import type { IncomingMessage } from "../../deps/node_http.ts";
import { CorruptionError, ProtocolError, UnavailableError } from "../../errors.ts";
import type { MinioCall } from "./call.ts";

/** No XML document that we ask for is longer: 1000 keys of 1 KiB and what belongs to them. */
const LONGEST_DOCUMENT = 8 << 20;

/** Announced length of an answer's body. */
export function contentLength(response: IncomingMessage): number {
  const length = Number(response.headers["content-length"]);
  if (response.headers["content-length"] !== undefined && Number.isSafeInteger(length) && length >= 0) {
    return length;
  }
  throw new ProtocolError("expected a Content-Length in the answer, got none");
}

/** An etag without its quotes. */
export function etagOf(response: IncomingMessage): string {
  const etag = response.headers.etag;
  if (etag !== undefined && etag !== "") return unquoted(etag);
  throw new ProtocolError("expected an ETag in the answer, got none");
}

function unquoted(etag: string): string {
  return etag.replace(/^"|"$/g, "");
}

/** A body of exactly `length` bytes. */
export function readExactly(call: MinioCall, response: IncomingMessage, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let at = 0;
  const read = readPieces(call, response, (piece) => {
    if (at + piece.length > length) throw wrongLength(length, at + piece.length);
    bytes.set(piece, at);
    at += piece.length;
  });
  return call.race(read.then(() => {
    if (at !== length) throw wrongLength(length, at);
    return bytes;
  }));
}

/** A document. */
export function readText(call: MinioCall, response: IncomingMessage): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  const read = readPieces(call, response, (piece) => {
    text += decoder.decode(piece, { stream: true });
    if (text.length > LONGEST_DOCUMENT) {
      throw new ProtocolError(`expected an answer of at most ${LONGEST_DOCUMENT} characters, got more`);
    }
  });
  return call.race(read.then(() => text + decoder.decode()));
}

function readPieces(
  call: MinioCall,
  response: IncomingMessage,
  take: (piece: Uint8Array) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    response.on("data", (piece: Uint8Array) => {
      call.progressed();
      try {
        take(piece);
      } catch (error) {
        reject(error);
        call.destroy();
      }
    });
    response.on("end", resolve);
    response.on("error", reject);
    response.on("close", () => reject(cutShort())); // without effect after the end
  });
}

/** Bytes of a streamed body that wait for its reader; the connection stands still while there are more. */
const STREAM_AHEAD = 512 * 1024;

/**
 * A body of `size` bytes as a stream. The call ends with it.
 *
 * Pieces are taken as they come, and the connection is stopped and started again only now and then: an iterator over the
 * answer would do so for each, which costs more than the bytes.
 */
export function streamBody(
  call: MinioCall,
  response: IncomingMessage,
  size: number,
  mapError: (error: unknown) => unknown,
): ReadableStream<Uint8Array> {
  let at = 0;
  let isOver = false;
  let isPaused = true;
  const pause = (paused: boolean) => {
    if (isPaused === paused) return;
    isPaused = paused;
    call.pause(paused);
    if (paused) response.pause();
    else response.resume();
  };
  call.pause(true);
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const fail = (error: unknown) => {
        if (isOver) return;
        isOver = true;
        call.destroy();
        controller.error(mapError(error));
      };
      call.failed(fail);
      response.on("data", (piece: Uint8Array) => {
        if (isOver) return;
        call.progressed();
        at += piece.length;
        if (at > size) return fail(wrongLength(size, at));
        controller.enqueue(new Uint8Array(piece.buffer as ArrayBuffer, piece.byteOffset, piece.length));
        if (controller.desiredSize! <= 0) pause(true);
      });
      response.on("end", () => {
        if (at !== size) return fail(wrongLength(size, at));
        if (isOver) return;
        isOver = true;
        controller.close();
        call.end();
      });
      response.on("error", fail);
      response.on("close", () => fail(cutShort()));
      response.pause();
    },
    pull(controller) {
      if (controller.desiredSize! >= STREAM_AHEAD / 2) pause(false);
    },
    cancel() {
      isOver = true;
      call.destroy();
    },
  }, new ByteLengthQueuingStrategy({ highWaterMark: STREAM_AHEAD }));
}

function wrongLength(expected: number, got: number): CorruptionError {
  return new CorruptionError("the answer is not as long as announced", {
    expected,
    got,
  });
}

function cutShort(): UnavailableError {
  return new UnavailableError("the connection was closed in the middle of the answer");
}

/** One object of a listing, its key with the store's prefix. */
export interface ListedObject {
  readonly key: string;
  readonly size: number;
  readonly etag: string;
  readonly modifiedMs: number;
}

/** One page of `ListObjectsV2` with `encoding-type=url`. */
export function parseListing(xml: string): { objects: ListedObject[]; next: string | undefined } {
  if (!xml.includes("<ListBucketResult")) throw new ProtocolError("expected a ListBucketResult");
  const objects: ListedObject[] = [];
  for (const [, content] of xml.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
    const size = Number(tag(content, "Size"));
    const modifiedMs = Date.parse(tag(content, "LastModified"));
    if (!Number.isSafeInteger(size) || size < 0 || Number.isNaN(modifiedMs)) {
      throw new ProtocolError(
        `expected a size and a time, got ${tag(content, "Size")} and ${modifiedMs}`,
      );
    }
    objects.push({
      key: decodeKey(tag(content, "Key")),
      size,
      modifiedMs,
      etag: unquoted(tag(content, "ETag")),
    });
  }
  const truncated = tag(xml, "IsTruncated") === "true";
  return { objects, next: truncated ? tag(xml, "NextContinuationToken") : undefined };
}

/** The id of a multipart upload that has begun. */
export function parseUploadId(xml: string): string {
  return tag(xml, "UploadId");
}

/** The etag of a multipart upload that is complete, or the error that came after all with status 200. */
export function parseCompleted(xml: string): { etag: string } | { code: string; message: string } {
  if (xml.includes("<Error>")) return { code: tag(xml, "Code"), message: tag(xml, "Message") };
  return { etag: unquoted(tag(xml, "ETag")) };
}

function tag(xml: string, name: string): string {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  if (found === undefined) throw new ProtocolError(`expected <${name}> in the answer, got none`);
  return found.replace(/&(?:quot|#34|lt|gt|apos|#39|amp);/g, (entity) => ENTITIES[entity]);
}

const ENTITIES: Record<string, string> = {
  "&quot;": '"',
  "&#34;": '"',
  "&lt;": "<",
  "&gt;": ">",
  "&apos;": "'",
  "&#39;": "'",
  "&amp;": "&",
};

function decodeKey(key: string): string {
  try {
    return decodeURIComponent(key.replaceAll("+", " "));
  } catch {
    throw new ProtocolError(`expected a URL-encoded key, got ${JSON.stringify(key)}`);
  }
}
