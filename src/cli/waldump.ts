/**
 * `varve waldump`: what WAL files hold, record by record or as statistics, from PostgreSQL 14 to 18 alike.
 *
 * WAL ends where nothing more was written. A record that cannot be read is the end too if no valid WAL comes behind it,
 * for a running or crashed server leaves such; otherwise it is damage, and an error.
 *
 * @module
 */
import { TurnsArena } from "../bytes/arena.ts";
import { CorruptionError } from "../errors.ts";
import { formatLsn, type Lsn, XLOG_BLCKSZ } from "../lsn.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import type { VersionProfile } from "../postgres/versions/profile.ts";
import { WalAssembler } from "../postgres/wal/assembler.ts";
import { describeBlock, describeRecord, fullRecordTypeName } from "../postgres/wal/describe.ts";
import { DecodedRecord } from "../postgres/wal/record.ts";
import type { RecordBatch } from "../postgres/wal/record_batch.ts";
import { WalStatistics } from "../postgres/wal/statistics.ts";
import { openArchive } from "../write/source/archive.ts";
import type { WalChunk } from "../write/source/wal_source.ts";
import { oneOf, optional, type OptionValues } from "./config.ts";
import { EXIT_OK, UsageError } from "./exit_codes.ts";
import { lsnValue } from "./values.ts";
import { COMMON, defineVerb, jsonDocument, type VerbContext } from "./verb.ts";
import { findWal } from "./wal_paths.ts";

const OPTIONS = {
  ...COMMON,
  stats: optional(
    "KIND",
    "Count instead: --stats by resource manager, --stats=record by type",
    oneOf("rmgr", "record"),
  ),
  start: optional("LSN", "Begin with the first record at or behind this LSN", lsnValue),
  end: optional("LSN", "Stop at this LSN: records that end behind it are left out", lsnValue),
};

export const waldumpVerb = defineVerb({
  name: "waldump",
  summary: "Show the records of WAL files, or count them.",
  details: "PATH is a segment, or a folder of segments. With --json, records are JSON lines.",
  options: OPTIONS,
  operands: "PATH",
  run: ({ values, operands }, context) => runWaldump(values, operands, context),
});

/** Characters of output that are handed on together. */
const OUTPUT_CHUNK = 64 * 1024;

async function runWaldump(
  values: OptionValues<typeof OPTIONS>,
  paths: string[],
  context: VerbContext,
): Promise<number> {
  const { terminal, reporter } = context;
  const { start, end } = values;
  if (start !== undefined && end !== undefined && end < start) {
    throw new UsageError(
      `Cannot show WAL from ${formatLsn(start)} to ${formatLsn(end)}: it ends before it starts`,
      "Give --end an LSN behind --start.",
    );
  }
  const reader = await RecordReader.open(paths, start, end);
  if (values.stats !== undefined) {
    const statistics = new WalStatistics(reader.profile);
    await reader.forEach((record) => statistics.add(record));
    await terminal.write(formatStatistics(statistics, reader, values.stats === "record", reporter.json));
  } else {
    let output = "";
    const show = reporter.json ? recordAsJson : recordAsText;
    await reader.forEach((record, startLsn) => output += show(record, startLsn), async () => {
      if (output.length < OUTPUT_CHUNK) return;
      await terminal.write(output);
      output = "";
    });
    await terminal.write(output);
  }
  if (reader.damage !== undefined) throw reader.damage;
  if (reader.endNote !== undefined) {
    reporter.onEvent({ level: "info", topic: "waldump.end", message: reader.endNote });
  }
  return EXIT_OK;
}

/** Records of WAL files in order. */
class RecordReader {
  readonly profile: VersionProfile;
  /** Of the records that were shown. */
  firstLsn: Lsn | undefined;
  lastEndLsn: Lsn | undefined;
  /** Why there are no more, where the files do not simply end. */
  endNote: string | undefined;
  /** Records are missing: valid WAL comes behind bytes that cannot be read. */
  damage: CorruptionError | undefined;
  readonly #chunks: ReadableStreamDefaultReader<WalChunk>;
  readonly #assembler: WalAssembler;
  readonly #start: number;
  readonly #end: number;

  private constructor(
    profile: VersionProfile,
    stream: ReadableStream<WalChunk>,
    assembler: WalAssembler,
    start: Lsn | undefined,
    end: Lsn | undefined,
  ) {
    this.profile = profile;
    this.#chunks = stream.getReader();
    this.#assembler = assembler;
    this.#start = start ?? 0;
    this.#end = end ?? Infinity;
  }

  static async open(paths: string[], start: Lsn | undefined, end: Lsn | undefined): Promise<RecordReader> {
    const { directory, startLsn: fileStart, tli } = await findWal(paths, start);
    // From the page that `start` is on: a record before it may go over into it.
    const startLsn = start === undefined ? fileStart : start - start % XLOG_BLCKSZ as Lsn;
    const { major, walSegmentSize, systemId, stream } = await openArchive({
      directory,
      start: startLsn,
      tli,
    });
    const profile = profileOfMajor(major);
    const assembler = new WalAssembler({
      startLsn,
      walSegmentSize,
      profile,
      systemId,
      skipPartial: true,
      endOfWal: "zeros",
      arena: new TurnsArena(), // a batch is shown before the next is made
    });
    return new RecordReader(profile, stream, assembler, start, end);
  }

  /**
   * Calls `take` with each record; it must not keep the cursor.
   *
   * @param between Called between batches, and waited for.
   */
  async forEach(
    take: (record: DecodedRecord, startLsn: Lsn) => void,
    between?: () => Promise<void>,
  ): Promise<void> {
    const record = new DecodedRecord(this.profile);
    for (;;) {
      const { done, value } = await this.#chunks.read();
      if (done) break;
      let isOver = false;
      try {
        let batch = this.#assembler.push(value.startLsn, value.data);
        if (batch !== null) isOver = this.#takeBatch(batch, record, take);
        if (this.#assembler.failure !== undefined) batch = this.#assembler.finish();
      } catch (error) {
        if (!(error instanceof CorruptionError)) throw error;
        await this.#judge(error, value);
        return;
      }
      await between?.();
      if (isOver || this.#assembler.atEnd !== null) break;
    }
    this.#describeEnd();
    await this.#chunks.cancel();
  }

  /** Returns whether the end that was asked for is reached. */
  #takeBatch(
    batch: RecordBatch,
    record: DecodedRecord,
    take: (record: DecodedRecord, startLsn: Lsn) => void,
  ): boolean {
    for (let i = 0; i < batch.count; i++) {
      const startLsn = batch.startLsns[i] as Lsn;
      const endLsn = batch.endLsns[i] as Lsn;
      if (startLsn < this.#start) continue;
      if (endLsn > this.#end) return true;
      record.decode(batch.bytes, batch.offsets[i], endLsn);
      this.firstLsn ??= startLsn;
      this.lastEndLsn = endLsn;
      take(record, startLsn);
    }
    return false;
  }

  /** Whether a record that cannot be read is damage, or where writing has ended: valid pages behind it tell. */
  async #judge(error: CorruptionError, chunk: WalChunk): Promise<void> {
    const failedAt = Math.max(this.#assembler.endLsn, chunk.startLsn);
    let validEnd = chunk.startLsn + chunk.data.length;
    const next = await this.#chunks.read();
    if (!next.done) validEnd = next.value.startLsn + next.value.data.length;
    await this.#chunks.cancel();
    const isFollowed = validEnd > failedAt - failedAt % XLOG_BLCKSZ + XLOG_BLCKSZ;
    if (isFollowed) this.damage = error;
    else this.endNote = `WAL ends at ${formatLsn(this.#assembler.endLsn)}: ${error.message}`;
  }

  #describeEnd(): void {
    const { atEnd, pendingBytes, endLsn } = this.#assembler;
    if (atEnd !== null) this.endNote = `WAL ends at ${formatLsn(atEnd.lsn)}: ${atEnd.reason}`;
    else if (pendingBytes > 0) {
      this.endNote = `WAL ends in the midst of the record that begins at or behind ${formatLsn(endLsn)}`;
    }
  }
}

function recordAsText(record: DecodedRecord, startLsn: Lsn): string {
  return `${formatLsn(startLsn)} ${describeRecord(record)}\n`;
}

function recordAsJson(record: DecodedRecord, startLsn: Lsn): string {
  const blocks = [];
  for (let index = 0; index < record.blockCount; index++) {
    blocks.push({
      id: record.blockId[index],
      block: describeBlock(record, index),
      dataBytes: record.dataLength[index],
      imageBytes: record.imageLength[index],
      imageApplies: record.imageApplies(index),
    });
  }
  return JSON.stringify({
    lsn: formatLsn(startLsn),
    endLsn: formatLsn(record.endLsn),
    prevLsn: formatLsn(record.prevLsn),
    type: fullRecordTypeName(record.profile, record.rmid, record.info),
    xid: record.xid,
    bytes: record.totalLength,
    blocks,
  }) + "\n";
}

function formatStatistics(
  statistics: WalStatistics,
  { firstLsn, lastEndLsn }: RecordReader,
  byType: boolean,
  json: boolean,
): string {
  if (json) {
    return jsonDocument({
      startLsn: firstLsn === undefined ? null : formatLsn(firstLsn),
      endLsn: lastEndLsn === undefined ? null : formatLsn(lastEndLsn),
      rows: byType ? statistics.byType() : statistics.byManager(),
      total: statistics.total(),
    });
  }
  if (firstLsn === undefined || lastEndLsn === undefined) return "No records.\n";
  return statistics.format(firstLsn, lastEndLsn, byType);
}
