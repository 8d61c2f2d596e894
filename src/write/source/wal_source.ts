/**
 * What every source of WAL yields: consecutive stretches of raw WAL bytes, as a web stream.
 *
 * First stage of the write path; decode comes next. A source is `replication.ts` (a live server), `archive.ts` (a folder of
 * segments), or a stream of the user's own that keeps the same promises:
 * - each chunk begins where the one before ended, so `startLsn + data.length` is the next one's `startLsn`;
 * - chunks may begin and end anywhere, in the middle of a page header too;
 * - a chunk's bytes are the reader's own.
 *
 * @module
 */
import { VarveError } from "../../errors.ts";
import { alignLsn, INVALID_LSN, type Lsn, normalizeLsn } from "../../lsn.ts";

/** A stretch of WAL. */
export interface WalChunk {
  /** Position of the first byte. */
  readonly startLsn: Lsn;
  /** Raw WAL, page headers included. Never empty; nobody else writes to it. */
  readonly data: Uint8Array;
  /** PostgreSQL's timeline that the bytes were read from. */
  readonly tli: number;
  /** How far the server's WAL reached when it sent this. From an archive: the end of the segment. */
  readonly serverWalEnd: Lsn;
  /** When the server sent it, in milliseconds since the Unix epoch. From an archive: 0. */
  readonly sentAtMs: number;
  /** Gives the memory of `data` back to the source. Only by who shares it with nobody; there is no need to. */
  release?(): void;
}

/** Bytes of WAL that a source holds ready, besides the chunk that passes the limit. */
export const DEFAULT_QUEUE_BYTES = 1024 * 1024;

/** Counts a source's queue in bytes. */
export function walQueuingStrategy(highWaterMark = DEFAULT_QUEUE_BYTES): QueuingStrategy<WalChunk> {
  return { highWaterMark, size: (chunk) => chunk.data.byteLength };
}

/** Where to begin. */
export interface StartPoint {
  /** Behind padding, and behind the page header where one follows: the first byte that matters. */
  readonly normalized: Lsn;
  /** Behind padding only. */
  readonly aligned: Lsn;
}

/**
 * Where streaming begins after the last whole record, which may be followed by padding and a page header.
 *
 * If WAL had been received up to the middle of a record, streaming starts at the end of the last whole one. A page header is
 * skipped because it may never have been written where a branch was made at a page boundary.
 *
 * @throws {VarveError} `NO_WAL_POSITION` if there is no last record.
 */
export function startPointAfter(lastRecordLsn: Lsn, walSegmentSize: number): StartPoint {
  if (lastRecordLsn === INVALID_LSN) {
    throw new VarveError("NO_WAL_POSITION", "Cannot start replication: no previous WAL position", {
      hint: "Bootstrap the timeline from a base backup first.",
    });
  }
  return {
    normalized: normalizeLsn(alignLsn(lastRecordLsn), walSegmentSize),
    aligned: alignLsn(lastRecordLsn),
  };
}

/**
 * The end of a source that its reader holds: a stream whose queue is bounded in bytes, filled by push with the feed
 * being told when to go on.
 */
export class WalOutlet {
  readonly stream: ReadableStream<WalChunk>;
  /** Called when the reader has made room after a push that filled the queue. */
  onDemand: () => void = () => {};
  /** End of the last chunk handed over. */
  end: Lsn | undefined;
  #controller!: ReadableStreamDefaultController<WalChunk>;
  #isOpen = true;

  /** @param onCancel Called when the reader wants no more; what it returns is waited for. */
  constructor(highWaterMark: number, onCancel: (reason: unknown) => Promise<void>) {
    this.stream = new ReadableStream<WalChunk>({
      start: (controller) => void (this.#controller = controller),
      pull: () => this.onDemand(),
      cancel: (reason) => {
        this.#isOpen = false;
        return onCancel(reason);
      },
    }, walQueuingStrategy(highWaterMark));
  }

  /** Hands over a chunk. Returns whether there is room for more. */
  push(chunk: WalChunk): boolean {
    if (!this.#isOpen) return false;
    this.#controller.enqueue(chunk);
    this.end = chunk.startLsn + chunk.data.length as Lsn;
    return this.#controller.desiredSize! > 0;
  }

  /** No more will come; what is queued can still be read. */
  close(): void {
    if (this.#isOpen) this.#controller.close();
    this.#isOpen = false;
  }

  /** Ends with an error; what is queued is dropped. */
  fail(error: unknown): void {
    if (this.#isOpen) this.#controller.error(error);
    this.#isOpen = false;
  }
}
