/**
 * Timeline history files: which of PostgreSQL's timelines a timeline descends from, and where it left each.
 *
 * Pure. From TIMELINE_HISTORY on the write path, and from `NNNNNNNN.history` in a WAL archive.
 *
 * Text, one ancestor a line, oldest first; `#` begins a comment (PostgreSQL src/backend/access/transam/timeline.c, 14-18):
 * ```
 * tli <tab> switch point as X/Y <tab> reason
 * ```
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";
import { formatLsn, INVALID_LSN, type Lsn, parseLsn } from "../../lsn.ts";

/** One timeline that was left. */
export interface TimelineAncestor {
  readonly tli: number;
  /** WAL before this LSN belongs to `tli` or one before it. */
  readonly switchPoint: Lsn;
  readonly reason: string;
}

/** A timeline and its ancestors, oldest first. */
export interface TimelineHistory {
  readonly tli: number;
  readonly ancestors: readonly TimelineAncestor[];
}

/** The name of a timeline's history file. */
export function timelineHistoryFileName(tli: number): string {
  return `${tli.toString(16).toUpperCase().padStart(8, "0")}.history`;
}

/**
 * Reads a history file.
 *
 * @param tli The timeline whose history it is.
 * @throws {CorruptionError} If a line is malformed, or timelines or switch points are out of order.
 */
export function parseTimelineHistory(text: string, tli: number): TimelineHistory {
  const ancestors: TimelineAncestor[] = [];
  for (const line of text.split("\n")) {
    if (/^\s*(#|$)/.test(line)) continue;
    const ancestor = parseLine(line, tli);
    const before = ancestors.at(-1);
    if (ancestor.tli >= tli || ancestor.tli <= (before?.tli ?? 0)) {
      throw new CorruptionError("Cannot read timeline history: timelines do not ascend", {
        object: timelineHistoryFileName(tli),
        expected: `more than ${before?.tli ?? 0} and less than ${tli}`,
        got: ancestor.tli,
      });
    }
    if (ancestor.switchPoint < (before?.switchPoint ?? INVALID_LSN)) {
      throw new CorruptionError("Cannot read timeline history: switch points do not ascend", {
        object: timelineHistoryFileName(tli),
        expected: `${formatLsn(before!.switchPoint)} or more`,
        got: formatLsn(ancestor.switchPoint),
      });
    }
    ancestors.push(ancestor);
  }
  return { tli, ancestors };
}

function parseLine(line: string, tli: number): TimelineAncestor {
  const match = /^\s*(\d{1,10})\s+([0-9a-fA-F]{1,8}\/[0-9a-fA-F]{1,8})(?:\s+(.*?))?\s*$/.exec(line);
  if (match === null || Number(match[1]) < 1 || Number(match[1]) > 0xffff_ffff) {
    throw new CorruptionError("Cannot read timeline history: malformed line", {
      object: timelineHistoryFileName(tli),
      expected: "number, X/Y and reason",
      got: JSON.stringify(line.slice(0, 100)),
    });
  }
  return { tli: Number(match[1]), switchPoint: parseLsn(match[2]), reason: match[3] ?? "" };
}

/** Where the history left `tli`: undefined when it is the history's own timeline, null when it is none of its. */
export function switchPointOf(history: TimelineHistory, tli: number): Lsn | undefined | null {
  if (tli === history.tli) return undefined;
  return history.ancestors.find((ancestor) => ancestor.tli === tli)?.switchPoint ?? null;
}

/** The timeline that wrote the byte at `position`. */
export function timelineAt(history: TimelineHistory, position: Lsn): number {
  return history.ancestors.find((ancestor) => position < ancestor.switchPoint)?.tli ?? history.tli;
}
