/** PostgreSQL 14: what differs from the other majors. @module */
import type { VersionProfile } from "./profile.ts";

export const pg14: VersionProfile = Object.freeze({
  major: 14,
  xlogPageMagic: 0xd10d,
  bkpImage: { apply: 0x04, compressedMask: 0x02, pglz: 0x02, lz4: 0, zstd: 0 },
  heapPrune: "v14",
});
