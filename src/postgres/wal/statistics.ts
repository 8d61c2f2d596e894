/**
 * How many records of which type, and how many bytes of records and of page images: `pg_waldump --stats`.
 *
 * For people and for comparisons with PostgreSQL's own tools. Adding a record costs a few additions; the table is text
 * exactly as pg_waldump 15 and later print it.
 *
 * Source: PostgreSQL src/backend/access/transam/xlogstats.c, src/bin/pg_waldump/pg_waldump.c (14-18).
 *
 * @module
 */
import { formatLsn, type Lsn } from "../../lsn.ts";
import type { VersionProfile } from "../versions/profile.ts";
import { fullRecordTypeName } from "./describe.ts";
import type { DecodedRecord } from "./record.ts";
import { RM_MAX_BUILTIN_ID, RM_XACT_ID, rmgrName } from "./rmgr.ts";

const MANAGERS = 256;
/** `MAX_XLINFO_TYPES`: the upper four bits of `xl_info`. */
const TYPES = 16;

/** Sums over some records. Lengths are in bytes. */
export interface RecordSums {
  count: number;
  /** Total length less page images. */
  recordLength: number;
  /** Page images as they are in WAL: without hole, perhaps compressed. */
  imageLength: number;
}

/** One line of the table. */
export interface StatisticsRow extends RecordSums {
  name: string;
}

/** Collects; one instance for one stretch of WAL. */
export class WalStatistics {
  readonly #profile: VersionProfile;
  // Float64: sums of a whole archive pass 2^32.
  readonly #counts = new Float64Array(MANAGERS * TYPES);
  readonly #recordLengths = new Float64Array(MANAGERS * TYPES);
  readonly #imageLengths = new Float64Array(MANAGERS * TYPES);

  constructor(profile: VersionProfile) {
    this.#profile = profile;
  }

  /** Counts the record that the cursor is on. */
  add(record: DecodedRecord): void {
    let imageLength = 0;
    for (let index = 0; index < record.blockCount; index++) imageLength += record.imageLength[index];
    const { rmid, info } = record;
    // The highest bit of a transaction record's four is a flag.
    const type = rmid * TYPES + (rmid === RM_XACT_ID ? info >> 4 & 7 : info >> 4);
    this.#counts[type]++;
    this.#recordLengths[type] += record.totalLength - imageLength;
    this.#imageLengths[type] += imageLength;
  }

  /** Sums by record type, those that occurred, in the order of manager and opcode. */
  byType(): StatisticsRow[] {
    const rows: StatisticsRow[] = [];
    for (let type = 0; type < MANAGERS * TYPES; type++) {
      if (this.#counts[type] === 0) continue;
      const name = fullRecordTypeName(this.#profile, Math.floor(type / TYPES), type % TYPES << 4);
      rows.push({ name, ...this.#sum(type, type + 1) });
    }
    return rows;
  }

  /** Sums by resource manager: all that PostgreSQL has, and custom ones that occurred. */
  byManager(): StatisticsRow[] {
    const rows: StatisticsRow[] = [];
    for (let rmid = 0; rmid < MANAGERS; rmid++) {
      const sums = this.#sum(rmid * TYPES, (rmid + 1) * TYPES);
      if (rmid <= RM_MAX_BUILTIN_ID || sums.count > 0) rows.push({ name: rmgrName(rmid), ...sums });
    }
    return rows;
  }

  total(): RecordSums {
    return this.#sum(0, MANAGERS * TYPES);
  }

  /**
   * The table of `pg_waldump --stats` or, by type, `pg_waldump --stats=record`.
   *
   * @param startLsn Start of the first record.
   * @param endLsn End of the last one.
   */
  format(startLsn: Lsn, endLsn: Lsn, byType: boolean): string {
    const total = this.total();
    const lines = [
      `WAL statistics between ${formatLsn(startLsn)} and ${formatLsn(endLsn)}:`,
      headerLine(["Type", "N", "Record size", "FPI size", "Combined size"], "(%)"),
      headerLine(["----", "-", "-----------", "--------", "-------------"], "---"),
      ...(byType ? this.byType() : this.byManager()).map((row) => rowLine(row, total)),
      "".padEnd(27) + (" " + "--------".padStart(20) + " ".repeat(9)).repeat(4).trimEnd(),
      totalLine(total),
    ];
    return lines.join("\n") + "\n";
  }

  #sum(from: number, to: number): RecordSums {
    const sums = { count: 0, recordLength: 0, imageLength: 0 };
    for (let type = from; type < to; type++) {
      sums.count += this.#counts[type];
      sums.recordLength += this.#recordLengths[type];
      sums.imageLength += this.#imageLengths[type];
    }
    return sums;
  }
}

function headerLine(names: string[], percent: string): string {
  const [first, ...rest] = names;
  return first.padEnd(27) + rest.map((name) => ` ${name.padStart(20)} ${percent.padStart(8)}`).join("");
}

function rowLine(row: StatisticsRow, total: RecordSums): string {
  const combined = row.recordLength + row.imageLength;
  const columns = [
    [row.count, total.count],
    [row.recordLength, total.recordLength],
    [row.imageLength, total.imageLength],
    [combined, total.recordLength + total.imageLength],
  ];
  return row.name.padEnd(27) +
    columns.map(([value, of]) => ` ${String(value).padStart(20)} (${percent(value, of).padStart(6)})`).join(
      "",
    );
}

function totalLine(total: RecordSums): string {
  const combined = total.recordLength + total.imageLength;
  const columns = [
    [total.count, ""],
    [total.recordLength, `[${percent(total.recordLength, combined)}%]`],
    [total.imageLength, `[${percent(total.imageLength, combined)}%]`],
  ];
  return "Total".padEnd(28) +
    columns.map(([value, share]) => `${String(value).padStart(20)} ${String(share).padEnd(9)}`).join("") +
    `${String(combined).padStart(20)} [100%]`;
}

/** `%.2f` of a share in percent, as C rounds it: halves to even, where JavaScript rounds them up. */
function percent(part: number, whole: number): string {
  const value = whole === 0 ? 0 : 100 * part / whole;
  const hundredths = value * 100;
  // Only multiples of 1/8 are exactly half-way in binary.
  if (hundredths % 1 === 0.5 && Number.isInteger(value * 8)) {
    const below = Math.floor(hundredths);
    return ((below % 2 === 0 ? below : below + 1) / 100).toFixed(2);
  }
  return value.toFixed(2);
}
