/** PostgreSQL 18: what differs from the other majors. @module */
import type { VersionProfile } from "./profile.ts";

export const pg18: VersionProfile = Object.freeze({
  major: 18,
  xlogPageMagic: 0xd118,
  bkpImage: { apply: 0x02, compressedMask: 0x1c, pglz: 0x04, lz4: 0x08, zstd: 0x10 },
  heapPrune: "v17",
  slruPagenoSize: 8,
  xactStatsItemSize: 16,
  dbase: { createFileCopy: 0x00, createWalLog: 0x10, drop: 0x20 },
  relMap: { maxMappings: 64, fileSize: 524 },
  checkPointHasWalLevel: true,
  hasCheckpointRedo: true,
  controlFile: { version: 1800, charSignedness: true },
  twoPhase: { hasStats: true, fileNameDigits: 16 },
  pruneTruncatesLinePointers: true,
  sizeOfHeapInplace: 20,
  hashSqueezeAlwaysStampsWritePage: false,
  sizeOfSpgxlogVacuumRedirect: 10,
  sizeOfGistDelete: 8,
  replicationCommands: "v15",
});
