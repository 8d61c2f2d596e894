/**
 * Moments as people name them: an LSN, a time, or the newest there is; and the LSN that each stands for in a timeline.
 *
 * @module
 */
import { LsnCollectedError, NotFoundError } from "../errors.ts";
import { type Lsn, parseLsn } from "../lsn.ts";
import type { TimelineReader } from "../read/get_page.ts";
import { lsnOfTimestamp } from "../read/time.ts";

/** A moment in a timeline's history. */
export type Moment = { readonly lsn: Lsn } | { readonly unixMicros: number } | "latest";

/** What stands for a moment in the help of an option. */
export const MOMENT_ARGUMENT = "LSN|TIME|latest";

const TIME = /^(\d{4}-\d\d-\d\d)[ Tt](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?\s*([Zz]|[+-]\d\d(?::?\d\d)?)$/;

/** Parses `0/16B3748`, `2025-06-01T12:00:00Z`, `2025-06-01 14:00:00.5+02`, or `latest`. */
export function momentValue(text: string): Moment {
  if (text === "latest") return "latest";
  if (text.includes("/")) {
    try {
      return { lsn: parseLsn(text) };
    } catch {
      // Told below.
    }
  }
  const match = TIME.exec(text.trim());
  if (match !== null) {
    const [, date, clock, fraction = "", zone] = match;
    const offset = /^[zZ]$/.test(zone)
      ? "Z"
      : zone.replace(/^(...):?(\d\d)?$/, (_, hours, minutes = "00") => `${hours}:${minutes}`);
    const ms = Date.parse(`${date}T${clock}${offset}`);
    if (!Number.isNaN(ms)) return { unixMicros: ms * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6)) };
  }
  const zoneless = /^\d{4}-\d\d-\d\d[ Tt]\d\d:\d\d/.test(text)
    ? "; a time needs its zone, as Z or +02:00"
    : "";
  throw new Error(
    `"${text}" is neither an LSN like 0/16B3748, nor a time like 2025-06-01T12:00:00Z, nor "latest"${zoneless}`,
  );
}

/**
 * The LSN that a moment stands for. A time stands for the last moment before the first transaction that ended later, as
 * `recovery_target_time` does; if none has ended later yet, for the last record.
 *
 * @throws {LsnCollectedError} If a time lies before the history that is kept.
 * @throws {NotFoundError} If no times are known.
 */
export async function resolveMoment(
  reader: TimelineReader,
  moment: Moment,
  signal?: AbortSignal,
): Promise<Lsn> {
  if (moment === "latest") return reader.timeline.lastRecordLsn;
  if ("lsn" in moment) return moment.lsn;
  const found = await lsnOfTimestamp(reader, moment.unixMicros, { signal });
  if (found.kind === "found" || found.kind === "future") return found.lsn;
  const time = new Date(moment.unixMicros / 1000).toISOString();
  if (found.kind === "no_data") {
    throw new NotFoundError(
      `Cannot tell the LSN of ${time}: no transaction has ended in the history that is kept`,
      {
        hint: "Name an LSN instead; `varve info` shows those that can be read.",
      },
    );
  }
  throw new LsnCollectedError(0 as Lsn, found.lsn, {
    hint:
      `${time} lies before the first transaction that is kept. \`varve info\` shows the recoverable window.`,
  });
}
