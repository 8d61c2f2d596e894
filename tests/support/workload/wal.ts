/** Workload blocks: what concerns WAL itself. @module */
import { type Block, SHARED } from "./session.ts";

export const checkpoint: Block = async (session) => {
  await session.run("CHECKPOINT");
};

/** The rest of a segment stays zero. */
export const switchWal: Block = async (session) => {
  await session.run("SELECT pg_switch_wal()");
};

export const restorePoint: Block = async (session) => {
  await session.run(`SELECT pg_create_restore_point('point ${session.random.uint32()}')`);
};

/** A record of no relation, as long as several pages. */
export const logicalMessage: Block = async (session) => {
  const [transactional, length] = [session.random.chance(0.5), session.random.int(0, 30_000)];
  await session.run(`SELECT pg_logical_emit_message(${transactional}, 'varve', repeat('m', ${length}))`);
};

/** Transactions that came from elsewhere say so in their commit record; progress is kept beside the checkpoints. */
export const replicationOrigin: Block = async (session) => {
  const name = `'origin_${session.database}_${session.index}'`;
  await session.run(`SELECT pg_replication_origin_create(${name})
    WHERE NOT EXISTS (SELECT FROM pg_replication_origin WHERE roname = ${name})`);
  await session.run(`SELECT pg_replication_origin_session_setup(${name})`);
  try {
    await session.transaction([
      `SELECT pg_replication_origin_xact_setup('0/${session.random.int(1, 0xffff).toString(16)}', now())`,
      `INSERT INTO ${SHARED}.journal (note) VALUES ('from elsewhere')`,
    ]);
  } finally {
    await session.run("ROLLBACK; SELECT pg_replication_origin_session_reset()");
  }
  await session.run(`SELECT pg_replication_origin_advance(${name}, pg_current_wal_lsn())`);
  if (session.random.chance(0.3)) await session.run(`SELECT pg_replication_origin_drop(${name})`);
};
