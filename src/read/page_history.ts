/**
 * The history of one page: everything that touched it, newest to oldest, down to where the timeline begins.
 *
 * Read path, for people. A read of a page stops at the first value that needs nothing older; history goes on below it, by
 * asking for the values below the oldest one that it has, until there is none. A record is kept whole but for its images,
 * and behind an image is the record that it came in. What an image changed is told by comparing it with the page before,
 * too, for PostgreSQL leaves a page's own data out of a record that has its image.
 *
 * @module
 */
import { CorruptionError, UnsupportedError } from "../errors.ts";
import {
  FAMILY_RELATION,
  type KeySpace,
  VALUE_DROPPED,
  VALUE_FROM_ZERO,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_IMAGE_OF_HINT,
  VALUE_KIND_MASK,
  VALUE_RECORD,
  VALUE_ZERO_PAGE,
} from "../layer/key.ts";
import { ImagePlace } from "../layer/image_value.ts";
import type { ValueChain } from "../layer/value_chain.ts";
import type { Lsn } from "../lsn.ts";
import type { RelationId } from "../postgres/effects/effect_sink.ts";
import { describePageChange } from "../postgres/page/describe_change.ts";
import { Page } from "../postgres/page/page.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { ImageCodecs } from "../postgres/wal/block_image.ts";
import { describeBlockChange } from "../postgres/wal/describe_blocks.ts";
import { recordTypeName } from "../postgres/wal/describe.ts";
import { DecodedRecord } from "../postgres/wal/record.ts";
import { RM_XLOG_ID, rmgrName } from "../postgres/wal/rmgr.ts";
import { hintBitsLogged } from "../timeline/facts.ts";
import type { TimelineReader } from "./get_page.ts";
import { findBlock, Replayer } from "./replay.ts";

/** Something that touched a page. */
export interface PageEvent {
  /** End of the record; the page can be read as of here. */
  readonly lsn: Lsn;
  /** `record`; `image`: out of a record; `page`: as the base backup or an image layer has it; `zeros`: it came to be. */
  readonly kind: "record" | "image" | "page" | "zeros" | "dropped";
  /** Resource manager and opcode as PostgreSQL names them; null where no record did it. */
  readonly manager: string | null;
  readonly opcode: string | null;
  /** Transaction, 0 for none; null where it is not known. */
  readonly xid: number | null;
  /** What it did to the page, in words. */
  readonly change: string;
  /** Whether a read can start from it: an image, or a record that makes the page anew. */
  readonly startsAnew: boolean;
  /** Bytes that are kept of it. */
  readonly bytes: number;
}

export interface PageHistoryOptions {
  /** Events at or above this LSN. Default: all. */
  from?: Lsn;
  /** Events at or below this LSN. Default: the last record. */
  to?: Lsn;
  signal?: AbortSignal;
}

/**
 * Walks a page's history, newest first. Ending the loop early stops the reading.
 *
 * @throws {LsnNotReachedError} If `to` lies beyond the last record.
 * @throws {CorruptionError} If stored bytes are damaged. @throws {UnavailableError} If the store does not answer.
 */
export async function* pageHistory(
  reader: TimelineReader,
  codecs: ImageCodecs,
  relation: RelationId,
  fork: number,
  block: number,
  options: PageHistoryOptions = {},
): AsyncGenerator<PageEvent, void> {
  const { timeline } = reader;
  const { from = 0 as Lsn, to = timeline.lastRecordLsn, signal } = options;
  const space = { family: FAMILY_RELATION, a: relation.spc, b: relation.db, c: relation.rel, d: fork };
  const teller = new EventTeller(reader, codecs, space, block);
  let last = Infinity;
  for (let lsn = to; lsn >= from;) {
    const chain = await reader.collectValues(space, block, lsn, { signal, evenInconsistent: true });
    const oldest = chain.oldestLsn();
    if (oldest === undefined) return;
    for (let index = 0; index < chain.length; index++) {
      const at = chain.lsns[index];
      if (at < from) return;
      // Of several values of one LSN the first one found is the one that counts.
      if (at < last) yield await teller.tell(chain, index, signal);
      last = at;
    }
    lsn = oldest - 1 as Lsn;
  }
}

class EventTeller {
  readonly #reader: TimelineReader;
  readonly #replayer: Replayer;
  readonly #space: KeySpace;
  readonly #block: number;
  readonly #record: DecodedRecord;
  readonly #place = new ImagePlace();

  constructor(reader: TimelineReader, codecs: ImageCodecs, space: KeySpace, block: number) {
    const { facts } = reader.timeline;
    const profile = profileOfMajor(facts.major);
    this.#reader = reader;
    this.#replayer = new Replayer(profile, { hintBitsLogged: hintBitsLogged(facts) }, codecs);
    this.#space = space;
    this.#block = block;
    this.#record = new DecodedRecord(profile);
  }

  async tell(chain: ValueChain, index: number, signal?: AbortSignal): Promise<PageEvent> {
    const flags = chain.flags[index];
    const kind = flags & VALUE_KIND_MASK;
    const event = {
      lsn: chain.lsns[index],
      manager: null,
      opcode: null,
      xid: null,
      startsAnew: true,
      bytes: chain.lengths[index],
    };
    if (kind === VALUE_RECORD) return { ...event, ...this.#fromRecord(chain, index) };
    if (kind === VALUE_FULL_PAGE_IMAGE) {
      return { ...event, ...await this.#fromImage(chain, index, signal) };
    }
    if (kind === VALUE_DROPPED) return { ...event, kind: "dropped", change: "dropped" };
    if ((flags & VALUE_ZERO_PAGE) !== 0) return { ...event, kind: "zeros", change: "a page of zeros" };
    return {
      ...event,
      kind: "page",
      change: "the whole page: of a base backup, a copied database, or an image layer",
    };
  }

  #fromRecord(chain: ValueChain, index: number) {
    const record = this.#record;
    record.decode(chain.buffers[index], chain.offsets[index], chain.lsns[index]);
    const startsAnew = (chain.flags[index] & VALUE_FROM_ZERO) !== 0;
    return { kind: "record" as const, ...this.#describe(), startsAnew, bytes: record.totalLength };
  }

  async #fromImage(chain: ValueChain, index: number, signal?: AbortSignal) {
    const record = this.#record;
    const [bytes, flags, lsn] = [chain.buffers[index], chain.flags[index], chain.lsns[index]];
    this.#place.find(bytes, chain.offsets[index], chain.lengths[index], flags, lsn, record);
    const { recordOffset, length } = this.#place;
    if (recordOffset >= 0) {
      record.decode(bytes, recordOffset, lsn);
      // The record's data for this page is often left out; the pages tell more.
      const { change, ...type } = this.#describe();
      return {
        kind: "image" as const,
        ...type,
        change: `${change}; ${await this.#changeAt(lsn, signal)}`,
        bytes: length,
      };
    }
    const isHint = (flags & VALUE_IMAGE_OF_HINT) !== 0;
    return {
      kind: "image" as const,
      manager: rmgrName(RM_XLOG_ID),
      opcode: isHint ? "FPI_FOR_HINT" : "FPI",
      change: `${isHint ? "hint bits set" : "whole page"}; ${await this.#changeAt(lsn, signal)}`,
      bytes: length,
    };
  }

  /** The record that the cursor is on. */
  #describe() {
    const record = this.#record;
    return {
      manager: rmgrName(record.rmid),
      opcode: recordTypeName(record.profile, record.rmid, record.info),
      xid: record.xid,
      change: describeBlockChange(record, findBlock(record, this.#space, this.#block)),
    };
  }

  /** What differs between the page as of an LSN and just below it. */
  async #changeAt(lsn: Lsn, signal?: AbortSignal): Promise<string> {
    try {
      const before = await this.#pageAt(lsn - 1 as Lsn, signal);
      return describePageChange(before, await this.#pageAt(lsn, signal));
    } catch (error) {
      // The page before may be one that cannot be made; what came after stands for itself.
      if (!(error instanceof UnsupportedError || error instanceof CorruptionError)) throw error;
      return `the page before cannot be made: ${error.message}`;
    }
  }

  async #pageAt(lsn: Lsn, signal?: AbortSignal): Promise<Page> {
    const options = { signal, evenInconsistent: true };
    const page = new Page();
    const chain = await this.#reader.collectValues(this.#space, this.#block, lsn, options);
    this.#replayer.replay(chain, this.#space, this.#block, page);
    return page;
  }
}
