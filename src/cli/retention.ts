/**
 * How much history to keep, as people say it: options that follow and gc share.
 *
 * @module
 */
import type { RetentionPolicy } from "../timeline/manifest.ts";
import type { RetentionChange } from "../upkeep/retain.ts";
import { optional } from "./config.ts";
import { durationValue, formatBytes, formatDuration, sizeValue } from "./values.ts";

/** Options that change a timeline's policy, which stays for whoever collects next. */
export const RETENTION = {
  keep: optional(
    "DURATION|forever",
    "Keep history of so long, say 7d; stays set in the timeline",
    orForever(durationValue),
  ),
  keepWal: optional(
    "SIZE|forever",
    "Keep history of so much WAL, say 100GB; with --keep, what either keeps is kept",
    orForever(sizeValue),
  ),
};

function orForever(parse: (text: string) => number): (text: string) => number | "forever" {
  return (text) => text === "forever" ? text : parse(text);
}

/** The change of policy that was asked for; undefined if none was. */
export function retentionChange(
  { keep, keepWal }: { keep?: number | "forever"; keepWal?: number | "forever" },
): RetentionChange | undefined {
  if (keep === undefined && keepWal === undefined) return undefined;
  return {
    keepMs: keep === "forever" ? null : keep,
    keepWalBytes: keepWal === "forever" ? null : keepWal,
  };
}

/** For people. */
export function describePolicy({ keepMs, keepWalBytes }: RetentionPolicy): string {
  const parts = [
    ...(keepMs === undefined ? [] : [formatDuration(keepMs)]),
    ...(keepWalBytes === undefined ? [] : [`${formatBytes(keepWalBytes)} of WAL`]),
  ];
  return parts.length === 0 ? "everything is kept" : `${parts.join(" and ")} are kept`;
}
