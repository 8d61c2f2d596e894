/**
 * The physical replication slot that makes the server keep WAL until it is stored.
 *
 * Source: PostgreSQL src/backend/replication/{repl_gram.y,walsender.c,slot.c}, 14-18. The syntax without brackets is used
 * for creating: every major takes it.
 *
 * @module
 */
import { PostgresError, ProtocolError } from "../../errors.ts";
import { formatLsn, type Lsn } from "../../lsn.ts";
import { raceAbort } from "../../flow/abort.ts";
import { parseLsnOrUndefined, type ServerFacts, textValue } from "./identify.ts";
import { quoteIdentifier, type Session } from "./session.ts";

/** What is known of a slot. */
export interface SlotState {
  /** Whether it was made just now. */
  readonly created: boolean;
  /** From where on the server keeps WAL for it. Null: nothing kept yet, or lost; also when the server cannot tell (14). */
  readonly restartLsn: Lsn | null;
}

const DUPLICATE_OBJECT = "42710";

/**
 * Refuses names that no slot can have (`ReplicationSlotValidateName`).
 *
 * @throws {TypeError} If `name` is not 1 to 63 of a-z, 0-9 and _.
 */
export function checkSlotName(name: string): void {
  if (/^[a-z0-9_]{1,63}$/.test(name)) return;
  throw new TypeError(
    `Cannot use "${name}" as a slot: expected 1 to 63 lower case letters, digits and underscores`,
  );
}

/**
 * Makes the slot, reserving WAL from now on, unless it exists already.
 *
 * Rejects with PostgresError when the slot is a logical one or there is no room for it, MismatchError when wal_level is
 * minimal.
 */
export async function ensureSlot(
  session: Session,
  facts: ServerFacts,
  name: string,
  signal?: AbortSignal,
): Promise<SlotState> {
  checkSlotName(name);
  const canTell = facts.profile.replicationCommands !== "v14";
  if (canTell) {
    const found = await readSlot(session, name, signal);
    if (found !== null) return { created: false, ...found };
  }
  try {
    const command = `CREATE_REPLICATION_SLOT ${quoteIdentifier(name)} PHYSICAL RESERVE_WAL`;
    await session.rows(command, `create slot ${name}`, signal);
  } catch (error) {
    // Also when another session made it since we looked.
    if (!(error instanceof PostgresError && error.sqlState === DUPLICATE_OBJECT)) throw error;
    return { created: false, restartLsn: null };
  }
  return {
    created: true,
    restartLsn: canTell ? (await readSlot(session, name, signal))?.restartLsn ?? null : null,
  };
}

/**
 * Makes sure that nobody streams from the slot, by beginning to. The session is of no more use and to be closed.
 *
 * Rejects with UnavailableError (`SLOT_IN_USE`) when somebody does, PostgresError when it cannot be streamed from.
 */
export async function checkSlotIsFree(session: Session, name: string, signal?: AbortSignal): Promise<void> {
  const start = formatLsn(session.identity.xlogPos);
  const begun = new Promise<void>((resolve, reject) => {
    session.copy(
      `START_REPLICATION SLOT ${quoteIdentifier(name)} PHYSICAL ${start}`,
      `stream WAL at ${start}`,
      {
        row() {},
        begin: resolve,
        data() {},
        end() {},
        done: (error) => error === null ? resolve() : reject(error),
      },
    );
  });
  await raceAbort(begun, signal);
}

/** What READ_REPLICATION_SLOT (15 and later) tells, or null when there is no such slot. */
async function readSlot(
  session: Session,
  name: string,
  signal?: AbortSignal,
): Promise<{ restartLsn: Lsn | null } | null> {
  const doing = `read slot ${name}`;
  const [row] = await session.rows(`READ_REPLICATION_SLOT ${quoteIdentifier(name)}`, doing, signal);
  const [type, restart] = (row ?? []).map(textValue);
  if (type === null || type === undefined) return null;
  if (restart === null) return { restartLsn: null };
  const restartLsn = parseLsnOrUndefined(restart);
  if (restartLsn === undefined) {
    throw new ProtocolError(`Cannot ${doing}: expected an LSN, got "${restart}"`);
  }
  return { restartLsn };
}

/**
 * Drops the slot: the server keeps WAL for it no longer.
 *
 * Rejects with NotFoundError when there is none, UnavailableError (`SLOT_IN_USE`) when somebody streams from it.
 */
export async function dropSlot(session: Session, name: string, signal?: AbortSignal): Promise<void> {
  checkSlotName(name);
  await session.rows(`DROP_REPLICATION_SLOT ${quoteIdentifier(name)}`, `drop slot ${name}`, signal);
}
