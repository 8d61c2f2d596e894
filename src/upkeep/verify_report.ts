/**
 * What verification has found: counts by manager and opcode, and the first differences in full.
 *
 * Upkeep. Plain values that grow; whoever wants to know looks, at any time. The command line prints them, the metrics
 * and the status endpoint read them.
 *
 * @module
 */
import { formatLsn, type Lsn } from "../lsn.ts";

/** Counts of one record type, or of all. */
export interface VerifyCounts {
  /** Records of which at least one page was looked at. */
  records: number;
  /** Pages compared byte by byte, after masking. */
  pages: number;
  /** Pages of which only pd_lsn was compared. */
  positions: number;
  /** Pages that differ, or on which redo failed. */
  differences: number;
  /** Pages with a record that cannot be replayed: of a custom manager, or of an unknown opcode. */
  unsupported: number;
  /** Pages that could not be read, as the store did not answer. */
  unread: number;
}

const COLUMNS = ["records", "pages", "positions", "differences", "unsupported", "unread"] as const;

/** A page that is not what PostgreSQL says, or that redo could not make. */
export interface VerifyDifference {
  /** End of the record, or the LSN that the page was read at. */
  readonly lsn: Lsn;
  /** `Heap/INSERT`; of what lies in a store, what it is. */
  readonly type: string;
  /** One line about the record. */
  readonly record: string;
  /** `1663/5/16384 blk 7`. */
  readonly block: string;
  /** Of the first byte that differs, and that byte of both pages; undefined where there are no two pages. */
  readonly offset?: number;
  readonly got?: number;
  readonly expected?: number;
  /** What is wrong, in a sentence. */
  readonly message: string;
  /** The page as redo makes it, and as PostgreSQL has it: not masked. */
  readonly gotPage?: Uint8Array;
  readonly expectedPage?: Uint8Array;
}

/** A difference without its pages, for JSON. */
export interface VerifyDifferenceSummary {
  readonly lsn: string;
  readonly type: string;
  readonly record: string;
  readonly block: string;
  readonly offset: number | null;
  readonly got: number | null;
  readonly expected: number | null;
  readonly message: string;
}

/** A report as plain values, for JSON. */
export interface VerifySummary extends VerifyCounts {
  /** Share of the images that is looked at, 0 to 1. */
  readonly rate: number;
  /** What was looked at; null when there was nothing. */
  readonly fromLsn: string | null;
  readonly toLsn: string | null;
  readonly types: Record<string, VerifyCounts>;
  /** The first ones; `differences` counts all. */
  readonly firstDifferences: VerifyDifferenceSummary[];
}

/** Differences that a report keeps, the first ones; all are counted. */
const DIFFERENCES_KEPT = 100;

/** See the module's description. */
export class VerifyReport {
  readonly rate: number;
  readonly types: Map<string, VerifyCounts> = new Map();
  /** The first ones, without their pages. */
  readonly differences: VerifyDifferenceSummary[] = [];
  #fromLsn: Lsn | undefined;
  #toLsn: Lsn | undefined;
  readonly #onDifference: ((difference: VerifyDifference) => void) | undefined;

  /** @param onDifference Told of every difference, with its pages. */
  constructor(rate: number, onDifference?: (difference: VerifyDifference) => void) {
    this.rate = rate;
    this.#onDifference = onDifference;
  }

  /** The counts of a record type, to be added to. */
  counts(type: string): VerifyCounts {
    let counts = this.types.get(type);
    if (counts === undefined) this.types.set(type, counts = noCounts());
    return counts;
  }

  /** This stretch has been looked at; stretches come in order. */
  advance(from: Lsn, to: Lsn): void {
    this.#fromLsn ??= from;
    this.#toLsn = to;
  }

  /** Counts a difference of `type`, keeps it if it is one of the first, and tells of it. */
  add(difference: VerifyDifference): void {
    this.counts(difference.type).differences++;
    if (this.differences.length < DIFFERENCES_KEPT) this.differences.push(summaryOf(difference));
    this.#onDifference?.(difference);
  }

  total(): VerifyCounts {
    const total = noCounts();
    for (const counts of this.types.values()) for (const column of COLUMNS) total[column] += counts[column];
    return total;
  }

  /** As plain values. */
  summary(differencesMax = DIFFERENCES_KEPT): VerifySummary {
    return {
      rate: this.rate,
      fromLsn: this.#fromLsn === undefined ? null : formatLsn(this.#fromLsn),
      toLsn: this.#toLsn === undefined ? null : formatLsn(this.#toLsn),
      ...this.total(),
      types: Object.fromEntries([...this.types].sort(([left], [right]) => left < right ? -1 : 1)),
      firstDifferences: this.differences.slice(0, differencesMax),
    };
  }

  /** A table by record type, and the differences; for people. */
  format(): string {
    const lines = [`${"verified".padEnd(30)}${COLUMNS.map((column) => column.padStart(12)).join("")}`];
    const row = (name: string, counts: VerifyCounts) =>
      name.padEnd(30) + COLUMNS.map((column) => String(counts[column]).padStart(12)).join("");
    for (const type of [...this.types.keys()].sort()) lines.push(row(type, this.types.get(type)!));
    lines.push(row("total", this.total()));
    for (const difference of this.differences) lines.push(...formatDifference(difference));
    return lines.join("\n") + "\n";
  }
}

function noCounts(): VerifyCounts {
  return { records: 0, pages: 0, positions: 0, differences: 0, unsupported: 0, unread: 0 };
}

function summaryOf(difference: VerifyDifference): VerifyDifferenceSummary {
  const { lsn, type, record, block, offset = null, got = null, expected = null, message } = difference;
  return { lsn: formatLsn(lsn), type, record, block, offset, got, expected, message };
}

function formatDifference({ lsn, type, record, block, message }: VerifyDifferenceSummary): string[] {
  return [`DIFFERENCE at ${lsn}, ${type}, ${block}: ${message}`, `  ${record}`];
}
