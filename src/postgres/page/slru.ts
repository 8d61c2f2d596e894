/**
 * SLRU files: transaction status, multixacts, commit timestamps. Arithmetic of their pages.
 *
 * Shared by effects, redo and readers. SLRU pages have no header, no LSN and no checksum.
 *
 * Source: PostgreSQL src/backend/access/transam/{slru,clog,multixact,commit_ts}.c, src/include/access/slru.h (14-18).
 *
 * @module
 */

/** Which SLRU. Values are stable: they are part of varve's keys. */
export const SLRU_XACT = 0;
export const SLRU_MULTIXACT_OFFSETS = 1;
export const SLRU_MULTIXACT_MEMBERS = 2;
export const SLRU_COMMIT_TS = 3;

export type SlruKind = 0 | 1 | 2 | 3;

/** Directory of each kind inside the data directory. */
export const SLRU_DIRECTORIES: readonly string[] = [
  "pg_xact",
  "pg_multixact/offsets",
  "pg_multixact/members",
  "pg_commit_ts",
];

/** `SLRU_PAGES_PER_SEGMENT`. */
export const SLRU_PAGES_PER_SEGMENT = 32;
