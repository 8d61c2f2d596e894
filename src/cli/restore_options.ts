/**
 * Options of `varve restore`: where to, as of when, and what becomes of it.
 *
 * @module
 */
import { readFile } from "node:fs/promises";
import type { Lsn } from "../lsn.ts";
import type { TimelineReader } from "../read/get_page.ts";
import { lsnOfRestorePoint, lsnOfTimestamp, lsnOfXid } from "../read/time.ts";
import { defaulted, flag, oneOf, optional, type OptionValues, text } from "./config.ts";
import { UsageError } from "./exit_codes.ts";
import { type Moment, MOMENT_ARGUMENT, momentValue, resolveMoment } from "./moments.ts";
import { lsnValue } from "./values.ts";
import { COMMON, STORE, TIMELINE } from "./verb.ts";

export const RESTORE_OPTIONS = {
  ...COMMON,
  store: STORE,
  timeline: TIMELINE,
  at: optional(MOMENT_ARGUMENT, "As of this LSN or time (default: latest)", momentValue),
  targetLsn: optional("LSN", "As of this LSN: records that end there are in", lsnValue),
  targetTime: optional("TIME", "As recovery_target_time: all that ended at that time or before", timeValue),
  targetXid: optional("XID", "As recovery_target_xid: up to the end of this transaction", xidValue),
  targetName: optional("NAME", "As recovery_target_name: a point of pg_create_restore_point()", text),
  targetExclusive: flag("Stop just before the target, not after it: recovery_target_inclusive = off"),
  as: defaulted(
    "KIND",
    "directory, standby (to stream on from the primary) or tar",
    "directory",
    oneOf("directory", "standby", "tar"),
  ),
  tablespaceMap: optional(
    "OLD=NEW,…",
    "Where tablespaces go, by where they were (default: where they were)",
    mapValue,
  ),
  db: optional("NAME", "Only this database and the shared catalogs; drop the others before use", text),
  keepTli: flag("Keep the timeline number; never archive such a cluster's WAL beside the primary's"),
  tli: optional("N", "Timeline number (default: a fresh one)", tliValue),
  owner: optional("USER|UID:GID", "Whom the files are to belong to, when run by root", text),
  force: flag("Replace a directory that is not empty"),
  dryRun: flag("Tell what would be written and fetched, and write nothing"),
  verify: optional("all", "Read all back: every page's header, checksum and LSN", verifyValue),
  boot: optional("PGBIN", "Start this server on it, and run amcheck over every index and heap", text),
  receipt: optional("FILE", "Write a receipt as JSON (default with --boot: DIR.receipt.json)", text),
  noSync: flag("Do not wait until files are durable"),
};

/** As `recovery_target_time`. */
function timeValue(value: string): Extract<Moment, { unixMicros: number }> {
  const moment = momentValue(value);
  if (moment === "latest" || "lsn" in moment) throw new Error(`"${value}" is no time`);
  return moment;
}

function xidValue(value: string): number {
  const xid = Number(value);
  if (!/^\d+$/.test(value) || !Number.isSafeInteger(xid) || xid < 3) {
    throw new Error(`"${value}" is no transaction id`);
  }
  return xid;
}

function tliValue(value: string): number {
  const tli = Number(value);
  if (!/^\d+$/.test(value) || tli < 1 || tli > 0x7fff_ffff) {
    throw new Error(`"${value}" is no timeline number`);
  }
  return tli;
}

function verifyValue(value: string): true {
  if (!/^(all|1|true|yes|on)$/i.test(value)) throw new Error("expected no value");
  return true;
}

/** `OLD=NEW`, several separated by commas. */
export function mapValue(value: string): ReadonlyMap<string, string> {
  const map = new Map<string, string>();
  for (const pair of value.split(",")) {
    const match = /^(\/[^=]*)=(\/.*)$/.exec(pair.trim());
    if (match === null) throw new Error(`"${pair}" is no mapping, expected the form /old/path=/new/path`);
    map.set(match[1].replace(/\/+$/, ""), match[2].replace(/\/+$/, ""));
  }
  return map;
}

/** A user of this machine, or numbers. */
export async function ownerOf(value: string): Promise<{ uid: number; gid: number }> {
  const numbers = /^(\d+):(\d+)$/.exec(value);
  if (numbers !== null) return { uid: Number(numbers[1]), gid: Number(numbers[2]) };
  const line = (await readFile("/etc/passwd", "utf8").catch(() => "")).split("\n")
    .find((each) => each.startsWith(`${value}:`));
  const [, , uid, gid] = line?.split(":") ?? [];
  if (uid === undefined || gid === undefined) {
    throw new UsageError(
      `Cannot use --owner: there is no user "${value}" on this machine`,
      "Give UID:GID instead.",
    );
  }
  return { uid: Number(uid), gid: Number(gid) };
}

/**
 * The LSN that the options name.
 *
 * @throws {UsageError} If they name several.
 */
export async function targetLsn(
  reader: TimelineReader,
  values: OptionValues<typeof RESTORE_OPTIONS>,
  signal?: AbortSignal,
): Promise<Lsn> {
  const { at, targetLsn: lsn, targetTime, targetXid, targetName, targetExclusive: exclusive } = values;
  const given = [at, lsn, targetTime, targetXid, targetName].filter((value) => value !== undefined);
  if (given.length > 1) {
    throw new UsageError("Cannot restore to several targets", "Give one --at or --target-… only.");
  }
  if (exclusive && lsn === undefined && targetTime === undefined && targetXid === undefined) {
    throw new UsageError(
      "Cannot stop before the target",
      "--target-exclusive goes with --target-lsn, -time or -xid.",
    );
  }
  // Record ends are multiples of 8: one byte before is before every record that ends there.
  if (lsn !== undefined) return exclusive ? lsn - 1 as Lsn : lsn;
  if (targetXid !== undefined) {
    const end = await lsnOfXid(reader, targetXid, { signal });
    return exclusive ? end.previousLsn : end.lsn;
  }
  if (targetName !== undefined) return await lsnOfRestorePoint(reader, targetName, { signal });
  if (targetTime !== undefined && exclusive) {
    const found = await lsnOfTimestamp(reader, targetTime.unixMicros, { exclusive, signal });
    if (found.kind === "found" || found.kind === "future") return found.lsn;
  }
  return await resolveMoment(reader, targetTime ?? at ?? "latest", signal);
}
