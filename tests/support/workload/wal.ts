/** Workload blocks: what concerns WAL itself. @module */
import type { Block } from "./session.ts";

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
