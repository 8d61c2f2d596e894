/**
 * Ingest to flushed layers in a directory, beside PostgreSQL's crash recovery of the same WAL, taking turns in one run:
 *
 * ```
 * deno run -A tests/bench/ingest_bench.ts [--transactions 2500000] [--runs 3] [--way "fsync off"]
 * ```
 *
 * Reach: at least 1.5 times PostgreSQL's speed; memory below 700 MB at a checkpoint distance of 256 MiB. There is enough WAL
 * that the first and the last layer, where one of the two threads has nothing to do, weigh little. With fsync off both
 * sides write to memory where there is plenty (/dev/shm); with fsync on, ours writes to disk, while recovery's elapsed time
 * has no fsync in it either way.
 *
 * Time on a processor stands beside elapsed time, of each thread. On a machine that others use too, two threads rarely
 * have a processor each: then the busiest thread's time says what could have been.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { openLayerEncoder } from "../../src/deps/layer_encoder.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import { FilesStore } from "../../src/store/files.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { importTimeline } from "../../src/varve.ts";
import { bootstrapFromFiles } from "../../src/write/bootstrap_from_files.ts";
import { removeTree, scratchDirectory } from "../support/temp.ts";
import { timeRecovery } from "./recovery.ts";
import { type WalCorpus, walCorpus } from "./wal_corpus.ts";

const MIB = 1024 * 1024;

interface Ingest {
  seconds: number;
  /** Seconds on a processor: of the thread that follows, of the one that encodes, and of all others. */
  cpu: { follow: number; encode: number; rest: number };
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
  const dir = how.fsync ? undefined : await scratchDirectory();
  const path = await Deno.makeTempDir({ dir, prefix: "varve-ingest-bench-" });
  try {
    const store = await FilesStore.open({ path, fsync: false });
    const base = backupDirectory(corpus.baseDir);
    await bootstrapFromFiles({ base, store, timeline: "main", clock: systemClock });
    await store.close();
    const options: IngestOptions = { ...how, store: path, base: corpus.baseDir, wal: corpus.wal.path };
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", new URL(import.meta.url).pathname, CHILD, JSON.stringify(options)],
      stderr: "inherit",
    }).output();
    if (!success) throw new Error("Cannot ingest: the process failed");
    return JSON.parse(new TextDecoder().decode(stdout));
  } finally {
    await removeTree(path);
  }
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
  const cpuBefore = threadSeconds();
  await imported.follower.done;
  const seconds = (performance.now() - started) / 1000;
  const cpu = threadSeconds();
  for (const thread of ["follow", "encode", "rest"] as const) cpu[thread] -= cpuBefore[thread];
  let layerBytes = 0;
  for (const layer of imported.timeline.layers.layers()) if (layer.kind === "delta") layerBytes += layer.size;
  const peak = memory.stop();
  await imported.close();
  encoder?.close();
  await store.close();
  return { seconds, cpu, layerBytes, peak };
}

/** Seconds on a processor so far, by thread; all 0 where the system does not tell. */
function threadSeconds(): Ingest["cpu"] {
  const seconds = { follow: 0, encode: 0, rest: 0 };
  if (Deno.build.os !== "linux") return seconds;
  for (const { name } of Deno.readDirSync("/proc/self/task")) {
    try {
      // proc(5): what follows the bracket of the name begins with field 3; fields 14 and 15 are in 1/100 s
      const [, thread, rest] = /^\d+ \((.*)\) (.*)$/s.exec(
        Deno.readTextFileSync(`/proc/self/task/${name}/stat`),
      )!;
      const fields = rest.split(" ");
      const kind = Number(name) === Deno.pid ? "follow" : thread.startsWith("worker") ? "encode" : "rest";
      seconds[kind] += (Number(fields[11]) + Number(fields[12])) / 100;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // the thread has ended meanwhile
    }
  }
  return seconds;
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

const WAYS: [name: string, how: Pick<IngestOptions, "fsync" | "threaded">][] = [
  ["one thread, fsync off", {}],
  ["layer encoder, fsync off", { threaded: true }],
  ["layer encoder, fsync on", { threaded: true, fsync: true }],
];

/** Ratios of one way to ingest, one for each run. */
interface Ratios {
  elapsed: number[];
  /** Recovery's processor time by that of our busiest thread. */
  busiest: number[];
  /** Recovery's processor time by that of all our threads. */
  all: number[];
}

/** @param only What the names of the ways to measure contain. */
export async function ingestBench(transactions: number, runs: number, only: string): Promise<void> {
  const corpus = await walCorpus({ transactions, scale: Math.max(1, Math.round(transactions / 100_000)) });
  const walBytes = corpus.endLsn - corpus.startLsn;
  const line = (what: string, seconds: number, more: string) =>
    console.log(
      `${what.padEnd(42)} ${seconds.toFixed(2).padStart(6)} s ${
        (walBytes / MIB / seconds).toFixed(0).padStart(4)
      } MiB/s ${(corpus.records / seconds / 1e6).toFixed(2)} M records/s, ${more}`,
    );
  console.log(`WAL: ${(walBytes / MIB).toFixed(0)} MiB, ${corpus.records} records, ${runs} runs`);
  const ways = WAYS.filter(([name]) => name.includes(only));
  const ratios: Ratios[] = ways.map(() => ({ elapsed: [], busiest: [], all: [] }));
  let peak = 0;
  for (let run = 0; run < runs; run++) {
    const recovery = await timeRecovery(corpus);
    const { elapsedSeconds, cpuSeconds } = recovery;
    line("PostgreSQL crash recovery", elapsedSeconds, `cpu ${cpuSeconds.toFixed(2)} s`);
    for (const [index, [name, how]] of ways.entries()) {
      const { seconds, cpu, layerBytes, ...got } = await timeIngest(corpus, how);
      peak = Math.max(peak, got.peak);
      line(
        `varve ingest, ${name}`,
        seconds,
        `cpu ${cpu.follow.toFixed(2)} + ${cpu.encode.toFixed(2)} + ${cpu.rest.toFixed(2)} s, ` +
          `memory ${(got.peak / MIB).toFixed(0)} MiB, layers ${(layerBytes / MIB).toFixed(0)} MiB`,
      );
      ratios[index].elapsed.push(elapsedSeconds / seconds);
      ratios[index].busiest.push(cpuSeconds / Math.max(cpu.follow, cpu.encode));
      ratios[index].all.push(cpuSeconds / (cpu.follow + cpu.encode + cpu.rest));
    }
  }
  console.log(
    "cpu: the thread that follows + the one that encodes + all others (garbage collection, compiler, files)",
  );
  for (const [index, [name]] of ways.entries()) {
    const { elapsed, busiest, all } = ratios[index];
    console.log(`varve / PostgreSQL, ${name}: elapsed ${summary(elapsed)}, reach 1.5`);
    console.log(`  by processor time of the busiest thread: ${summary(busiest)}; of all: ${summary(all)}`);
  }
  console.log(`memory: at most ${(peak / 1e6).toFixed(0)} MB, reach 700 MB`);
}

function summary(ratios: number[]): string {
  const median = ratios.toSorted((left, right) => left - right)[ratios.length >> 1];
  return `${ratios.map((ratio) => ratio.toFixed(2)).join(", ")} (median ${median.toFixed(2)})`;
}

if (import.meta.main) {
  if (Deno.args[0] === CHILD) console.log(JSON.stringify(await ingest(JSON.parse(Deno.args[1]))));
  else {
    const { values } = parseArgs({
      options: {
        transactions: { type: "string", default: "2500000" },
        runs: { type: "string", default: "3" },
        way: { type: "string", default: "" },
      },
    });
    await ingestBench(Number(values.transactions), Number(values.runs), values.way);
  }
}
