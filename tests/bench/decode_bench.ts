/**
 * Decoding beside `pg_waldump --stats=record`, on the same WAL, taking turns in one run:
 *
 * ```
 * deno run -A tests/bench/decode_bench.ts [--transactions 200000] [--runs 7] [--chunk 131072]
 * ```
 *
 * Both read the segments from files (in the page cache), check every CRC, decode every record's headers and count
 * records, lengths and images by type; the counts must be equal. One thread each. pg_waldump is a process of its own, and
 * its start is part of its time, as ours is not: a few milliseconds. Time on a processor stands beside elapsed time: where
 * others use the machine too, its ratio is the one to trust. Last, the CRC alone, by WebAssembly and without.
 *
 * @module
 */
import { parseArgs } from "node:util";
import process from "node:process";
import { TurnsArena } from "../../src/bytes/arena.ts";
import { crc32c, crc32cPlain, rightRecordsEnd, walRecordCrc } from "../../src/bytes/crc32c.ts";
import { formatLsn, type Lsn } from "../../src/lsn.ts";
import { WalAssembler } from "../../src/postgres/wal/assembler.ts";
import { DecodedRecord } from "../../src/postgres/wal/record.ts";
import { WalStatistics } from "../../src/postgres/wal/statistics.ts";
import { type DebianPostgres, debianPostgres } from "../support/postgres_debian.ts";
import { readRecords, readWalReusing } from "../support/wal_files.ts";
import { type WalCorpus, walCorpus } from "./wal_corpus.ts";

const MIB = 1024 * 1024;

interface DecodeOptions {
  verifyCrc: boolean;
  chunk: number;
}

/** Decodes the whole corpus as decode and ingest do, and returns pg_waldump's table. */
function decode(corpus: WalCorpus, { verifyCrc, chunk }: DecodeOptions): string {
  const { profile, startLsn, wal } = corpus;
  const assembler = new WalAssembler({
    startLsn,
    profile,
    walSegmentSize: wal.walSegmentSize,
    endOfWal: "invalid",
    verifyCrc,
    arena: new TurnsArena(),
  });
  const record = new DecodedRecord(profile);
  const statistics = new WalStatistics(profile);
  let first = 0;
  for (const piece of readWalReusing(wal, startLsn, chunk)) {
    const batch = assembler.push(piece.startLsn, piece.data);
    if (batch === null) continue;
    if (first === 0) first = batch.startLsns[0];
    for (let index = 0; index < batch.count; index++) {
      record.decode(batch.bytes, batch.offsets[index], batch.endLsns[index] as Lsn);
      statistics.add(record);
    }
    if (assembler.atEnd !== null) break;
  }
  return statistics.format(first as Lsn, assembler.endLsn, true);
}

async function waldump(corpus: WalCorpus, debian: DebianPostgres): Promise<string> {
  const { stdout } = await debian.run("pg_waldump", [
    "--stats=record",
    `--path=${corpus.wal.path}`,
    `--start=${formatLsn(corpus.startLsn)}`,
    `--end=${formatLsn(corpus.endLsn)}`,
  ]);
  return stdout;
}

/** Elapsed milliseconds, and those on a processor: what counts where others use the machine too. */
interface Timing {
  elapsed: number[];
  cpu: number[];
}

async function timed<T>(timing: Timing, run: () => T | Promise<T>): Promise<T> {
  const began = performance.now();
  const before = process.cpuUsage();
  const ofChildren = childrenCpuMs();
  const result = await run();
  timing.elapsed.push(performance.now() - began);
  const { user, system } = process.cpuUsage(before);
  // A child's time counts instead of what we did to wait for it.
  timing.cpu.push(childrenCpuMs() - ofChildren || (user + system) / 1000);
  return result;
}

/** Milliseconds on a processor of all children that have ended, in steps of 10. */
function childrenCpuMs(): number {
  if (Deno.build.os !== "linux") return 0;
  // proc(5): the name may hold anything, what follows its bracket begins with field 3; fields 16 and 17 are in 1/100 s
  const fields = Deno.readTextFileSync("/proc/self/stat").replace(/^.*\) /s, "").split(" ");
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

/** Speed of the CRC of all records by itself, and of blocks of layer files. */
function compareCrc(corpus: WalCorpus): void {
  const batches = [...readRecords(corpus.wal, corpus.startLsn, corpus.profile)].slice(0, 8);
  const records = { wasm: Infinity, plain: Infinity };
  const blocks = { wasm: Infinity, plain: Infinity };
  const best = (times: Record<"wasm" | "plain", number>, kind: "wasm" | "plain", run: () => void) => {
    const began = process.cpuUsage();
    run();
    const { user, system } = process.cpuUsage(began);
    times[kind] = Math.min(times[kind], (user + system) / 1000);
  };
  let bytesOfAll = 0;
  for (let round = 0; round < 20; round++) {
    bytesOfAll = 0;
    const views = batches.map(({ bytes, count, offsets }) => {
      bytesOfAll += bytes.length;
      return {
        bytes,
        count,
        offsets,
        words: new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2),
      };
    });
    best(records, "wasm", () => {
      for (const { bytes, words } of views) {
        for (let at = 0; at < bytes.length;) {
          const end = rightRecordsEnd(bytes, words, at, Math.min(bytes.length, at + 16 * 1024));
          if (end === at) return; // the runtime has no WebAssembly
          at = end;
        }
      }
    });
    best(records, "plain", () => {
      for (const { bytes, words, count, offsets } of views) {
        for (let index = 0; index < count; index++) {
          const at = offsets[index];
          if (walRecordCrc(bytes, words, at, words[at >> 2]) !== words[(at >> 2) + 5]) throw new Error("CRC");
        }
      }
    });
    for (const kind of ["wasm", "plain"] as const) {
      const crc = kind === "wasm" ? crc32c : crc32cPlain;
      best(blocks, kind, () => {
        for (const { bytes } of views) {
          for (let at = 0; at + 32_768 <= bytes.length; at += 32_768) crc(bytes, at, at + 32_768);
        }
      });
    }
  }
  const speed = (ms: number) => `${(bytesOfAll / ms / 1e6).toFixed(2)} GB/s`;
  console.log(`CRC of records: WebAssembly ${speed(records.wasm)}, JavaScript ${speed(records.plain)}`);
  console.log(
    `CRC of 32 KiB: WebAssembly ${speed(blocks.wasm)}, JavaScript ${speed(blocks.plain)} (best of 20)`,
  );
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function mean(values: number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

const { values: options } = parseArgs({
  options: {
    transactions: { type: "string", default: "200000" },
    runs: { type: "string", default: "7" },
    chunk: { type: "string", default: "131072" },
  },
});
const runs = Number(options.runs);
const chunk = Number(options.chunk);
const corpus = await walCorpus({ transactions: Number(options.transactions) });
const debian = await debianPostgres();
if (debian === undefined) console.log("pg_waldump is not installed: varve runs alone");

const bytes = corpus.endLsn - corpus.startLsn;
console.log(
  `${corpus.records} records, ${(bytes / MIB).toFixed(0)} MiB of WAL, chunks of ${chunk} bytes, ${runs} runs`,
);

const timings: Record<string, Timing> = {};
const timing = (name: string) => timings[name] ??= { elapsed: [], cpu: [] };
for (let run = -1; run < runs; run++) {
  // The first round warms caches and the compiler.
  const at = (name: string) => run < 0 ? { elapsed: [], cpu: [] } : timing(name);
  const theirs = debian && await timed(at("pg_waldump --stats=record"), () => waldump(corpus, debian));
  const ours = await timed(at("varve"), () => decode(corpus, { verifyCrc: true, chunk }));
  await timed(at("varve, CRC unchecked"), () => decode(corpus, { verifyCrc: false, chunk }));
  if (theirs !== undefined && theirs !== ours) throw new Error(`The counts differ:\n${theirs}\n${ours}`);
}

const reference = timings["pg_waldump --stats=record"];
console.log(
  "".padEnd(28) +
    ["ms", "best ms", "cpu ms", "MiB/s", "M rec/s", "ratio", "cpu ratio"].map((head) => head.padStart(10))
      .join(""),
);
for (const [name, { elapsed, cpu }] of Object.entries(timings)) {
  const ms = median(elapsed);
  const cells = [
    ms.toFixed(0),
    Math.min(...elapsed).toFixed(0),
    mean(cpu).toFixed(0),
    (bytes / MIB / ms * 1000).toFixed(0),
    (corpus.records / ms / 1000).toFixed(2),
    reference === undefined ? "" : `${(median(reference.elapsed) / ms).toFixed(2)}x`,
    reference === undefined ? "" : `${(mean(reference.cpu) / mean(cpu)).toFixed(2)}x`,
  ];
  console.log(name.padEnd(28) + cells.map((cell) => cell.padStart(10)).join(""));
}
if (debian !== undefined) {
  console.log("The counts by record type are equal. ratio: speed relative to pg_waldump's, reach 0.5.");
}
compareCrc(corpus);
