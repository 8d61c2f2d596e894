/**
 * The messages that a walsender sends inside its copy stream. Pure.
 *
 * Integers are big-endian, times are microseconds since 2000-01-01 (documentation "Streaming Replication Protocol", 14-18):
 * ```
 * XLogData   0  1 'w'   1  8 start of the WAL   9  8 end of WAL at the server   17  8 server's clock   25  WAL
 * keepalive  0  1 'k'   1  8 end of WAL sent    9  8 server's clock   17  1 whether a reply is wanted at once
 * ```
 *
 * @module
 */
import { ProtocolError } from "../../errors.ts";
import type { Lsn } from "../../lsn.ts";
import { POSTGRES_EPOCH_MS } from "../feedback.ts";

/** WAL begins here in an XLogData message. */
export const XLOG_DATA_HEADER_BYTES = 25;
const KEEPALIVE_BYTES = 18;
const XLOG_DATA = 0x77; // w
const KEEPALIVE = 0x6b; // k

/** Header of a message that carries WAL; the WAL is the rest of the message. */
export interface XLogDataMessage {
  readonly kind: "wal";
  readonly startLsn: Lsn;
  readonly walEnd: Lsn;
  /** Milliseconds since the Unix epoch. */
  readonly sentAtMs: number;
}

/** A message that says that the server is there. */
export interface KeepaliveMessage {
  readonly kind: "keepalive";
  readonly walEnd: Lsn;
  /** Milliseconds since the Unix epoch. */
  readonly sentAtMs: number;
  readonly replyRequested: boolean;
}

/**
 * Reads the head of one message.
 *
 * @throws {ProtocolError} If it is of an unknown kind, too short, or names a position beyond 2^53.
 */
export function parseReplicationMessage(message: Uint8Array): XLogDataMessage | KeepaliveMessage {
  switch (message[0]) {
    case XLOG_DATA:
      if (message.length < XLOG_DATA_HEADER_BYTES) {
        throw wrongLength("XLogData", XLOG_DATA_HEADER_BYTES, message);
      }
      return {
        kind: "wal",
        startLsn: getLsn(message, 1),
        walEnd: getLsn(message, 9),
        sentAtMs: getTimeMs(message, 17),
      };
    case KEEPALIVE:
      if (message.length !== KEEPALIVE_BYTES) throw wrongLength("keepalive", KEEPALIVE_BYTES, message);
      return {
        kind: "keepalive",
        walEnd: getLsn(message, 1),
        sentAtMs: getTimeMs(message, 9),
        replyRequested: message[17] !== 0,
      };
    default:
      throw new ProtocolError(
        `Cannot read replication message: expected w or k, got ${
          message.length === 0 ? "an empty one" : `byte ${message[0]}`
        }`,
      );
  }
}

function wrongLength(what: string, expected: number, message: Uint8Array): ProtocolError {
  return new ProtocolError(`Cannot read ${what} message: expected ${expected} bytes, got ${message.length}`);
}

function getU32(bytes: Uint8Array, offset: number): number {
  return ((bytes[offset] << 24) | (bytes[offset + 1] << 16) | (bytes[offset + 2] << 8) |
    bytes[offset + 3]) >>> 0;
}

function getLsn(bytes: Uint8Array, offset: number): Lsn {
  const value = getU32(bytes, offset) * 0x1_0000_0000 + getU32(bytes, offset + 4);
  if (value > Number.MAX_SAFE_INTEGER) {
    throw new ProtocolError(`Cannot read replication message: position ${value} is beyond 2^53`);
  }
  return value as Lsn;
}

/** To the millisecond's fraction: what a double has of 64 bits suffices. */
function getTimeMs(bytes: Uint8Array, offset: number): number {
  const microseconds = (getU32(bytes, offset) | 0) * 0x1_0000_0000 + getU32(bytes, offset + 4);
  return POSTGRES_EPOCH_MS + microseconds / 1000;
}
