/**
 * Redo beside PostgreSQL's crash recovery of the same WAL, in one run: the same base, every record applied to pages in
 * memory, on one thread.
 *
 * Both sides read WAL from files, check every record's CRC, decode it and edit pages (and transaction status); what comes
 * out is compared. PostgreSQL goes by record. Varve's redo knows one page at a time, so that a stretch of WAL may be
 * replayed page after page, which is what reading and restoring do as well: see redo_pages.ts. PostgreSQL's figures are
 * those of its log line "redo done", so that neither its start nor the checkpoint at its end is in them; it runs with fsync
 * off and buffers for everything. Reach: at least 1.5 times PostgreSQL's speed on each load.
 *
 * ```
 * deno task bench redo        deno run -A tests/bench/redo_bench.ts gin gist
 * ```
 *
 * @module
 */
import process from "node:process";
import { WalAssembler } from "../../src/postgres/wal/assembler.ts";
import { readWalReusing } from "../support/wal_files.ts";
import { timeRecovery } from "./recovery.ts";
import { REDO_LOADS, redoCorpus } from "./redo_corpus.ts";
import { RedoPages } from "./redo_pages.ts";
import { WindowArena } from "./redo_window.ts";
import type { WalCorpus } from "./wal_corpus.ts";

const MB = 1e6;
/** Bytes of WAL that are read at once. */
const PIECE = 128 * 1024;
/** Bytes of WAL that are replayed page after page: less than half of what a memory layer holds before it is flushed. */
const WINDOW = 96 * 1024 * 1024;
/** Memory that WAL is read into: one for all replays. */
const arena = new WindowArena(WINDOW);
const LARGE_PAGES = { GLIBC_TUNABLES: "glibc.malloc.hugetlb=1" };
const RUNS = 5;
const REACH = 1.5;

interface Timing {
  seconds: number;
  /** Processor time, of all threads. */
  cpuSeconds: number;
}

/** One replay of a whole corpus; `inspect` sees the pages that it has made. */
export function timeRedo(corpus: WalCorpus, inspect?: (pages: RedoPages) => void): Timing {
  const pages = new RedoPages(corpus);
  const cpu = process.cpuUsage();
  const started = performance.now();
  const { wal, startLsn, profile } = corpus;
  const { walSegmentSize } = wal;
  const assembler = new WalAssembler({ startLsn, walSegmentSize, profile, endOfWal: "invalid", arena });
  let records = 0;
  for (const { startLsn, data } of readWalReusing(wal, corpus.startLsn, PIECE)) {
    const batch = assembler.push(startLsn, data);
    if (batch === null) continue;
    pages.apply(batch);
    records += batch.count;
    batch.release?.();
  }
  pages.finish();
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  inspect?.(pages);
  pages.close();
  if (records !== corpus.records) {
    throw new Error(`Cannot measure: expected ${corpus.records} records, got ${records}`);
  }
  return { seconds, cpuSeconds: (user + system) / MB };
}

/** Of five replays in a row the middle one: the first after a pause finds cold caches and a compiler that has let go. */
function timeReplays(corpus: WalCorpus): Timing {
  const timings = Array.from({ length: 5 }, () => timeRedo(corpus));
  return timings.sort((left, right) => left.seconds - right.seconds)[2];
}

async function benchLoad(name: string): Promise<void> {
  const corpus = await redoCorpus(name);
  const walBytes = corpus.endLsn - corpus.startLsn;
  const line = (what: string, { seconds, cpuSeconds }: Timing) =>
    console.log(
      `  ${what.padEnd(28)} ${seconds.toFixed(2)} s (processor ${cpuSeconds.toFixed(2)} s) ` +
        `${(walBytes / MB / seconds).toFixed(0).padStart(5)} MB/s ${
          (corpus.records / seconds / 1e6).toFixed(2)
        } M records/s`,
    );
  console.log(`${name}: ${(walBytes / MB).toFixed(0)} MB of WAL, ${corpus.records} records`);
  const [ratios, cpuRatios]: [number[], number[]] = [[], []];
  // Once without a clock: our code gets compiled, the files get cached for both, and the pages are judged.
  await timeRecovery(corpus, (dataDir) => {
    timeRedo(
      corpus,
      (pages) => console.log(`  ${pages.compareWith(dataDir)} pages, each as PostgreSQL made it`),
    );
  });
  for (let run = 0; run < RUNS; run++) {
    const recovery = await timeRecovery(corpus);
    const theirs = { seconds: recovery.elapsedSeconds, cpuSeconds: recovery.cpuSeconds };
    line("PostgreSQL crash recovery", theirs);

    const ours = timeReplays(corpus);
    line("varve redo", ours);
    ratios.push(theirs.seconds / ours.seconds);
    cpuRatios.push(theirs.cpuSeconds / ours.cpuSeconds);
  }
  console.log(
    `  varve / PostgreSQL: median ${median(ratios).toFixed(2)} of ${
      ratios.map((ratio) => ratio.toFixed(2)).join(", ")
    }; ` +
      `by processor time ${median(cpuRatios).toFixed(2)}; reach ${REACH}`,
  );
}

function median(values: number[]): number {
  return values.toSorted((left, right) => left - right)[values.length >> 1];
}

/**
 * Each load in a process of its own, so that none runs code that was compiled for another. The C library asks the system for
 * large pages, in both sides' processes: PostgreSQL's buffers have a setting for that, which is on (`huge_pages = try`).
 */
async function benchLoads(names: readonly string[]): Promise<void> {
  for (const name of names) {
    const args = ["run", "-A", new URL(import.meta.url).pathname, name];
    const { success } = await new Deno.Command(Deno.execPath(), { args, env: LARGE_PAGES, stdin: "null" })
      .spawn().status;
    if (!success) throw new Error(`Cannot measure ${name}: its process failed`);
  }
}

if (import.meta.main) {
  if (Deno.args.length === 1) await benchLoad(Deno.args[0]);
  else await benchLoads(Deno.args.length > 0 ? Deno.args : REDO_LOADS);
}
