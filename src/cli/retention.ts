/**
 * How much history to keep, as people say it: options that follow and gc share.
 *
 * @module
 */
import type { RetentionPolicy } from "../timeline/manifest.ts";
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

/** The policy that results, or undefined if nothing was said: it stays as it is. */
export function changedPolicy(
  values: { keep?: number | "forever"; keepWal?: number | "forever" },
  present: RetentionPolicy,
): RetentionPolicy | undefined {
  const { keep, keepWal } = values;
  if (keep === undefined && keepWal === undefined) return undefined;
  const keepMs = keep ?? present.keepMs;
  const keepWalBytes = keepWal ?? present.keepWalBytes;
  return {
    ...(typeof keepMs === "number" && { keepMs }),
    ...(typeof keepWalBytes === "number" && { keepWalBytes }),
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
