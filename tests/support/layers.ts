/**
 * Layer files in memory, for tests and benches; random ones, and their content as plain entries.
 *
 * @module
 */
import { deflateRawSync, inflateRawSync } from "node:zlib";
import type { BlockCodec } from "../../src/bytes/block_codec.ts";
import { compareKeys, type Key } from "../../src/layer/key.ts";
import type { LayerIndex, LayerSource } from "../../src/layer/layer_reader.ts";
import type { ScanOptions } from "../../src/layer/layer_scan.ts";
import { scanLayer } from "../../src/layer/layer_scan.ts";
import {
  type FinishOptions,
  type LayerSummary,
  LayerWriter,
  type LayerWriterOptions,
} from "../../src/layer/layer_writer.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { SeededRandom } from "./random.ts";

/** One entry of a layer, as a plain object. */
export interface Entry {
  key: Key;
  lsn: Lsn;
  flags: number;
  value: Uint8Array;
}

/** A codec that exists in tests only: raw deflate. */
export const DEFLATE: BlockCodec = {
  id: 42,
  compress: (bytes) => new Uint8Array(deflateRawSync(bytes, { level: 1 })),
  decompress: (bytes, length) => new Uint8Array(inflateRawSync(bytes, { maxOutputLength: length })),
};

/** Writes entries, which ascend, as a file. */
export function writeEntries(
  entries: readonly Entry[],
  options: LayerWriterOptions,
  finish?: FinishOptions,
): { file: Uint8Array; summary: LayerSummary } {
  const writer = new LayerWriter(options);
  const chunks: Uint8Array[] = [];
  for (const { key, lsn, flags, value } of entries) {
    writer.add(key, key.block, lsn, flags, value, 0, value.length);
    chunks.push(...writer.take());
  }
  const summary = writer.finish(finish);
  chunks.push(...writer.take());
  return { file: joined(chunks), summary };
}

/** What a scan gives, as plain entries. */
export async function scanEntries(
  source: LayerSource,
  index: LayerIndex,
  options?: ScanOptions,
): Promise<Entry[]> {
  const entries: Entry[] = [];
  for await (const { block, first, end } of scanLayer(source, index, options)) {
    for (let entry = first; entry < end; entry++) {
      const lsn = block.lsns[entry] as Lsn;
      entries.push({
        key: block.keyAt(entry),
        lsn,
        flags: block.flags[entry],
        value: block.valueAt(entry).slice(),
      });
    }
  }
  return entries;
}

/** The entries of a key at or below an LSN, oldest first, found as the read path finds them. */
export async function readKey(source: LayerSource, index: LayerIndex, key: Key, lsn: Lsn): Promise<Entry[]> {
  const entries: Entry[] = [];
  for (let blockIndex = index.findBlock(key, key.block, lsn); blockIndex >= 0; blockIndex--) {
    const raw = await source.readRange(index.blockOffset(blockIndex), index.blockLength(blockIndex));
    const block = index.decodeBlock(raw, blockIndex);
    const first = block.lowerBound(key, key.block);
    for (let entry = block.upperBound(key, key.block, lsn) - 1; entry >= first; entry--) {
      const at = block.lsns[entry] as Lsn;
      entries.unshift({
        key: block.keyAt(entry),
        lsn: at,
        flags: block.flags[entry],
        value: block.valueAt(entry).slice(),
      });
    }
    if (first > 0 || !index.continues(blockIndex)) break;
  }
  return entries;
}

/** Random keys, ascending: several families and forks, neighbours and far apart, with the ends of the key space. */
export function randomKeys(random: SeededRandom, count: number): Key[] {
  const keys: Key[] = [];
  const word = () => random.pick([0, 1, 255, 256, 5, 1663, 16384, 65536, 0x7fffffff, 0x80000000, 0xffffffff]);
  while (keys.length < count) {
    const space = {
      family: random.pick([0, 0, 0, 1, 2, 8, 0xff]),
      a: random.chance(0.8) ? 1663 : word(),
      b: random.chance(0.8) ? 5 : word(),
      c: random.chance(0.7) ? 16384 + random.int(0, 3) : word(),
      d: random.pick([0, 0, 1, 2, 0xff]),
    };
    const first = random.chance(0.7) ? random.int(0, 1000) : random.uint32();
    for (let n = random.int(1, 30); n > 0; n--) {
      keys.push({ ...space, block: random.chance(0.1) ? word() : (first + n) >>> 0 });
    }
  }
  keys.sort(compareKeys);
  return keys.filter((key, i) => i === 0 || compareKeys(keys[i - 1], key) !== 0).slice(0, count);
}

/** Random entries of a layer from `lsnStart` on: one version of each key for an image, up to 20 for a delta. */
export function randomEntries(
  random: SeededRandom,
  kind: "delta" | "image",
  lsnStart: Lsn,
  keyCount: number,
  valueMax: number,
): Entry[] {
  const entries: Entry[] = [];
  for (const key of randomKeys(random, keyCount)) {
    const versions = kind === "image" || random.chance(0.5) ? 1 : random.int(1, 20);
    let lsn = kind === "image" ? lsnStart : lsnStart + random.int(0, 100_000) as Lsn;
    for (let version = 0; version < versions; version++) {
      const length = random.chance(0.1)
        ? 0
        : random.chance(0.05)
        ? random.int(0, valueMax * 20)
        : random.int(0, valueMax);
      // Half of the values compress well.
      const value = random.chance(0.5)
        ? random.bytes(length)
        : new Uint8Array(length).fill(random.int(0, 255));
      entries.push({ key, lsn, flags: random.int(0, 255), value });
      lsn = lsn + random.pick([1, 8, 127, 128, random.int(1, 1_000_000), 0x8000_0000]) as Lsn;
    }
  }
  return entries;
}

/** Chunks of a writer as one file. */
export function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const file = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    file.set(chunk, at);
    at += chunk.length;
  }
  return file;
}

/** A source over bytes, which remembers the ranges read. A range beyond the end comes back short. */
export class MemorySource implements LayerSource {
  readonly bytes: Uint8Array;
  readonly size: number;
  readonly ranges: { offset: number; length: number }[] = [];

  constructor(bytes: Uint8Array, size: number = bytes.length) {
    this.bytes = bytes;
    this.size = size;
  }

  readRange(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    this.ranges.push({ offset, length });
    return Promise.resolve(this.bytes.subarray(offset, offset + length));
  }
}

export function memorySource(bytes: Uint8Array): MemorySource {
  return new MemorySource(bytes);
}
