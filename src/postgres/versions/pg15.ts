/** PostgreSQL 15: what differs from the other majors. @module */
import type { VersionProfile } from "./profile.ts";

export const pg15: VersionProfile = Object.freeze({
  major: 15,
  xlogPageMagic: 0xd110,
  bkpImage: { apply: 0x02, compressedMask: 0x1c, pglz: 0x04, lz4: 0x08, zstd: 0x10 },
  heapPrune: "v14",
  slruPagenoSize: 4,
  xactStatsItemSize: 12,
  dbase: { createFileCopy: 0x00, createWalLog: 0x10, drop: 0x20 },
  relMap: { maxMappings: 62, fileSize: 512 },
  checkPointHasWalLevel: false,
  hasCheckpointRedo: false,
  controlFile: { version: 1300, charSignedness: false },
  twoPhase: { hasStats: true, fileNameDigits: 8 },
  pruneTruncatesLinePointers: true,
  sizeOfHeapInplace: 2,
  hashSqueezeAlwaysStampsWritePage: true,
  sizeOfSpgxlogVacuumRedirect: 8,
  sizeOfGistDelete: 6,
  replicationCommands: "v15",
});
