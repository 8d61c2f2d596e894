/**
 * WAL from a folder of segment files: an archive, a backup's pg_wal, what pg_receivewal wrote.
 *
 * First stage of the write path where there is no server. Yields what the live source yields. Promises:
 * - only segments of the timeline's history are read, and each only as far as the history goes with it;
 * - every page is checked to be the page of its position, in this cluster; recycled and unwritten pages end the WAL;
 * - a segment that is missing between others is an error, never the end.
 *
 * After XLOG_SWITCH the rest of a segment is zeros: that is its end only when no segment follows.
 *
 * Source: PostgreSQL src/include/access/xlog_internal.h (`XLogFileName`), src/backend/access/transam/xlogrecovery.c
 * (`XLogFileReadAnyTLI`), 14-18.
 *
 * @module
 */
import { getI64, getU16, getU32 } from "../../bytes/little_endian.ts";
import { CorruptionError, MismatchError, NotFoundError, UnsupportedError } from "../../errors.ts";
import { abortReason } from "../../flow/abort.ts";
import {
  formatLsn,
  type Lsn,
  SIZE_OF_XLOG_LONG_PHD,
  SIZE_OF_XLOG_SHORT_PHD,
  XLOG_BLCKSZ,
} from "../../lsn.ts";
import {
  parseTimelineHistory,
  switchPointOf,
  type TimelineHistory,
} from "../../postgres/files/timeline_history.ts";
import { profileOfPageMagic } from "../../postgres/versions/all.ts";
import { checkPageHeader, pageHeaderSize, type WalIdentity } from "../../postgres/wal/page_header.ts";
import { DEFAULT_QUEUE_BYTES, type WalChunk, walQueuingStrategy } from "./wal_source.ts";

/** A folder of files, however it is stored. What `read` returns is the caller's own. */
export interface SegmentDirectory {
  /** For messages. */
  readonly description: string;
  /** All files, in any order. */
  list(signal?: AbortSignal): Promise<Iterable<{ name: string; size: number }>>;
  /**
   * `length` bytes from `offset`, fewer only where the file ends.
   *
   * @param into May be filled and returned, as far as it is needed: at least `length` long, nobody else's any more.
   */
  read(
    name: string,
    offset: number,
    length: number,
    signal?: AbortSignal,
    into?: Uint8Array,
  ): Promise<Uint8Array>;
}

export interface ArchiveOptions {
  directory: SegmentDirectory;
  /** The first byte wanted. */
  start: Lsn;
  /** PostgreSQL's timeline at `start`. */
  tli: number;
  /** The timeline to end up on. Default: the latest that descends from `tli` beyond `start`, as recovery does. */
  targetTli?: number;
  /** Unsigned system identifier that the WAL must be of. Default: any, but one. */
  systemId?: bigint;
  /** Bytes of a read and of a chunk. Default: 1 MiB. */
  chunkBytes?: number;
  signal?: AbortSignal;
}

/** What is known of an archive before WAL is read. */
export interface Archive {
  readonly walSegmentSize: number;
  readonly systemId: bigint;
  readonly major: number;
  readonly targetTli: number;
  /** WAL from `start` on; closes at the end of valid WAL. */
  readonly stream: ReadableStream<WalChunk>;
}

/**
 * Looks through the folder and opens a stream.
 *
 * Rejects with NotFoundError when the segment of `start` is missing, MismatchError for WAL of another cluster,
 * UnsupportedError for one of another major, CorruptionError for damaged files. The stream fails with the same.
 */
export async function openArchive(options: ArchiveOptions): Promise<Archive> {
  const { directory, signal, start, chunkBytes = DEFAULT_QUEUE_BYTES } = options;
  if (chunkBytes % XLOG_BLCKSZ !== 0 || chunkBytes <= 0) {
    throw new RangeError(`Cannot read chunks of ${chunkBytes} bytes: expected a multiple of ${XLOG_BLCKSZ}`);
  }
  const sizes = new Map<string, number>();
  for (const { name, size } of await directory.list(signal)) sizes.set(name, size);
  const history = await chooseHistory(options, sizes);
  const identity = await readIdentity(options, sizes);
  const reader = new ArchiveReader(options, sizes, history, identity);
  await reader.checkStart(start);
  const chunks = reader.chunks(start, chunkBytes);
  return {
    walSegmentSize: identity.walSegmentSize,
    systemId: identity.systemId,
    major: identity.profile.major,
    targetTli: history.tli,
    stream: new ReadableStream<WalChunk>({
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: async () => void await chunks.return(),
    }, walQueuingStrategy()),
  };
}

/** The history of the timeline to end up on. */
async function chooseHistory(options: ArchiveOptions, sizes: Map<string, number>): Promise<TimelineHistory> {
  const { directory, tli, targetTli, start, signal } = options;
  const found: TimelineHistory[] = [];
  for (const [name, size] of sizes) {
    const match = /^([0-9A-F]{8})\.history$/.exec(name);
    if (match === null || parseInt(match[1], 16) <= tli) continue;
    const text = new TextDecoder().decode(await directory.read(name, 0, size, signal));
    const history = parseTimelineHistory(text, parseInt(match[1], 16));
    const switchPoint = switchPointOf(history, tli);
    if (switchPoint !== null && start <= switchPoint!) found.push(history);
  }
  const wanted = targetTli ?? Math.max(tli, ...found.map((history) => history.tli));
  if (wanted === tli) return { tli, ancestors: [] };
  const history = found.find((each) => each.tli === wanted);
  if (history !== undefined) return history;
  throw new NotFoundError(
    `Cannot read WAL from ${directory.description}: no history file leads from timeline ${tli} at ` +
      `${formatLsn(start)} to ${wanted}`,
  );
}

interface ArchiveIdentity extends WalIdentity {
  readonly systemId: bigint;
}

/** Learns major, segment size and system from the header of any one segment. */
async function readIdentity(options: ArchiveOptions, sizes: Map<string, number>): Promise<ArchiveIdentity> {
  const { directory, signal } = options;
  for (const name of sizes.keys()) {
    if (!SEGMENT_NAME.test(name)) continue;
    const header = await directory.read(name, 0, SIZE_OF_XLOG_LONG_PHD, signal);
    const isEmpty = header.length < SIZE_OF_XLOG_LONG_PHD || header.every((byte) => byte === 0);
    if (isEmpty) continue; // preallocated
    const profile = profileOfPageMagic(getU16(header, 0));
    if (profile === undefined) {
      throw new UnsupportedError(
        `Cannot read WAL from ${directory.description}: ${name} is of no supported major`,
      );
    }
    const walSegmentSize = getU32(header, 32);
    const isPowerOfTwo = (walSegmentSize & (walSegmentSize - 1)) === 0;
    if (walSegmentSize < 2 ** 20 || walSegmentSize > 2 ** 30 || !isPowerOfTwo) {
      throw new CorruptionError("Cannot read WAL: impossible xlp_seg_size", {
        object: name,
        got: walSegmentSize,
      });
    }
    const systemId = BigInt.asUintN(64, getI64(header, 24));
    if (options.systemId !== undefined && options.systemId !== systemId) {
      throw new MismatchError(
        `Cannot read WAL from ${directory.description}: it is another cluster's, expected system ` +
          `${options.systemId}, got ${systemId}`,
      );
    }
    return { profile, walSegmentSize, systemId };
  }
  throw new NotFoundError(`Cannot read WAL from ${directory.description}: there are no segments`);
}

const SEGMENT_NAME = /^[0-9A-F]{24}(\.partial)?$/;

/** A segment's file, and up to where it counts. */
interface Segment {
  readonly name: string;
  readonly tli: number;
  readonly size: number;
  /** Where the history leaves the file's timeline, or the segment ends. */
  readonly limit: Lsn;
}

/** Chunks whose memory is kept for the next ones. */
const SPARE_MAX = 3;

class ArchiveReader {
  readonly #options: ArchiveOptions;
  readonly #sizes: Map<string, number>;
  readonly #history: TimelineHistory;
  readonly #identity: ArchiveIdentity;
  readonly #spare: Uint8Array[] = [];

  constructor(
    options: ArchiveOptions,
    sizes: Map<string, number>,
    history: TimelineHistory,
    identity: ArchiveIdentity,
  ) {
    this.#options = options;
    this.#sizes = sizes;
    this.#history = history;
    this.#identity = identity;
  }

  async checkStart(start: Lsn): Promise<void> {
    const number = this.#numberOf(start);
    const segment = this.#find(number, start);
    if (segment === undefined) throw this.#missing(number);
    if (await this.#hasValidStart(number)) return;
    throw new CorruptionError("Cannot read WAL: the segment to start with holds other WAL", {
      object: segment.name,
    });
  }

  async *chunks(start: Lsn, chunkBytes: number): AsyncGenerator<WalChunk, void, undefined> {
    const { signal } = this.#options;
    let position = start;
    for (;;) {
      const segment = this.#find(this.#numberOf(position), position);
      if (segment === undefined) return this.#checkIsEnd(position);
      const base = this.#numberOf(position) * this.#identity.walSegmentSize;
      let hasEnded = false;
      while (position < segment.limit && !hasEnded) {
        if (signal?.aborted) throw abortReason(signal);
        // Whole pages are read, to see their headers; what lies before `position` is dropped.
        const from = position - position % XLOG_BLCKSZ;
        const wanted = Math.min(chunkBytes, segment.limit - from, base + segment.size - from);
        const bytes = wanted <= 0 ? EMPTY : await this.#read(segment.name, from - base, wanted);
        const valid = await this.#validLength(bytes, from as Lsn, segment);
        hasEnded = valid < Math.min(chunkBytes, segment.limit - from);
        const end = from + valid as Lsn;
        if (end > position) {
          const isWhole = position === from && valid === bytes.length;
          const data = isWhole ? bytes : bytes.slice(position - from, valid);
          yield {
            startLsn: position,
            data,
            tli: segment.tli,
            serverWalEnd: segment.limit,
            sentAtMs: 0,
            release: () => this.#takeBack(bytes),
          };
          position = end;
        }
      }
      if (hasEnded) return this.#checkIsEnd(position);
    }
  }

  /** Into memory that a chunk has given back, where there is such. */
  #read(name: string, offset: number, length: number): Promise<Uint8Array> {
    const { directory, signal } = this.#options;
    const memory = this.#spare.pop();
    const into = memory !== undefined && memory.length >= length ? memory : undefined;
    return directory.read(name, offset, length, signal, into);
  }

  #takeBack(bytes: Uint8Array): void {
    if (this.#spare.length < SPARE_MAX && !this.#spare.includes(bytes)) this.#spare.push(bytes);
  }

  /** How many of the bytes are WAL of their position. Zeros behind XLOG_SWITCH are, where a segment follows. */
  async #validLength(bytes: Uint8Array, from: Lsn, segment: Segment): Promise<number> {
    for (let at = 0; at < bytes.length; at += XLOG_BLCKSZ) {
      const page = bytes.subarray(at, at + XLOG_BLCKSZ);
      if (this.#isPageOf(page, from + at as Lsn)) continue;
      const next = this.#numberOf(from) + 1;
      if (!(await this.#hasValidStart(next))) return at;
      if (page.every((byte) => byte === 0)) continue;
      throw new CorruptionError("Cannot read WAL: a page in the midst of it is another one's", {
        object: segment.name,
        offset: (from + at) % this.#identity.walSegmentSize,
        lsn: from + at as Lsn,
      });
    }
    return bytes.length;
  }

  #isPageOf(page: Uint8Array, lsn: Lsn): boolean {
    const headerSize = pageHeaderSize(lsn, this.#identity.walSegmentSize);
    if (page.length < Math.max(headerSize, SIZE_OF_XLOG_SHORT_PHD)) return false;
    try {
      checkPageHeader(page, lsn, this.#identity);
      return true;
    } catch (error) {
      if (error instanceof CorruptionError) return false;
      throw error;
    }
  }

  /** Whether a segment is there and begins with its own first page. */
  async #hasValidStart(number: number): Promise<boolean> {
    const start = number * this.#identity.walSegmentSize as Lsn;
    const segment = this.#find(number, start) ?? this.#find(number, start + XLOG_BLCKSZ as Lsn);
    if (segment === undefined) return false;
    const { directory, signal } = this.#options;
    return this.#isPageOf(await directory.read(segment.name, 0, SIZE_OF_XLOG_LONG_PHD, signal), start);
  }

  /** The segment of the latest timeline of the history that has one with `position` in it. */
  #find(number: number, position: Lsn): Segment | undefined {
    const segmentSize = this.#identity.walSegmentSize;
    const { ancestors, tli: target } = this.#history;
    for (let index = ancestors.length; index >= 0; index--) {
      const tli = ancestors[index]?.tli ?? target;
      const begin = ancestors[index - 1]?.switchPoint ?? 0;
      if (number < Math.floor(begin / segmentSize)) continue; // the timeline began later
      const limit = Math.min(ancestors[index]?.switchPoint ?? Infinity, (number + 1) * segmentSize) as Lsn;
      if (position >= limit) continue;
      const whole = segmentFileName(tli, number, segmentSize);
      for (const name of [whole, `${whole}.partial`]) {
        const size = this.#sizes.get(name);
        if (size !== undefined) return { name, tli, size: Math.min(size, segmentSize), limit };
      }
    }
    return undefined;
  }

  /** The end of WAL must not be a hole in it. Recycled segments have later names, and another's content. */
  async #checkIsEnd(position: Lsn): Promise<void> {
    const number = this.#numberOf(position);
    for (const name of this.#sizes.keys()) {
      if (!SEGMENT_NAME.test(name)) continue;
      const { tli, number: other } = parseSegmentName(name, this.#identity.walSegmentSize);
      if (other <= number || this.#find(other, other * this.#identity.walSegmentSize as Lsn)?.tli !== tli) {
        continue;
      }
      if (await this.#hasValidStart(other)) {
        throw this.#missing(number + (this.#isIn(number, position) ? 1 : 0));
      }
    }
  }

  /** Whether `position` lies inside a segment that is there. */
  #isIn(number: number, position: Lsn): boolean {
    return position % this.#identity.walSegmentSize !== 0 && this.#find(number, position) !== undefined;
  }

  #missing(number: number): NotFoundError {
    const name = segmentFileName(this.#history.tli, number, this.#identity.walSegmentSize);
    return new NotFoundError(
      `Cannot read WAL from ${this.#options.directory.description}: segment ${name.slice(8)} is missing, ` +
        `expected it on timeline ${
          [...this.#history.ancestors.map(({ tli }) => tli), this.#history.tli].join(" or ")
        }`,
    );
  }

  #numberOf(position: Lsn): number {
    return Math.floor(position / this.#identity.walSegmentSize);
  }
}

const EMPTY = new Uint8Array(0);

/** `XLogFileName`. */
export function segmentFileName(tli: number, number: number, walSegmentSize: number): string {
  const perId = 0x1_0000_0000 / walSegmentSize;
  const hex = (value: number) => value.toString(16).toUpperCase().padStart(8, "0");
  return hex(tli) + hex(Math.floor(number / perId)) + hex(number % perId);
}

/** Timeline and number of a segment's name. */
function parseSegmentName(name: string, walSegmentSize: number): { tli: number; number: number } {
  const part = (index: number) => parseInt(name.slice(index * 8, index * 8 + 8), 16);
  return { tli: part(0), number: part(1) * (0x1_0000_0000 / walSegmentSize) + part(2) };
}
