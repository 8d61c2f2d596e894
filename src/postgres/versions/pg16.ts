/** PostgreSQL 16: what differs from the other majors. @module */
import type { VersionProfile } from "./profile.ts";

export const pg16: VersionProfile = Object.freeze({
  major: 16,
  xlogPageMagic: 0xd113,
  bkpImage: { apply: 0x02, compressedMask: 0x1c, pglz: 0x04, lz4: 0x08, zstd: 0x10 },
  heapPrune: "v16",
  slruPagenoSize: 4,
  xactStatsItemSize: 12,
  dbase: { createFileCopy: 0x00, createWalLog: 0x10, drop: 0x20 },
  relMap: { maxMappings: 64, fileSize: 524 },
  checkPointHasWalLevel: false,
  hasCheckpointRedo: false,
  controlFile: { version: 1300, charSignedness: false },
  twoPhase: { hasStats: true, fileNameDigits: 8 },
  pruneTruncatesLinePointers: true,
  sizeOfHeapInplace: 2,
  hashSqueezeAlwaysStampsWritePage: true,
  sizeOfSpgxlogVacuumRedirect: 10,
  sizeOfGistDelete: 8,
  replicationCommands: "v15",
});
