/**
 * From what a server or a socket said to varve's typed errors, by what the caller should do.
 *
 * Everything in this folder that talks to a server passes its failures through {@linkcode sourceError}: what may heal by
 * itself becomes an UnavailableError and is tried again, the rest carries a hint and ends the follower.
 *
 * Source: PostgreSQL documentation, "PostgreSQL Error Codes"; the messages' origins are named where they matter (14-18).
 *
 * @module
 */
import {
  MismatchError,
  NotFoundError,
  PostgresError,
  UnavailableError,
  VarveError,
  type VarveErrorOptions,
  WalLostError,
} from "../../errors.ts";
import type { ServerError, TransportError } from "../../ports/postgres_driver.ts";

/** Failures of these codes pass: retry later may work. Others mean that something has to be changed. */
const TRANSIENT = /^(08(?!P01)...|53...|57P0.|57014|58000|58030|40...|55P03|25P0.|XX002)$/;

/** Whether trying again may help without anybody changing anything. */
export function isTransient(error: unknown): boolean {
  return error instanceof UnavailableError;
}

/**
 * Makes a typed error of anything thrown by a driver. VarveErrors and abort reasons pass unchanged.
 *
 * @param doing Completes "Cannot …", for example `stream WAL from postgres://…`.
 */
export function sourceError(error: unknown, doing: string, signal?: AbortSignal): unknown {
  if (error instanceof VarveError || (signal?.aborted && error === signal.reason)) return error;
  if (isServerError(error)) return fromServer(error, doing);
  if (isTransportError(error)) return fromTransport(error, doing);
  return new UnavailableError(`Cannot ${doing}: ${describe(error)}`, { cause: error });
}

export function isServerError(error: unknown): error is ServerError {
  const { severity, code } = (error ?? {}) as Partial<ServerError>;
  return typeof severity === "string" && typeof code === "string" && code.length === 5;
}

function isTransportError(error: unknown): error is TransportError {
  return error instanceof Error && typeof (error as Partial<TransportError>).phase === "string";
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function fromTransport(error: TransportError, doing: string): VarveError {
  const options = { cause: error };
  const message = `Cannot ${doing}: ${error.message}`;
  if (error.phase === "closed") return new UnavailableError(message, options, "CONNECTION_CLOSED");
  const code = (error.cause as { code?: string } | undefined)?.code ?? "";
  const isNetwork = /^(ECONN|ETIMEDOUT|EPIPE|EHOST|ENET)/.test(code) ||
    /closed the connection/.test(error.message);
  if (error.phase === "connect" || isNetwork) {
    const hint = "Check host and port, that the server runs, and its listen_addresses.";
    return new UnavailableError(message, { ...options, hint }, "CONNECT_FAILED");
  }
  const hint = /encryption/.test(error.message)
    ? "Turn on ssl at the server, or use sslmode=disable on a network that is trusted."
    : "Give the authority that signed the server's certificate in sslrootcert, and the host name that it was made for; " +
      "sslmode=verify-ca checks no host name.";
  return new VarveError("TLS", message, { ...options, hint });
}

/** What the message says, with what else the server told. */
function serverText(error: ServerError): string {
  return error.detail === undefined ? error.message : `${error.message} (${error.detail})`;
}

function fromServer(error: ServerError, doing: string): VarveError {
  const message = `Cannot ${doing}: the server said ${error.code} ${serverText(error)}`;
  const options: VarveErrorOptions = { cause: error, hint: hintFor(error) };
  switch (error.code) {
    case "55006": // ReplicationSlotAcquire(): active for another process
      return new UnavailableError(message, options, "SLOT_IN_USE");
    case "42704": // ReplicationSlotAcquire(): does not exist
      return new NotFoundError(message, options, "SLOT_NOT_FOUND");
    case "58P01": // XLogReadDetermineTimeline(), WalSndSegmentOpen(): segment has been removed
      return new WalLostError(message, { cause: error });
    case "55000":
      // Sent for invalidated slots (slot.c: "can no longer …", walsender.c: "cannot read from …"), for logical slots and
      // for wal_level=minimal. The last two are told apart by words that translations keep.
      if (/wal_level|logi[ckqs]/.test(error.message)) return new MismatchError(message, options);
      return new WalLostError(message, { cause: error });
    case "53300": // InitWalSenderSlot(): "… exceeds max_wal_senders (currently 0)", which wal_level=minimal enforces
      if (/max_wal_senders.*\b0\)/.test(error.message)) return new MismatchError(message, options);
      break;
  }
  if (TRANSIENT.test(error.code)) return new UnavailableError(message, options, "SERVER_UNAVAILABLE");
  return new PostgresError(error.code, message, options);
}

const HINTS: Record<string, string> = {
  "28P01": "Check user and password (URL, PGPASSWORD or a password file).",
  "28000": 'Let the user in by a line of pg_hba.conf for the database "replication".',
  "42501": "Give the user the right to replicate: ALTER ROLE … REPLICATION.",
  "08P01": "Connect to the server itself: a pooler in between does not pass on replication.",
  "42601": "Connect to the server itself: a pooler in between does not pass on replication.",
  "53300":
    "Raise max_wal_senders or max_connections, or end other connections; wal_level must be replica or logical.",
  "53400": "Raise max_replication_slots, or drop a slot that is not used.",
  "55006":
    "Another follower uses this slot, or the server has not yet noticed that the former connection is gone.",
  "42704": "Create the slot anew, or name another one.",
  "55000": "Use a physical slot; wal_level must be replica or logical.",
};

function hintFor(error: ServerError): string | undefined {
  return HINTS[error.code] ?? error.hint;
}
