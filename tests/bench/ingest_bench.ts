/**
 * Ingest to flushed layers in a directory, beside PostgreSQL's crash recovery of the same WAL, in one run.
 *
 * Reach: at least 1.5 times PostgreSQL's speed; memory below 700 MB at a checkpoint distance of 256 MiB.
 *
 * @module
 */
import { openLayerEncoder } from "../../src/deps/layer_encoder.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import { FilesStore } from "../../src/store/files.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { importTimeline } from "../../src/varve.ts";
import { bootstrapFromFiles } from "../../src/write/bootstrap_from_files.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { timeRecovery } from "./recovery.ts";
import { type WalCorpus, walCorpus } from "./wal_corpus.ts";

const MIB = 1024 * 1024;
const RUNS = 3;

interface Ingest {
  seconds: number;
  layerBytes: number;
  /** Most bytes of resident memory meanwhile. */
  peak: number;
}

interface IngestOptions {
  /** The store, which holds the timeline as of its base backup. */
  store: string;
  base: string;
  wal: string;
  fsync?: boolean;
  threaded?: boolean;
}

/** Ingests a corpus in a process of its own, so that memory is that of a follower and nothing else. */
async function timeIngest(
  corpus: WalCorpus,
  how: Pick<IngestOptions, "fsync" | "threaded"> = {},
): Promise<Ingest> {
  await using directory = await temporaryDirectory("ingest-bench");
  const store = await FilesStore.open({ path: directory.path, fsync: false });
  const base = backupDirectory(corpus.baseDir);
  await bootstrapFromFiles({ base, store, timeline: "main", clock: systemClock });
  await store.close();
  const options: IngestOptions = {
    ...how,
    store: directory.path,
    base: corpus.baseDir,
    wal: corpus.wal.path,
  };
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", new URL(import.meta.url).pathname, CHILD, JSON.stringify(options)],
    stderr: "inherit",
  }).output();
  if (!success) throw new Error("Cannot ingest: the process failed");
  return JSON.parse(new TextDecoder().decode(stdout));
}

/** Tells a process of this script that it is one that ingests. */
const CHILD = "--ingest";

/** The seconds from the first WAL byte to the last flush. */
async function ingest(options: IngestOptions): Promise<Ingest> {
  const store = await FilesStore.open({ path: options.store, fsync: options.fsync ?? false });
  const encoder = options.threaded ? openLayerEncoder() : undefined;
  const memory = watchMemory();
  const imported = await importTimeline({
    store,
    encoder,
    clock: systemClock,
    base: backupDirectory(options.base),
    wal: segmentDirectory(options.wal),
  });
  const started = performance.now();
  await imported.follower.done;
  const seconds = (performance.now() - started) / 1000;
  let layerBytes = 0;
  for (const layer of imported.timeline.layers.layers()) if (layer.kind === "delta") layerBytes += layer.size;
  const peak = memory.stop();
  await imported.close();
  encoder?.close();
  await store.close();
  return { seconds, layerBytes, peak };
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

export async function ingestBench(transactions = 1_000_000): Promise<void> {
  const corpus = await walCorpus({ transactions });
  const walBytes = corpus.endLsn - corpus.startLsn;
  const line = (what: string, seconds: number, peak?: number) =>
    console.log(
      `${what.padEnd(44)} ${seconds.toFixed(2)} s ${
        (walBytes / MIB / seconds).toFixed(0).padStart(6)
      } MiB/s ${(corpus.records / seconds / 1e6).toFixed(2)} M records/s` +
        (peak === undefined ? "" : `, memory ${(peak / MIB).toFixed(0)} MiB`),
    );
  console.log(`WAL: ${(walBytes / MIB).toFixed(0)} MiB, ${corpus.records} records`);
  const [inPlace, threaded]: [number[], number[]] = [[], []];
  for (let run = 0; run < RUNS; run++) {
    const recovery = await timeRecovery(corpus);
    line("PostgreSQL crash recovery (fsync off)", recovery.elapsedSeconds);
    const alone = await timeIngest(corpus);
    line("varve ingest, one thread (fsync off)", alone.seconds, alone.peak);
    const both = await timeIngest(corpus, { threaded: true });
    line("varve ingest, layer encoder (fsync off)", both.seconds, both.peak);
    const synced = await timeIngest(corpus, { threaded: true, fsync: true });
    line("varve ingest, layer encoder (fsync on)", synced.seconds, synced.peak);
    console.log(`  layers ${(both.layerBytes / MIB).toFixed(0)} MiB`);
    inPlace.push(recovery.elapsedSeconds / alone.seconds);
    threaded.push(recovery.elapsedSeconds / both.seconds);
  }
  console.log(`varve / PostgreSQL, one thread: ${summary(inPlace)}`);
  console.log(`varve / PostgreSQL, layer encoder: ${summary(threaded)}, reach 1.5`);
}

function summary(ratios: number[]): string {
  const median = ratios.toSorted((left, right) => left - right)[RUNS >> 1];
  return `${ratios.map((ratio) => ratio.toFixed(2)).join(", ")} (median ${median.toFixed(2)})`;
}

if (import.meta.main) {
  if (Deno.args[0] === CHILD) console.log(JSON.stringify(await ingest(JSON.parse(Deno.args[1]))));
  else await ingestBench(Number(Deno.args[0] ?? 1_000_000));
}
