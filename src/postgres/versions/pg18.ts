/** PostgreSQL 18: what differs from the other majors. @module */
import type { VersionProfile } from "./profile.ts";

export const pg18: VersionProfile = Object.freeze({
  major: 18,
  xlogPageMagic: 0xd118,
  bkpImage: { apply: 0x02, compressedMask: 0x1c, pglz: 0x04, lz4: 0x08, zstd: 0x10 },
  heapPrune: "v17",
});
