/**
 * Write path, 3 of 5: batches of records in, modifications out.
 *
 * For every record: the pages it names become values of their keys (an image, or the record itself), relations grow as
 * block references reach beyond their end, and effects (postgres/effects) become values of other keys. Nothing is
 * replayed here and nothing is read but the sizes that the timeline holds in memory; the one exception is a database
 * copied by file, whose pages are read back at the LSN before the record through the injected `copyDatabase`.
 *
 * Promises: one modification per batch (more only around a copied database); every value is keyed by its record's end
 * LSN, a multiple of 8; running over the same records again yields the same values.
 *
 * @module
 */
import { ProtocolError, UnavailableError, UnsupportedError } from "../errors.ts";
import { Backoff } from "../flow/backoff.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { EventSink } from "../ports/events.ts";
import { type Modification, ModificationBuilder, type ModificationColumns } from "../layer/modification.ts";
import { applyEffects } from "../postgres/effects/effects.ts";
import type { ClusterState } from "../postgres/effects/cluster_state.ts";
import { DecodedRecord } from "../postgres/wal/record.ts";
import type { RecordBatch } from "../postgres/wal/record_batch.ts";
import { RM_DBASE_ID } from "../postgres/wal/rmgr.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { Timeline } from "../timeline/timeline.ts";
import { type DatabaseCopy, IngestEffects } from "./ingest_effects.ts";
import { addBlockReferences } from "./ingest_blocks.ts";

/** Pages of a database as of an LSN, for `CREATE DATABASE ... STRATEGY file_copy`. */
export interface CopiedPage {
  /** Relation file number and fork. */
  rel: number;
  fork: number;
  block: number;
  /** 8192 bytes, or that they are all zero, or that some record of the page cannot be replayed. */
  bytes: Uint8Array | "zeros" | "unsupported";
}

/** What a copied database consists of: sizes of all forks, the relation map, and every page, in groups. */
export interface DatabaseContent {
  forks: { rel: number; fork: number; blocks: number }[];
  relmap?: Uint8Array;
  pages: AsyncIterable<CopiedPage[]>;
}

export interface IngestOptions {
  timeline: Timeline;
  /** Cluster-wide state at the timeline's last record; changed as records come. */
  state: ClusterState;
  /** Reads a database at an LSN that the timeline has reached. */
  readDatabase(spc: number, db: number, lsn: Lsn, signal?: AbortSignal): Promise<DatabaseContent>;
  /** For pauses while a store that is read from does not answer; without one that is an error at once. */
  clock?: Clock;
  events?: EventSink;
  /** Nobody else reads the batches: their columns are used again. Default: false. */
  exclusive?: boolean;
  signal?: AbortSignal;
}

/** Records taken in by kinds that cannot be replayed, for the status endpoint. */
export interface IngestCounters {
  /** Records of unknown opcodes or custom managers: kept, not understood. */
  unsupportedRecords: number;
  /** Pages of copied databases that could not be rebuilt for that reason. */
  unsupportedPages: number;
}

/** See the module's description. The synchronous heart; {@linkcode ingestWal} wraps it in a stream. */
export class WalIngest {
  readonly counters: IngestCounters = { unsupportedRecords: 0, unsupportedPages: 0 };
  readonly #options: IngestOptions;
  readonly #record: DecodedRecord;
  readonly #effects: IngestEffects;
  /** Given back by the sink. */
  readonly #spareColumns: ModificationColumns[] = [];

  constructor(options: IngestOptions) {
    this.#options = options;
    this.#record = new DecodedRecord(profileOfMajor(options.timeline.facts.major));
    this.#effects = new IngestEffects(options.timeline, options.state.nextXid);
  }

  /** Turns a batch into modifications; almost always one. */
  async *ingest(batch: RecordBatch): AsyncGenerator<Modification> {
    let index = 0;
    while (index < batch.count) {
      const first = index;
      const capacity = Math.ceil((batch.count - first) * 1.5);
      const builder = new ModificationBuilder(batch.bytes, capacity, this.#spareColumns);
      this.#effects.begin(builder);
      index = this.#ingestRecords(batch, index, builder);
      this.#effects.endBatch();
      const last = index - 1;
      const copies = this.#effects.takeCopies();
      const endLsn = batch.endLsns[last] as Lsn;
      const walBytes = endLsn - (first === 0 ? batch.startLsn : batch.endLsns[first - 1]);
      const modification = builder.build(
        endLsn,
        this.#options.state.tli,
        copies.length === 0,
        last - first + 1,
        Math.max(0, walBytes),
      );
      yield modification;
      if (copies.length > 0) yield* this.#copyDatabases(copies, endLsn);
    }
    if (this.#options.exclusive) batch.release?.();
  }

  /**
   * Takes in records from `first` on and returns the index of the next. A record about a database stands alone in its
   * modification: copying one needs everything before it to be visible.
   */
  #ingestRecords(batch: RecordBatch, first: number, builder: ModificationBuilder): number {
    const { timeline, state } = this.#options;
    const record = this.#record;
    for (let index = first; index < batch.count; index++) {
      const lsn = batch.endLsns[index] as Lsn;
      if ((lsn & 7) !== 0) {
        throw new ProtocolError(`Cannot ingest a record ending at ${formatLsn(lsn)}: not 8-aligned`);
      }
      record.decode(batch.bytes, batch.offsets[index], lsn);
      if (record.rmid === RM_DBASE_ID && index > first) return index;
      this.#effects.beginRecord(lsn, record);
      addBlockReferences(record, timeline, builder, this.#effects);
      this.#applyEffects(record, state);
      this.#effects.endRecord(state);
      if (record.rmid === RM_DBASE_ID) return index + 1;
    }
    return batch.count;
  }

  #applyEffects(record: DecodedRecord, state: ClusterState): void {
    try {
      applyEffects(record, state, this.#effects);
    } catch (error) {
      // A manager or opcode that we do not know: its page references are kept as they are; only its effects are lost,
      // and reading a page that it touched says so.
      if (!(error instanceof UnsupportedError)) throw error;
      this.counters.unsupportedRecords++;
      this.#options.events?.({ level: "warn", topic: "ingest.unsupported", message: error.message });
    }
  }

  /** The pages of copied databases, in several modifications that complete the record together. */
  async *#copyDatabases(copies: DatabaseCopy[], lsn: Lsn): AsyncGenerator<Modification> {
    const { timeline, state, signal } = this.#options;
    for (const copy of copies) {
      // What the sink has not taken in yet cannot be read; everything before this record must be visible.
      await timeline.waitForRecord(copy.readLsn, signal);
      yield* this.#copyDatabase(copy, lsn);
    }
    yield this.#builderFor(lsn).build(lsn, state.tli, true, 0, 0);
  }

  /** One database. From its beginning again when the store fails in between: that yields the same values. */
  async *#copyDatabase(copy: DatabaseCopy, lsn: Lsn): AsyncGenerator<Modification> {
    const { readDatabase, state, clock, events, signal } = this.#options;
    const backoff = clock && new Backoff(clock, { initialMs: 100, factor: 1.5, maxMs: 15_000 });
    for (;;) {
      let unsupported = 0;
      try {
        const content = await readDatabase(copy.sourceSpc, copy.sourceDb, copy.readLsn, signal);
        const builder = this.#builderFor(lsn);
        this.#effects.addCopiedDatabase(copy, content);
        yield builder.build(lsn, state.tli, false, 0, 0);
        for await (const pages of content.pages) {
          const builder = this.#builderFor(lsn);
          for (const page of pages) {
            this.#effects.addCopiedPage(copy, page);
            if (page.bytes === "unsupported") unsupported++;
          }
          yield builder.build(lsn, state.tli, false, 0, 0);
        }
        if (unsupported > 0) this.#tellUnsupportedPages(copy, unsupported);
        return;
      } catch (error) {
        if (!(error instanceof UnavailableError) || backoff === undefined) throw error;
        events?.({
          level: "warn",
          topic: "ingest.retry",
          message: `Cannot copy a database yet: ${error.message}`,
          error,
        });
        await backoff.wait(signal);
      }
    }
  }

  #tellUnsupportedPages(copy: DatabaseCopy, count: number): void {
    this.counters.unsupportedPages += count;
    this.#options.events?.({
      level: "warn",
      topic: "ingest.unsupported",
      message:
        `${count} pages of database ${copy.sourceDb} cannot be rebuilt; in its copy ${copy.db} they cannot be read ` +
        "until the server writes them whole",
    });
  }

  #builderFor(lsn: Lsn): ModificationBuilder {
    const builder = new ModificationBuilder(new Uint8Array(0), 0);
    this.#effects.begin(builder);
    this.#effects.beginRecord(lsn, this.#record);
    return builder;
  }
}

/** The two ends of the stage, for `pipeThrough`. */
export interface IngestStage {
  readonly writable: WritableStream<RecordBatch>;
  readonly readable: ReadableStream<Modification>;
  readonly counters: IngestCounters;
}

/**
 * The stage as a stream. Back-pressure: a modification is made when the sink asks for one, also those of a copied
 * database, which may be larger than memory.
 */
export function ingestWal(options: IngestOptions): IngestStage {
  const ingest = new WalIngest(options);
  const { writable, readable: batches } = new TransformStream<RecordBatch, RecordBatch>();
  const reader = batches.getReader();
  const modifications = (async function* () {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      yield* ingest.ingest(next.value);
    }
  })();
  const readable = new ReadableStream<Modification>({
    async pull(controller) {
      try {
        const { done, value } = await modifications.next();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        // Tells the source, too; this end fails with the error itself.
        reader.cancel(error).catch(() => {});
        throw error;
      }
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
  return { writable, readable, counters: ingest.counters };
}
