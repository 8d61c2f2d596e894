/**
 * Large objects: multipart uploads, a few parts at a time. An upload that fails is aborted, so that its parts do not
 * stay in the bucket, unseen and paid for.
 *
 * minio-js has this, too, but resumes whatever upload it finds under the same key, which may be another writer's.
 *
 * @module
 */
import { anySignal } from "../../flow/abort.ts";

/** The parts of the protocol, as the store speaks it. */
export interface MultipartProtocol {
  initiate(signal: AbortSignal): Promise<string>;
  uploadPart(uploadId: string, number: number, bytes: Uint8Array, signal: AbortSignal): Promise<string>;
  complete(uploadId: string, etags: string[], signal: AbortSignal): Promise<string>;
  abort(uploadId: string): Promise<void>;
}

/** Parts under way at a time. Each is held in memory. */
const PARALLEL_PARTS = 4;

/** S3 takes no more. */
export const MOST_PARTS = 10_000;

/** Uploads `parts` and returns the object's etag. */
export async function uploadMultipart(
  protocol: MultipartProtocol,
  parts: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<string> {
  const failed = new AbortController();
  using either = anySignal(signal, failed.signal);
  const uploadId = await protocol.initiate(either.signal);
  const etags: string[] = [];
  const running = new Set<Promise<void>>();
  try {
    let number = 0;
    for await (const part of parts) {
      const index = number++;
      if (number > MOST_PARTS) {
        throw new RangeError(`Cannot write an object of more than ${MOST_PARTS} parts`);
      }
      const upload = protocol.uploadPart(uploadId, number, part, either.signal).then((etag) => {
        etags[index] = etag;
        running.delete(upload);
      });
      upload.catch(() => {}); // met below, by race() or all()
      running.add(upload);
      if (running.size >= PARALLEL_PARTS) await Promise.race(running);
    }
    await Promise.all(running);
    return await protocol.complete(uploadId, etags, either.signal);
  } catch (error) {
    failed.abort(error);
    await Promise.allSettled(running);
    // The first error is the one that matters. Parts that stay behind are found by a bucket's lifecycle rule.
    await protocol.abort(uploadId).catch(() => {});
    throw error;
  }
}

/** Gathers pieces of any sizes to parts of `partSize` bytes, the last one shorter and never empty. */
export async function* gatherParts(
  pieces: AsyncIterable<Uint8Array>,
  partSize: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let part = new Uint8Array(partSize);
  let filled = 0;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      const taken = Math.min(partSize - filled, piece.length - at);
      part.set(piece.subarray(at, at + taken), filled);
      at += taken;
      filled += taken;
      if (filled < partSize) continue;
      yield part;
      part = new Uint8Array(partSize);
      filled = 0;
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
}
