/**
 * Who the server is: IDENTIFY_SYSTEM and the settings that a timeline depends on, read and judged.
 *
 * Parsers are pure; the two functions that ask take a session. A timeline records what it was bootstrapped with, and a
 * server that differs is refused at every connect, naming both values.
 *
 * Source: PostgreSQL src/backend/replication/walsender.c (`IdentifySystem`), documentation "Streaming Replication
 * Protocol" (14-18). SHOW is used because a physical replication connection runs no queries.
 *
 * @module
 */
import { MismatchError, ProtocolError, UnsupportedError } from "../../errors.ts";
import { formatLsn, type Lsn, parseLsn, XLOG_BLCKSZ } from "../../lsn.ts";
import type { DriverRow } from "../../ports/postgres_driver.ts";
import { profileOfMajor } from "../../postgres/versions/all.ts";
import type { VersionProfile } from "../../postgres/versions/profile.ts";
import type { Session } from "./session.ts";

/** What IDENTIFY_SYSTEM answers. */
export interface SystemIdentity {
  /** Unsigned 64 bits, made by initdb; the same for a cluster and its standbys. */
  readonly systemId: bigint;
  /** PostgreSQL's own timeline number. */
  readonly tli: number;
  /** How far the server's WAL was flushed (on a standby: received or replayed) at that moment. */
  readonly xlogPos: Lsn;
  /** Null for physical replication. */
  readonly dbName: string | null;
}

/** Settings of the server that matter here. */
export interface ServerFacts {
  /** For example 170004. */
  readonly serverVersion: number;
  readonly profile: VersionProfile;
  readonly walSegmentSize: number;
  readonly blockSize: number;
  readonly walBlockSize: number;
  readonly dataChecksums: boolean;
  readonly walLevel: string;
  readonly fullPageWrites: boolean;
  readonly walLogHints: boolean;
  /** Whether it is a standby. */
  readonly inRecovery: boolean;
  /** 0: never. */
  readonly walSenderTimeoutMs: number;
}

/** What a timeline has recorded of its server. */
export interface RecordedServer {
  readonly systemId: bigint;
  readonly major: number;
  readonly walSegmentSize: number;
  readonly blockSize: number;
}

/** Pages of other sizes are not supported; PostgreSQL must be built specially to have them. */
const BLCKSZ = 8192;
const TLI_MAX = 0xffff_ffff;
const decoder = new TextDecoder();

/** A value of a row as text. */
export function textValue(value: Uint8Array | null | undefined): string | null {
  return value === null || value === undefined ? null : decoder.decode(value);
}

/**
 * Reads the answer to IDENTIFY_SYSTEM.
 *
 * @throws {ProtocolError} If it is none.
 */
export function parseIdentifySystem(rows: readonly DriverRow[]): SystemIdentity {
  const [systemId, tli, xlogPos, dbName] = (rows[0] ?? []).map(textValue);
  const wrong = (what: string, got: string | null | undefined) =>
    new ProtocolError(`Cannot read the answer to IDENTIFY_SYSTEM: expected ${what}, got ${got ?? "nothing"}`);
  if (rows.length !== 1) throw wrong("one row", `${rows.length}`);
  if (!/^\d{1,20}$/.test(systemId ?? "") || BigInt(systemId!) >= 1n << 64n) {
    throw wrong("a system identifier of 64 bits", systemId);
  }
  return {
    systemId: BigInt(systemId!),
    tli: parseTli(tli) ?? fail(wrong("a timeline number", tli)),
    xlogPos: parseLsnOrUndefined(xlogPos) ?? fail(wrong("an LSN", xlogPos)),
    dbName: dbName ?? null,
  };
}

function fail(error: Error): never {
  throw error;
}

/** A timeline number, 1 to 2^32 - 1. */
export function parseTli(text: string | null | undefined): number | undefined {
  if (!/^\d{1,10}$/.test(text ?? "")) return undefined;
  const tli = Number(text);
  return tli >= 1 && tli <= TLI_MAX ? tli : undefined;
}

/** An LSN, or undefined where `text` is none. */
export function parseLsnOrUndefined(text: string | null | undefined): Lsn | undefined {
  try {
    return parseLsn(text ?? "");
  } catch {
    return undefined;
  }
}

/** Asks for the settings, all at once. */
export async function readServerFacts(session: Session, signal?: AbortSignal): Promise<ServerFacts> {
  const show = async (name: string) => {
    const rows = await session.rows(`SHOW ${name}`, `read setting ${name}`, signal);
    return textValue(rows[0]?.[0]) ?? "";
  };
  const names = [
    "server_version_num",
    "wal_segment_size",
    "block_size",
    "wal_block_size",
    "data_checksums",
    "wal_level",
    "full_page_writes",
    "wal_log_hints",
    "in_hot_standby",
    "wal_sender_timeout",
  ];
  const values = await Promise.all(names.map(show));
  return parseServerFacts(new Map(names.map((name, index) => [name, values[index]])));
}

/**
 * Reads settings as SHOW tells them.
 *
 * @throws {ProtocolError} If one is missing or malformed.
 * @throws {UnsupportedError} If the major is none of those supported.
 */
export function parseServerFacts(settings: ReadonlyMap<string, string>): ServerFacts {
  const get = <T>(name: string, parse: (text: string) => T | undefined): T =>
    parse(settings.get(name) ?? "") ??
      fail(new ProtocolError(`Cannot read setting ${name}: got "${settings.get(name) ?? ""}"`));
  const isOn = (text: string) => (text === "on" || text === "off" ? text === "on" : undefined);
  const serverVersion = get(
    "server_version_num",
    (text) => (/^\d{5,6}$/.test(text) ? Number(text) : undefined),
  );
  return {
    serverVersion,
    profile: profileOfMajor(Math.floor(serverVersion / 10_000)),
    walSegmentSize: get("wal_segment_size", parseBytes),
    blockSize: get("block_size", parseBytes),
    walBlockSize: get("wal_block_size", parseBytes),
    dataChecksums: get("data_checksums", isOn),
    walLevel: get("wal_level", (text) => (text === "" ? undefined : text)),
    fullPageWrites: get("full_page_writes", isOn),
    walLogHints: get("wal_log_hints", isOn),
    inRecovery: get("in_hot_standby", isOn),
    walSenderTimeoutMs: get("wal_sender_timeout", parseMilliseconds),
  };
}

const BYTE_UNITS: Record<string, number> = {
  "": 1,
  B: 1,
  kB: 2 ** 10,
  MB: 2 ** 20,
  GB: 2 ** 30,
  TB: 2 ** 40,
};
const TIME_UNITS: Record<string, number> = { "": 1, ms: 1, s: 1e3, min: 6e4, h: 36e5, d: 864e5 };

/** A size as SHOW tells it: `16MB`. */
export function parseBytes(text: string): number | undefined {
  return parseWithUnit(text, BYTE_UNITS);
}

/** A duration as SHOW tells it: `1min`, or `0`. */
export function parseMilliseconds(text: string): number | undefined {
  return parseWithUnit(text, TIME_UNITS);
}

function parseWithUnit(text: string, units: Record<string, number>): number | undefined {
  const match = /^(\d{1,15})([a-zA-Z]*)$/.exec(text);
  const unit = match === null || !Object.hasOwn(units, match[2]) ? undefined : units[match[2]];
  return unit === undefined ? undefined : Number(match![1]) * unit;
}

/**
 * Refuses a server that varve cannot follow, whatever the timeline.
 *
 * @throws {UnsupportedError} If it was built with other block sizes.
 * @throws {MismatchError} If its wal_level keeps too little.
 */
export function checkServerUsable(facts: ServerFacts, source: string): void {
  if (facts.blockSize !== BLCKSZ || facts.walBlockSize !== XLOG_BLCKSZ) {
    throw new UnsupportedError(
      `Cannot follow ${source}: expected pages of ${BLCKSZ} bytes in files and WAL, ` +
        `got ${facts.blockSize} and ${facts.walBlockSize}`,
    );
  }
  const size = facts.walSegmentSize;
  if (size < 2 ** 20 || size > 2 ** 30 || (size & (size - 1)) !== 0) {
    throw new UnsupportedError(
      `Cannot follow ${source}: expected WAL segments of a power of two from 1 MiB to 1 GiB, got ${size} bytes`,
    );
  }
  if (facts.walLevel === "minimal") {
    throw new MismatchError(`Cannot follow ${source}: expected wal_level replica or logical, got minimal`, {
      hint: "Set wal_level = replica in postgresql.conf and restart the server.",
    });
  }
}

/**
 * Refuses a server that is not the one the timeline was bootstrapped from.
 *
 * @throws {MismatchError} Naming what differs and both values.
 */
export function checkServerMatches(
  identity: SystemIdentity,
  facts: ServerFacts,
  recorded: RecordedServer,
  source: string,
): void {
  const refuse = (what: string, expected: bigint | number, got: bigint | number, hint: string) => {
    if (expected === got) return;
    throw new MismatchError(
      `Cannot follow ${source}: its ${what} differs, expected ${expected}, got ${got}`,
      { hint },
    );
  };
  const another =
    "This timeline belongs to another cluster: check the source, or follow under a new timeline name.";
  const upgraded = "After a major upgrade, follow under a new timeline name: pages of two majors do not mix.";
  refuse("system identifier", recorded.systemId, identity.systemId, another);
  refuse("major version", recorded.major, facts.profile.major, upgraded);
  refuse("WAL segment size", recorded.walSegmentSize, facts.walSegmentSize, another);
  refuse("block size", recorded.blockSize, facts.blockSize, another);
}

/** For events: what is known of a server in one line. */
export function describeServer(identity: SystemIdentity, facts: ServerFacts): string {
  return `PostgreSQL ${facts.profile.major} (${facts.serverVersion}), system ${identity.systemId}, ` +
    `timeline ${identity.tli}, WAL up to ${formatLsn(identity.xlogPos)}`;
}
