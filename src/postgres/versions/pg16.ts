/** PostgreSQL 16: what differs from the other majors. @module */
import type { VersionProfile } from "./profile.ts";

export const pg16: VersionProfile = Object.freeze({
  major: 16,
  xlogPageMagic: 0xd113,
  bkpImage: { apply: 0x02, compressedMask: 0x1c, pglz: 0x04, lz4: 0x08, zstd: 0x10 },
  heapPrune: "v16",
});
