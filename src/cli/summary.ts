/**
 * The result of verbs that write a timeline: where it stands now, and what that took.
 *
 * @module
 */
import { formatLsn } from "../lsn.ts";
import type { Timeline } from "../timeline/timeline.ts";
import type { Follower } from "../write/follower.ts";
import type { UpkeepLoop } from "../upkeep/upkeep_loop.ts";
import type { WalVerifier } from "../upkeep/verify_wal.ts";
import type { OpenedStore } from "./stores.ts";
import { formatBytes, formatDuration, plural } from "./values.ts";
import { jsonDocument, type VerbContext } from "./verb.ts";

export interface SummaryParts {
  timeline: Timeline;
  follower: Follower;
  verifier?: WalVerifier;
  upkeep?: UpkeepLoop;
  opened: OpenedStore;
  /** Monotonic. */
  startedMs: number;
}

/** Writes the summary to standard output. */
export async function writeSummary(parts: SummaryParts, context: VerbContext): Promise<void> {
  const { terminal, reporter, clock } = context;
  const { timeline, follower, verifier, upkeep, opened: { store, tally }, startedMs } = parts;
  const ms = clock.monotonicMs() - startedMs;
  if (reporter.json) {
    await terminal.write(jsonDocument({
      timeline: timeline.name,
      store: store.description,
      systemId: timeline.facts.systemId,
      tli: timeline.tli,
      consistentLsn: formatLsn(timeline.consistentLsn),
      durableLsn: formatLsn(timeline.remoteConsistentLsn),
      layers: timeline.layers.count,
      layerBytes: timeline.layers.totalBytes,
      walRecords: timeline.recordCount,
      walBytes: timeline.walBytes,
      unsupportedRecords: follower.counters.unsupportedRecords,
      seconds: Math.round(ms) / 1000,
      storeRequests: tally,
      compaction: upkeep === undefined
        ? null
        : { ...upkeep.counters, writeAmplification: upkeep.writeAmplification },
      verification: verifier?.summary() ?? null,
    }));
    return;
  }
  const { layers } = timeline;
  await terminal.write(
    `Timeline "${timeline.name}" is durable in ${store.description}: pages can be read from LSN ` +
      `${formatLsn(timeline.consistentLsn)} to ${formatLsn(timeline.remoteConsistentLsn)}.\n` +
      `${plural(timeline.recordCount, "record")}, ${formatBytes(timeline.walBytes)} of WAL in ${
        formatDuration(ms)
      }; ` +
      `${plural(layers.count, "layer")}, ${formatBytes(layers.totalBytes)}; ` +
      `${plural(tally.requests, "request")} to the store, ${formatBytes(tally.bytesWritten)} written.\n` +
      (upkeep === undefined ? "" : compactionLine(upkeep)) +
      (verifier === undefined ? "" : verifier.format()),
  );
}

/** Nothing where nothing was to be done. */
function compactionLine({ counters, writeAmplification }: UpkeepLoop): string {
  const { compactions, imageLayers, deltaBytes, imageBytes } = counters;
  if (compactions + imageLayers === 0 || writeAmplification === null) return "";
  return `${plural(compactions, "compaction")} and ${plural(imageLayers, "image")}, ${
    formatBytes(deltaBytes + imageBytes)
  }: write amplification ${writeAmplification.toFixed(2)}.\n`;
}
