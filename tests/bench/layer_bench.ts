/**
 * Throughput of layer files and the layer map: `deno run -A tests/bench/layer_bench.ts`.
 *
 * Prints one line per measure, the median of several runs. Files are in memory: the disk is not measured.
 *
 * @module
 */
import { LayerWriter, type LayerWriterOptions } from "../../src/layer/layer_writer.ts";
import { type LayerIndex, openLayer } from "../../src/layer/layer_reader.ts";
import { scanLayer } from "../../src/layer/layer_scan.ts";
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import { LayerMap } from "../../src/layer/layer_map.ts";
import { type Lsn, lsn } from "../../src/lsn.ts";
import { joined, memorySource } from "../support/layers.ts";
import { SeededRandom } from "../support/random.ts";

const RUNS = 5;
const MIB = 1024 * 1024;

/** Runs and times; returns the median of the milliseconds and the last result. */
async function timed<T>(run: () => T | Promise<T>): Promise<{ ms: number; result: T }> {
  const times: number[] = [];
  let result: T;
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    result = await run();
    times.push(performance.now() - start);
  }
  return { ms: times.sort((left, right) => left - right)[RUNS >> 1], result: result! };
}

function line(what: string, text: string): void {
  console.log(`${what.padEnd(44)} ${text}`);
}

/** Writes `mib` MiB of values of one length, `versions` of each block, over a few relations. */
function writeLayer(
  options: LayerWriterOptions,
  valueLength: number,
  versions: number,
  mib: number,
): Uint8Array[] {
  const writer = new LayerWriter(options);
  const bytes = new SeededRandom(1).bytes(MIB);
  const chunks: Uint8Array[] = [];
  const blocks = Math.ceil(mib * MIB / valueLength / versions / 4);
  let offset = 0;
  for (let relation = 0; relation < 4; relation++) {
    writer.beginSpace({ family: 0, a: 1663, b: 5, c: 16384 + relation, d: 0 });
    for (let block = 0; block < blocks; block++) {
      for (let version = 0; version < versions; version++) {
        const at = options.kind === "image" ? options.lsnStart : options.lsnStart + version * 8192 as Lsn;
        writer.addBlock(block, at, 1, bytes, offset, valueLength);
        offset = (offset + valueLength) % (MIB - valueLength);
      }
      if ((block & 63) === 0) chunks.push(...writer.take());
    }
  }
  writer.finish();
  chunks.push(...writer.take());
  return chunks;
}

async function benchWriter(
  kind: "delta" | "image",
  valueLength: number,
  versions: number,
): Promise<Uint8Array> {
  const mib = 64;
  const { ms, result } = await timed(() =>
    writeLayer({ kind, lsnStart: lsn(1e9) }, valueLength, versions, mib)
  );
  const file = joined(result);
  const entries = Math.ceil(mib * MIB / valueLength / versions / 4) * 4 * versions;
  line(
    `write ${kind}, values of ${valueLength} bytes`,
    `${(file.length / MIB / ms * 1000).toFixed(0)} MiB/s, ${(entries / ms / 1000).toFixed(2)} M entries/s`,
  );
  return file;
}

async function benchReader(name: string, file: Uint8Array): Promise<void> {
  const source = memorySource(file);
  const opened = await timed(() => openLayer(source, name));
  const index = opened.result;
  line(`open ${name}`, `${opened.ms.toFixed(2)} ms, ${index.blockCount} blocks`);
  const scanned = await timed(async () => {
    let entries = 0;
    for await (const { first, end } of scanLayer(source, index)) entries += end - first;
    return entries;
  });
  line(
    `scan ${name}`,
    `${(file.length / MIB / scanned.ms * 1000).toFixed(0)} MiB/s, ` +
      `${(scanned.result / scanned.ms / 1000).toFixed(2)} M entries/s`,
  );
  await benchFind(name, file, index);
}

async function benchFind(name: string, file: Uint8Array, index: LayerIndex): Promise<void> {
  const random = new SeededRandom(2);
  const lookups = 20_000;
  const decodes = await timed(() => {
    for (let i = 0; i < lookups / 20; i++) {
      const at = random.int(0, index.blockCount - 1);
      const offset = index.blockOffset(at);
      index.decodeBlock(file.subarray(offset, offset + index.blockLength(at)), at);
    }
  });
  line(`decode a block of ${name}`, `${(decodes.ms / (lookups / 20) * 1000).toFixed(1)} us`);
  const at = index.blockCount >> 1;
  const offset = index.blockOffset(at);
  const block = index.decodeBlock(file.subarray(offset, offset + index.blockLength(at)), at);
  const space = block.spaceAt(0);
  const finds = await timed(() => {
    let found = 0;
    for (let i = 0; i < lookups; i++) {
      const number = block.blocks[i % block.count];
      found += index.findBlock(space, number, Number.MAX_SAFE_INTEGER as Lsn) >= 0 ? 1 : 0;
      found += block.upperBound(space, number, lsn(2e9)) - block.lowerBound(space, number);
    }
    return found;
  });
  line(`find a key in ${name}`, `${(finds.ms / lookups * 1e6).toFixed(0)} ns for index and block`);
}

async function benchBigIndex(): Promise<void> {
  // Values as long as a block: 120,000 blocks without gigabytes.
  const file = joined(writeLayer({ kind: "delta", lsnStart: lsn(1e9), blockBytes: 256 }, 250, 4, 30));
  const { ms, result } = await timed(() => openLayer(memorySource(file), "many blocks"));
  line("open a layer of many blocks", `${ms.toFixed(1)} ms, ${result.blockCount} blocks`);
}

/** 10,000 layers: wide deltas of flushes on top, compacted deltas split by key, and complete images. */
export function manyLayers(count: number): LayerDescriptor[] {
  const layers: LayerDescriptor[] = [];
  const parts = 100;
  const blocks = 1000;
  const key = (block: number) => ({ family: 0, a: 1663, b: 5, c: 16384, d: 0, block });
  const add = (kind: "delta" | "image", first: number, last: number, start: number, end: number) => {
    const name = `${layers.length}`;
    const lsns = { lsnStart: lsn(start), lsnEnd: lsn(end) };
    const complete = kind === "image";
    layers.push({
      name,
      kind,
      keyMin: key(first),
      keyMax: key(last),
      ...lsns,
      size: 1,
      checksum: 0,
      complete,
      level: 0,
      epoch: 1,
    });
  };
  let at = 1000;
  while (layers.length < count - 20) {
    for (let part = 0; part < parts && layers.length < count - 20; part++) {
      add("delta", part * blocks, (part + 1) * blocks - 1, at, at + 1000);
      if (at % 3000 === 0) add("image", part * blocks, (part + 1) * blocks - 1, at + 999, at + 1000);
    }
    at += 1000;
  }
  for (; layers.length < count; at += 100) add("delta", 0, parts * blocks, at, at + 100);
  return layers;
}

async function benchMap(): Promise<void> {
  const layers = manyLayers(10_000);
  const built = await timed(() => LayerMap.of(layers));
  line("build a map of 10,000 layers", `${built.ms.toFixed(1)} ms`);
  const map = built.result;
  const random = new SeededRandom(3);
  const space = { family: 0, a: 1663, b: 5, c: 16384, d: 0 };
  const top = layers[layers.length - 1].lsnEnd;
  const count = 20_000;
  for (const [what, newest] of [["at the newest LSN", true], ["at random LSNs", false]] as const) {
    let visits = 0;
    const searched = await timed(() => {
      visits = 0;
      for (let i = 0; i < count; i++) {
        const at = newest ? top : lsn(random.int(2000, top));
        for (const _ of map.search(space, random.int(0, 99_999), at)) visits++;
      }
    });
    const average = (visits / count).toFixed(1);
    line(`search ${what}`, `${(searched.ms / count * 1000).toFixed(2)} us to the end, ${average} visits`);
  }
  const first = await timed(() => {
    for (let i = 0; i < count; i++) map.search(space, random.int(0, 99_999), top).next();
  });
  line("search, first visit only", `${(first.ms / count * 1000).toFixed(2)} us`);
  await benchMapChanges(map, top);
}

async function benchMapChanges(map: LayerMap, top: number): Promise<void> {
  const changes = 1000;
  const template = map.layers()[0];
  const changed = await timed(() => {
    let next = map;
    for (let i = 0; i < changes; i++) {
      const old = i >= 10 ? [`new ${i - 10}`] : [];
      const layer = { ...template, name: `new ${i}`, lsnStart: lsn(top + i), lsnEnd: lsn(top + i + 1) };
      next = next.withChanges({ add: [layer], remove: old });
    }
  });
  line("withChanges: one layer in, one out", `${(changed.ms / changes * 1000).toFixed(1)} us`);
}

if (import.meta.main) {
  await benchReader("records", await benchWriter("delta", 100, 8));
  await benchWriter("delta", 40, 8);
  await benchWriter("delta", 400, 2);
  await benchReader("pages", await benchWriter("image", 8192, 1));
  await benchBigIndex();
  await benchMap();
}
