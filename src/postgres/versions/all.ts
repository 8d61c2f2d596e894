/** All supported majors, and how to find the one that wrote some bytes. @module */
import { UnsupportedError } from "../../errors.ts";
import { pg14 } from "./pg14.ts";
import { pg15 } from "./pg15.ts";
import { pg16 } from "./pg16.ts";
import { pg17 } from "./pg17.ts";
import { pg18 } from "./pg18.ts";
import type { VersionProfile } from "./profile.ts";

export const ALL_PROFILES: readonly VersionProfile[] = [pg14, pg15, pg16, pg17, pg18];

/**
 * The profile of a major version.
 *
 * @throws {UnsupportedError} If the major is not 14-18.
 */
export function profileOfMajor(major: number): VersionProfile {
  const profile = ALL_PROFILES.find((candidate) => candidate.major === major);
  if (profile === undefined) {
    throw new UnsupportedError(`Cannot handle PostgreSQL ${major}: supported majors are 14 to 18`);
  }
  return profile;
}

/** The profile whose WAL pages carry this `xlp_magic`, or undefined. */
export function profileOfPageMagic(magic: number): VersionProfile | undefined {
  return ALL_PROFILES.find((candidate) => candidate.xlogPageMagic === magic);
}
