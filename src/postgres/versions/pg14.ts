/** PostgreSQL 14: what differs from the other majors. @module */
import type { VersionProfile } from "./profile.ts";

export const pg14: VersionProfile = Object.freeze({
  major: 14,
  xlogPageMagic: 0xd10d,
  bkpImage: { apply: 0x04, compressedMask: 0x02, pglz: 0x02, lz4: 0, zstd: 0 },
  heapPrune: "v14",
  slruPagenoSize: 4,
  xactStatsItemSize: 0,
  dbase: { createFileCopy: 0x00, createWalLog: -1, drop: 0x10 },
  relMap: { maxMappings: 62, fileSize: 512 },
  checkPointHasWalLevel: false,
  hasCheckpointRedo: false,
  controlFile: { version: 1300, charSignedness: false },
  twoPhase: { hasStats: false, fileNameDigits: 8 },
  pruneTruncatesLinePointers: false,
  sizeOfHeapInplace: 2,
  hashSqueezeAlwaysStampsWritePage: true,
  sizeOfSpgxlogVacuumRedirect: 8,
  sizeOfGistDelete: 6,
  replicationCommands: "v14",
});
