/**
 * What judging redo beside the write path costs: an import without, with a sample of one in a hundred, and with all
 * images; of WAL as servers write it, and of WAL with a consistency image behind every record. In time of the processor:
 * ingest and judging share one core, and that is what another load on the machine disturbs least.
 *
 * @module
 */
import process from "node:process";
import { systemClock } from "../../src/deps/system_clock.ts";
import { backupDirectory, segmentDirectory } from "../../src/store/directory_files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { importTimeline } from "../../src/varve.ts";
import { type WalCorpus, walCorpus } from "./wal_corpus.ts";

const RATES = [undefined, 0.01, 1];
const RUNS = 3;

interface Run {
  ms: number;
  cpuMs: number;
  judged: number;
}

async function importOnce(corpus: WalCorpus, rate: number | undefined): Promise<Run> {
  const imported = await importTimeline({
    store: new MemoryStore(),
    clock: systemClock,
    base: backupDirectory(corpus.baseDir),
    wal: segmentDirectory(corpus.wal.path),
    until: corpus.endLsn,
    verify: rate === undefined ? undefined : { rate },
  });
  const started = performance.now();
  const cpu = process.cpuUsage();
  await imported.follower.done;
  const ms = performance.now() - started;
  const { user, system } = process.cpuUsage(cpu);
  await imported.close();
  const total = imported.verifier?.report.total();
  if ((total?.differences ?? 0) > 0) throw new Error(imported.verifier!.report.format());
  return { ms, cpuMs: (user + system) / 1000, judged: (total?.pages ?? 0) + (total?.positions ?? 0) };
}

async function verifyBench(name: string, corpus: WalCorpus): Promise<void> {
  const bytes = corpus.endLsn - corpus.startLsn;
  console.log(`${name}: ${(bytes / 1e6).toFixed(0)} MB, ${corpus.records} records`);
  const best = new Map<number | undefined, Run>();
  // Taken in turns, so that what else the machine does meets all of them.
  for (let run = 0; run < RUNS; run++) {
    for (const rate of RATES) {
      const result = await importOnce(corpus, rate);
      if (result.cpuMs < (best.get(rate)?.cpuMs ?? Infinity)) best.set(rate, result);
    }
  }
  const plain = best.get(undefined)!.cpuMs;
  for (const [rate, { ms, cpuMs, judged }] of best) {
    const label = rate === undefined ? "without --verify" : `--verify=${rate}`;
    const perPage = judged === 0
      ? ""
      : `, ${judged} pages judged, ${((cpuMs - plain) * 1000 / judged).toFixed(0)} us each`;
    const speed = (bytes / 1e3 / cpuMs).toFixed(0).padStart(5);
    const share = (plain / cpuMs).toFixed(2);
    console.log(
      `  ${label.padEnd(18)} ${speed} MB/s of a core, ${share} of plain${perPage}; ${
        ms.toFixed(0)
      } ms in all`,
    );
  }
}

if (import.meta.main) {
  await verifyBench("pgbench-like", await walCorpus({ transactions: 100_000, checksums: true }));
  const settings = { wal_consistency_checking: "all" };
  await verifyBench(
    "with consistency images",
    await walCorpus({ transactions: 10_000, checksums: true, settings }),
  );
}
