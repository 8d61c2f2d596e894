/**
 * What `varve info` tells of a timeline's history: its window in time, what is kept, and its kin.
 *
 * @module
 */
import { formatLsn } from "../lsn.ts";
import { attachReader } from "../read/attach.ts";
import { timestampOfLsn } from "../read/time.ts";
import type { Manifest } from "../timeline/manifest.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { describePolicy } from "./retention.ts";
import { formatBytes, plural } from "./values.ts";
import type { VerbContext } from "./verb.ts";

/** Times of commits at the window's ends; null where none is known. */
export interface WindowTimes {
  readonly fromTime: string | null;
  readonly toTime: string | null;
}

/** When the last transactions before the window's ends ended; null where that cannot be told now. */
export async function windowTimes(
  store: ObjectStore,
  { timeline }: Manifest,
  { clock, reporter }: VerbContext,
): Promise<WindowTimes> {
  try {
    const attached = await attachReader({ store, clock, timeline, events: reporter.onEvent });
    try {
      const { floorLsn, lastRecordLsn } = attached.timeline.view();
      if (lastRecordLsn < floorLsn) return { fromTime: null, toTime: null };
      const timeAt = async (lsn: typeof floorLsn) => {
        const found = await timestampOfLsn(attached.reader, lsn);
        return found === undefined ? null : new Date(found.unixMicros / 1000).toISOString();
      };
      return { fromTime: await timeAt(floorLsn), toTime: await timeAt(lastRecordLsn) };
    } finally {
      await attached.close();
    }
  } catch (error) {
    reporter.onEvent({
      level: "warn",
      topic: "info.times",
      message: `Cannot tell the times of timeline "${timeline}"`,
      error,
    });
    return { fromTime: null, toTime: null };
  }
}

/** For the JSON document. */
export function describeHistory(manifest: Manifest) {
  const { ancestor, retention, pins, branches, removed, cutoffLsn } = manifest;
  const branch = ({ timeline, lsn }: { timeline: string; lsn: typeof cutoffLsn }) => ({
    timeline,
    lsn: formatLsn(lsn),
  });
  return {
    cutoffLsn: formatLsn(cutoffLsn),
    ancestor: ancestor === undefined ? null : branch(ancestor),
    retention: { keepMs: retention.keepMs ?? null, keepWalBytes: retention.keepWalBytes ?? null },
    pins: pins.map(({ name, lsn, expiresAtMs }) => ({
      name,
      lsn: formatLsn(lsn),
      expiresAt: expiresAtMs === undefined ? null : new Date(expiresAtMs).toISOString(),
    })),
    branches: branches.map(branch),
    removed: { count: removed.length, bytes: removed.reduce((sum, { size }) => sum + size, 0) },
  };
}

/** What {@linkcode describeHistory} says, as rows for people: only what is not as in any timeline. */
export function historyRows(manifest: Manifest, { fromTime, toTime }: WindowTimes): [string, string][] {
  const { ancestor, retention, pins, branches, removed, cutoffLsn, consistentLsn } = manifest;
  const rows: [string, string][] = [];
  if (fromTime !== null || toTime !== null) {
    rows.push([
      "times",
      `last commit ${fromTime ?? "unknown"} at its start, ${toTime ?? "unknown"} at its end`,
    ]);
  }
  if (ancestor !== undefined) rows.push(["branch", `of ${ancestor.timeline} at ${formatLsn(ancestor.lsn)}`]);
  const isLimited = retention.keepMs !== undefined || retention.keepWalBytes !== undefined;
  if (isLimited || cutoffLsn > consistentLsn) {
    rows.push(["retention", `${describePolicy(retention)}; cut-off at ${formatLsn(cutoffLsn)}`]);
  }
  if (pins.length > 0) {
    rows.push([
      "pins",
      pins.map(({ name, lsn }) => `${name} at ${formatLsn(lsn)}`).join(", "),
    ]);
  }
  if (branches.length > 0) {
    const each = branches.map(({ timeline, lsn }) =>
      `${timeline} from ${manifest.timeline} at ${formatLsn(lsn)}`
    );
    rows.push(["branches", each.join(", ")]);
  }
  if (removed.length > 0) {
    const bytes = removed.reduce((sum, { size }) => sum + size, 0);
    rows.push([
      "removed",
      `${plural(removed.length, "layer")}, ${formatBytes(bytes)}: waiting to be deleted`,
    ]);
  }
  return rows;
}
