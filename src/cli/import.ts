/**
 * `varve import`: a timeline from a base backup on disk and a folder of WAL, no server; or more WAL into one.
 *
 * @module
 */
import { formatLsn } from "../lsn.ts";
import { backupDirectory, segmentDirectory } from "../store/directory_files.ts";
import { openLocalLayers } from "../store/local_layers.ts";
import { importTimeline } from "../varve.ts";
import { Cleanup } from "./cleanup.ts";
import { optional, type OptionValues, required, text } from "./config.ts";
import { exitIfAsked, WRITING } from "./follow.ts";
import { openLayerWriting } from "./layer_writing.ts";
import { BytesProgress, FollowingProgress } from "./progress.ts";
import { Shutdown } from "./shutdown.ts";
import { openForWriting } from "./stores.ts";
import { writeSummary } from "./summary.ts";
import { lsnValue } from "./values.ts";
import { COMMON, defineVerb, type VerbContext } from "./verb.ts";
import { exitCodeOfReport, verifyOptions } from "./verification.ts";

const OPTIONS = {
  ...COMMON,
  ...WRITING,
  base: required("DIR", "Base backup (pg_basebackup -Fp), or a cleanly stopped data directory", text),
  wal: required("DIR", "WAL segments from the backup's start on: an archive, or pg_wal", text),
  until: optional("LSN", "Stop at the first record that ends there or later", lsnValue),
};

export const importVerb = defineVerb({
  name: "import",
  summary: "Make a timeline of a base backup and archived WAL; called again, go on where the WAL ended.",
  options: OPTIONS,
  run: ({ values }, context) => runImport(values, context),
});

async function runImport(values: OptionValues<typeof OPTIONS>, context: VerbContext): Promise<number> {
  const { terminal, reporter, clock } = context;
  const startedMs = clock.monotonicMs();
  using shutdown = new Shutdown(terminal);
  await using cleanup = new Cleanup();
  // Breaks off the start; later a signal ends in order, and the archive must not be broken off under it.
  const start = new AbortController();
  let isRunning = false;
  shutdown.onAsked(() => isRunning || start.abort(shutdown.signal.reason));
  const opened = await openForWriting(values.store, context, undefined, start.signal)
    .catch((error) => exitIfAsked(error, shutdown));
  if (typeof opened === "number") return opened;
  cleanup.defer(() => opened.store.close());
  const backup = new BytesProgress({ terminal, reporter, clock }, "bootstrap.progress", "base backup:");
  const importing = await importTimeline({
    store: opened.store,
    clock,
    timeline: values.timeline,
    base: backupDirectory(values.base),
    wal: segmentDirectory(values.wal),
    until: values.until,
    local: values.cache === undefined
      ? undefined
      : await openLocalLayers(`${values.cache}/${values.timeline}`),
    fetching: { localBytes: values.cacheSize },
    ...openLayerWriting(values, cleanup),
    checkpointDistance: values.checkpointDistance,
    flushIntervalMs: values.flushInterval,
    verify: verifyOptions(values, context),
    events: reporter.onEvent,
    onBackupProgress: backup.update,
    signal: start.signal,
  }).catch((error) => exitIfAsked(error, shutdown)).finally(() => backup.end());
  if (typeof importing === "number") return importing;
  isRunning = true;
  cleanup.defer(() => importing.close());
  const { follower, timeline, verifier } = importing;
  const progress = new FollowingProgress({ terminal, reporter, clock }, { timeline });
  shutdown.onAsked(() => {
    reporter.onEvent({
      level: "info",
      topic: "import.stopping",
      message: `Asked to stop: flushing what was read up to ${formatLsn(timeline.lastRecordLsn)}`,
    });
    follower.stop().catch(() => {});
  });
  try {
    await follower.done;
  } finally {
    progress.end();
  }
  await writeSummary({ timeline, follower, verifier, opened, startedMs }, context);
  return exitCodeOfReport(importing.verifier?.report);
}
