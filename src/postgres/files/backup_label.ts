/**
 * `backup_label`: where the WAL that makes a base backup consistent begins.
 *
 * Bootstrap and `import` read it. Text, a line each, in this order (`build_backup_content` and `read_backup_label`,
 * access/transam/xlogbackup.c and xlogrecovery.c, 14-18):
 * ```
 * START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
 * CHECKPOINT LOCATION: 0/2000060
 * BACKUP METHOD: streamed
 * BACKUP FROM: primary
 * START TIME: 2024-05-01 10:00:00 UTC
 * LABEL: pg_basebackup base backup
 * START TIMELINE: 1
 * INCREMENTAL FROM LSN: 0/1000028        17 and later, incremental backups only
 * ```
 *
 * @module
 */
import { CorruptionError, UnsupportedError } from "../../errors.ts";
import { type Lsn, parseLsn } from "../../lsn.ts";

export const BACKUP_LABEL_FILE = "backup_label";

/** What a backup label says. */
export interface BackupLabel {
  /** Redo starts here. */
  readonly startLsn: Lsn;
  /** Name of the segment that holds `startLsn`. */
  readonly startSegment: string;
  /** Start of the checkpoint record that the backup began with. */
  readonly checkpointLsn: Lsn;
  /** PostgreSQL's timeline number at `startLsn`. */
  readonly startTli: number;
  /** `streamed`, or another word for labels that PostgreSQL's backup functions did not write. */
  readonly method: string;
  /** Taken from a standby: no XLOG_BACKUP_END will tell where it ends. */
  readonly fromStandby: boolean;
  /** As the server wrote it, in its own time zone; empty if missing. */
  readonly startTime: string;
  /** The name given to the backup; empty if missing. */
  readonly label: string;
}

const MAX_LABEL_LENGTH = 65536;

/**
 * Reads a backup label.
 *
 * @throws {CorruptionError} If one of the first two lines is missing or malformed, or the timelines contradict.
 * @throws {UnsupportedError} If the backup is an incremental one.
 */
export function parseBackupLabel(bytes: Uint8Array): BackupLabel {
  const text = new TextDecoder().decode(bytes.subarray(0, MAX_LABEL_LENGTH));
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const colon = line.indexOf(": ");
    // The first of each counts: a LABEL may hold anything, but no line break.
    if (colon > 0 && !fields.has(line.slice(0, colon))) {
      fields.set(line.slice(0, colon), line.slice(colon + 2));
    }
  }
  if (fields.has("INCREMENTAL FROM LSN")) {
    throw new UnsupportedError("Cannot use this backup: it is an incremental one", {
      hint: "Make a full one of it with pg_combinebackup first.",
    });
  }
  const start = /^([0-9A-F]{1,8}\/[0-9A-F]{1,8}) \(file ([0-9A-F]{24})\)$/.exec(
    fields.get("START WAL LOCATION") ?? "",
  );
  const checkpoint = /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.exec(fields.get("CHECKPOINT LOCATION") ?? "");
  if (start === null || checkpoint === null) {
    const line = start === null ? "START WAL LOCATION" : "CHECKPOINT LOCATION";
    throw new CorruptionError(`Cannot read backup label: no usable line "${line}"`, {
      object: BACKUP_LABEL_FILE,
      got: JSON.stringify(fields.get(line) ?? "nothing"),
    });
  }
  const startTli = parseInt(start[2].slice(0, 8), 16);
  checkTimeline(startTli, fields.get("START TIMELINE"));
  return {
    startLsn: labelLsn(start[1]),
    startSegment: start[2],
    checkpointLsn: labelLsn(checkpoint[0]),
    startTli,
    method: fields.get("BACKUP METHOD") ?? "",
    fromStandby: fields.get("BACKUP FROM") === "standby",
    startTime: fields.get("START TIME") ?? "",
    label: fields.get("LABEL") ?? "",
  };
}

function checkTimeline(ofSegment: number, named: string | undefined): void {
  if (named !== undefined && Number(named) !== ofSegment) {
    throw new CorruptionError("Cannot read backup label: timelines contradict each other", {
      object: BACKUP_LABEL_FILE,
      expected: ofSegment,
      got: named,
    });
  }
}

function labelLsn(text: string): Lsn {
  try {
    return parseLsn(text);
  } catch (cause) {
    throw new CorruptionError("Cannot read backup label: LSN out of range", {
      object: BACKUP_LABEL_FILE,
      got: text,
    }, { cause });
  }
}
