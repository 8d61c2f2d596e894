/**
 * What varve tells its source about how far it is: the standby status update that PostgreSQL understands, and the message
 * that Neon's safekeepers do.
 *
 * Write path, the way back: from the timeline's positions to bytes of a CopyData message. Pure. The source sends them from
 * a timer and on request (`source/replication_leg.ts`).
 *
 * Durability rule: `flush` and `apply` are at most what is durable at the acknowledged level. A physical slot lets go of
 * WAL before `flush`, and a synchronous commit is confirmed by it.
 *
 * @module
 */
import { type Lsn, lsnHigh, lsnLow } from "../lsn.ts";

/** Which of the two messages a source takes. */
export type FeedbackKind = "postgres" | "neon";

/** How far varve is. */
export interface FeedbackPositions {
  /** End of the last WAL received. */
  received: Lsn;
  /** End of WAL that need not be sent again after a crash of varve. */
  flushed: Lsn;
  /** End of WAL that need not be sent again ever. To PostgreSQL the same as `flushed`. */
  applied: Lsn;
}

/** `POSTGRES_EPOCH_JDATE` in milliseconds of Unix time: PostgreSQL counts microseconds from 2000-01-01. */
export const POSTGRES_EPOCH_MS = 946_684_800_000;

const STANDBY_STATUS_BYTES = 34;

/**
 * Standby status update (documentation "Streaming Replication Protocol", 14-18), integers big-endian:
 * ```
 * 0  1 'r'   1  8 written   9  8 flushed   17  8 applied   25  8 clock, us since 2000   33  1 reply requested
 * ```
 *
 * @param nowMs Milliseconds since the Unix epoch.
 */
export function encodeStandbyStatus(
  positions: FeedbackPositions,
  nowMs: number,
  replyRequested = false,
): Uint8Array {
  const message = new Uint8Array(STANDBY_STATUS_BYTES);
  message[0] = 0x72; // r
  setLsn(message, 1, positions.received);
  setLsn(message, 9, positions.flushed);
  setLsn(message, 17, positions.applied);
  setPostgresTime(message, 25, nowMs);
  message[33] = replyRequested ? 1 : 0;
  return message;
}

/**
 * Pageserver feedback (Neon libs/utils/src/pageserver_feedback.rs), integers big-endian:
 * ```
 * 0  1 'z'   1  8 length of the body   9  1 number of entries, then each: name, 0, i32 length of the value, value
 * ```
 * Entries, each value of 8 bytes: `current_timeline_size`, `ps_writelsn` (received), `ps_flushlsn` (disk-consistent),
 * `ps_applylsn` (remote-consistent), `ps_replytime` (us since 2000).
 *
 * @param currentTimelineSize Logical size of the timeline in bytes.
 */
export function encodeNeonFeedback(
  positions: FeedbackPositions,
  nowMs: number,
  currentTimelineSize: number,
): Uint8Array {
  const encoder = new TextEncoder();
  const value = (set: (bytes: Uint8Array) => void) => {
    const bytes = new Uint8Array(8);
    set(bytes);
    return bytes;
  };
  const entries: [string, Uint8Array][] = [
    ["current_timeline_size", value((bytes) => setU64(bytes, 0, currentTimelineSize))],
    ["ps_writelsn", value((bytes) => setLsn(bytes, 0, positions.received))],
    ["ps_flushlsn", value((bytes) => setLsn(bytes, 0, positions.flushed))],
    ["ps_applylsn", value((bytes) => setLsn(bytes, 0, positions.applied))],
    ["ps_replytime", value((bytes) => setPostgresTime(bytes, 0, nowMs))],
  ];
  const body: number[] = [entries.length];
  for (const [name, bytes] of entries) body.push(...encoder.encode(name), 0, 0, 0, 0, bytes.length, ...bytes);
  const message = new Uint8Array(9 + body.length);
  message[0] = 0x7a; // z
  setU64(message, 1, body.length);
  message.set(body, 9);
  return message;
}

function setLsn(bytes: Uint8Array, offset: number, value: Lsn): void {
  setU32(bytes, offset, lsnHigh(value));
  setU32(bytes, offset + 4, lsnLow(value));
}

/** A non-negative safe integer. */
function setU64(bytes: Uint8Array, offset: number, value: number): void {
  setU32(bytes, offset, Math.floor(value / 0x1_0000_0000));
  setU32(bytes, offset + 4, value % 0x1_0000_0000);
}

function setU32(bytes: Uint8Array, offset: number, value: number): void {
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(offset, value);
}

/** Signed, for a clock that is set to before 2000. */
function setPostgresTime(bytes: Uint8Array, offset: number, nowMs: number): void {
  const microseconds = BigInt(Math.round((nowMs - POSTGRES_EPOCH_MS) * 1000));
  new DataView(bytes.buffer, bytes.byteOffset).setBigInt64(offset, microseconds);
}
