/**
 * Ingest to flushed layers in a directory, beside PostgreSQL's crash recovery of the same WAL, in one run.
 *
 * Reach: at least 1.5 times PostgreSQL's speed; memory below 700 MB at a checkpoint distance of 256 MiB.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { FilesStore } from "../../src/store/files.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { importTimeline } from "../../src/varve.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { timeRecovery } from "./recovery.ts";
import { walCorpus } from "./wal_corpus.ts";

const MIB = 1024 * 1024;
const RUNS = 3;

/** Imports the corpus and returns the seconds from the first WAL byte to the last flush. */
async function timeIngest(
  corpus: Awaited<ReturnType<typeof walCorpus>>,
  fsync: boolean,
): Promise<{ seconds: number; layerBytes: number }> {
  await using directory = await temporaryDirectory("ingest-bench");
  const store = await FilesStore.open({ path: directory.path, fsync });
  const imported = await importTimeline({
    store,
    clock: systemClock,
    base: backupDirectory(corpus.baseDir),
    wal: segmentDirectory(corpus.wal.path),
  });
  const started = performance.now();
  await imported.follower.done;
  const seconds = (performance.now() - started) / 1000;
  let layerBytes = 0;
  for (const layer of imported.timeline.layers.layers()) if (layer.kind === "delta") layerBytes += layer.size;
  await imported.close();
  await store.close();
  return { seconds, layerBytes };
}

/** Samples resident memory until stopped. */
function watchMemory(): { stop(): number } {
  let peak = 0;
  const sample = () => peak = Math.max(peak, Deno.memoryUsage().rss);
  const timer = setInterval(sample, 20);
  return {
    stop() {
      clearInterval(timer);
      return peak;
    },
  };
}

export async function ingestBench(transactions = 400_000): Promise<void> {
  const corpus = await walCorpus({ transactions });
  const walBytes = corpus.endLsn - corpus.startLsn;
  const line = (what: string, seconds: number) =>
    console.log(
      `${what.padEnd(44)} ${seconds.toFixed(2)} s ${
        (walBytes / MIB / seconds).toFixed(0).padStart(6)
      } MiB/s ${(corpus.records / seconds / 1e6).toFixed(2)} M records/s`,
    );
  console.log(`WAL: ${(walBytes / MIB).toFixed(0)} MiB, ${corpus.records} records`);
  const ratios: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    const recovery = await timeRecovery(corpus);
    line("PostgreSQL crash recovery (fsync off)", recovery.elapsedSeconds);
    const memory = watchMemory();
    const ingest = await timeIngest(corpus, false);
    const peak = memory.stop();
    line("varve ingest to flushed layers (fsync off)", ingest.seconds);
    const synced = await timeIngest(corpus, true);
    line("varve ingest to flushed layers (fsync on)", synced.seconds);
    console.log(
      `  layers ${(ingest.layerBytes / MIB).toFixed(0)} MiB, peak memory ${(peak / MIB).toFixed(0)} MiB`,
    );
    ratios.push(recovery.elapsedSeconds / ingest.seconds);
  }
  ratios.sort((left, right) => left - right);
  console.log(
    `varve / PostgreSQL: ${ratios.map((ratio) => ratio.toFixed(2)).join(", ")} (median ${
      ratios[RUNS >> 1].toFixed(2)
    }, reach 1.5)`,
  );
}

if (import.meta.main) await ingestBench();
