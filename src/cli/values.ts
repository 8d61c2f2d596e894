/**
 * Values as people type and read them: LSNs, sizes, durations, relations, addresses. Pure.
 *
 * Parsers throw an Error that completes "Cannot use --name: ".
 *
 * @module
 */
import { type Lsn, parseLsn } from "../lsn.ts";
import { checkTimelineName } from "../timeline/object_keys.ts";
import { parseStoreUrl } from "../store/open.ts";
import { checkSlotName } from "../write/source/slot.ts";

/** `0/16B3748`. */
export function lsnValue(text: string): Lsn {
  try {
    return parseLsn(text);
  } catch {
    throw new Error(`"${text}" is no LSN, expected the form 0/16B3748`);
  }
}

/** An LSN, or one of a few words. */
export function lsnOr<Word extends string>(...words: Word[]): (text: string) => Lsn | Word {
  return (text) => {
    const word = words.find((each) => each === text);
    if (word !== undefined) return word;
    try {
      return parseLsn(text);
    } catch {
      throw new Error(`"${text}" is neither ${words.join(", ")} nor an LSN of the form 0/16B3748`);
    }
  };
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 2 ** 10,
  kib: 2 ** 10,
  kb: 1e3,
  m: 2 ** 20,
  mib: 2 ** 20,
  mb: 1e6,
  g: 2 ** 30,
  gib: 2 ** 30,
  gb: 1e9,
};

/** Bytes: `256MiB`, `64k`, `1073741824`. */
export function sizeValue(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const unit = match === null ? undefined : SIZE_UNITS[match[2].toLowerCase()];
  if (match === null || unit === undefined) {
    throw new Error(`"${text}" is no size, expected a form like 256MiB`);
  }
  const bytes = Math.round(Number(match[1]) * unit);
  if (!(bytes >= 1 && Number.isSafeInteger(bytes))) throw new Error(`"${text}" is out of range`);
  return bytes;
}

const DURATION_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Milliseconds: `10m`, `1h30m`, `500ms`. */
export function durationValue(text: string): number {
  if (!/^(\d+(\.\d+)?(ms|[smhd]))+$/.test(text.trim())) {
    throw new Error(`"${text}" is no duration, expected a form like 10m or 1h30m`);
  }
  let sum = 0;
  for (const [, value, , unit] of text.matchAll(/(\d+(\.\d+)?)(ms|[smhd])/g)) {
    sum += Number(value) * DURATION_UNITS[unit];
  }
  if (!(sum >= 1 && sum <= 3650 * 86_400_000)) throw new Error(`"${text}" is out of range`);
  return Math.round(sum);
}

const DEFAULTTABLESPACE_OID = 1663;
const GLOBALTABLESPACE_OID = 1664;

/** A relation by its tablespace, database and file number. */
export interface RelationNumbers {
  spc: number;
  db: number;
  rel: number;
}

/** `1663/5/16384`, or a path as `pg_relation_filepath()` tells: `base/5/16384`, `global/1260`, `pg_tblspc/…/5/16384`. */
export function relationValue(text: string): RelationNumbers {
  const numbers = /^(?:(\d+)|base|(global)|pg_tblspc\/(\d+)\/PG_[^/]+)(?:\/(\d+))?\/(\d+)$/.exec(text);
  if (numbers !== null) {
    const [, plain, global, linked, db, rel] = numbers;
    const spc = Number(
      plain ?? linked ?? (global === undefined ? DEFAULTTABLESPACE_OID : GLOBALTABLESPACE_OID),
    );
    const relation = { spc, db: Number(db ?? 0), rel: Number(rel) };
    const hasDatabase = (db !== undefined) === (global === undefined);
    if (hasDatabase && Object.values(relation).every((oid) => oid <= 0xffff_ffff)) return relation;
  }
  throw new Error(
    `"${text}" is no relation, expected TABLESPACE/DATABASE/FILENUMBER as in 1663/5/16384, or a path as ` +
      "pg_relation_filepath() tells",
  );
}

/** A block number. */
export function blockValue(text: string): number {
  const block = Number(text);
  if (!/^\d+$/.test(text) || block >= 0xffff_ffff) throw new Error(`"${text}" is no block number`);
  return block;
}

/** How many: 1 or more. */
export function countValue(text: string): number {
  const count = Number(text);
  if (!/^\d+$/.test(text) || count < 1 || !Number.isSafeInteger(count)) {
    throw new Error(`"${text}" is no number of things, expected 1 or more`);
  }
  return count;
}

/** Where to listen. */
export interface ListenAddress {
  hostname: string;
  port: number;
}

/** `127.0.0.1:9898`, `[::1]:9898`, `:9898` or `9898` on loopback. */
export function listenValue(text: string): ListenAddress {
  const match = /^(?:(?:\[([0-9a-f:.]+)\]|([^:[\]\s]*)):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    throw new Error(`"${text}" is no address, expected a form like 127.0.0.1:9898`);
  }
  return { hostname: match[1] || match[2] || "127.0.0.1", port };
}

/** The URL of a store. Never shown: what was typed may hold a secret in the wrong place. */
export function storeValue(text: string): string {
  try {
    parseStoreUrl(text);
  } catch (error) {
    const { message, hint } = error as Error & { hint?: string };
    throw Object.assign(new Error(message.replace(/^Cannot use the store's URL: /, "")), { hint });
  }
  return text;
}

/** The name of a timeline. */
export function timelineValue(text: string): string {
  checkTimelineName(text);
  return text;
}

/** The name of a replication slot. */
export function slotValue(text: string): string {
  checkSlotName(text);
  return text;
}

/** `1.5 GiB`: three significant digits. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1000 || unit === "TiB") {
      return `${unit === "B" ? Math.round(value) : threeDigits(value)} ${unit}`;
    }
    value /= 1024;
  }
  return `${bytes} B`;
}

/** `12.3 MB/s`. */
export function formatRate(bytesPerSecond: number): string {
  return `${threeDigits(bytesPerSecond / 1e6)} MB/s`;
}

function threeDigits(value: number): string {
  return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2);
}

/** `850 ms`, `12 s`, `3 min 20 s`, `5 h 10 min`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = Math.round(ms / 1000);
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** `1 layer`, `2 layers`. */
export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
