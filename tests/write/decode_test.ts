/** Decode as a stream: back-pressure, gathering of batches, ends and errors. */
import { CorruptionError } from "../../src/errors.ts";
import { lsn } from "../../src/lsn.ts";
import { pg17 } from "../../src/postgres/versions/pg17.ts";
import type { RecordBatch } from "../../src/postgres/wal/record_batch.ts";
import type { WalAssemblerOptions } from "../../src/postgres/wal/assembler.ts";
import { type DecodeOptions, decodeWal } from "../../src/write/decode.ts";
import type { WalChunk } from "../../src/write/source/wal_source.ts";
import { assert, suite } from "../support/harness.ts";
import { WalBuilder } from "../support/wal_builder.ts";
import { firstDifference, recordsOf } from "../support/wal_reading.ts";

const test = suite("write/decode");

const BASE: WalAssemblerOptions = { profile: pg17, walSegmentSize: 1 << 20, startLsn: lsn(5 << 20) };

function sample(records: number): WalBuilder {
  const wal = new WalBuilder(BASE);
  for (let times = 0; times < records; times++) wal.record(200 + times % 300, times);
  return wal;
}

/** Chunks of one length; `ahead` is how much more the server has than it sent. */
function chunksOf(bytes: Uint8Array, length: number, ahead = 0): WalChunk[] {
  const chunks: WalChunk[] = [];
  for (let at = 0; at < bytes.length; at += length) {
    const data = bytes.slice(at, at + length);
    const end = BASE.startLsn + at + data.length;
    chunks.push({
      startLsn: lsn(BASE.startLsn + at),
      data,
      tli: 1,
      serverWalEnd: lsn(end + ahead),
      sentAtMs: 0,
    });
  }
  return chunks;
}

/** Reads to the end; what came before an error is in `batches`. */
async function run(
  chunks: WalChunk[],
  options: DecodeOptions = BASE,
): Promise<{ batches: RecordBatch[]; error: unknown }> {
  const batches: RecordBatch[] = [];
  try {
    for await (const batch of ReadableStream.from(chunks).pipeThrough(decodeWal(options))) {
      batches.push(batch);
    }
  } catch (error) {
    return { batches, error };
  }
  return { batches, error: undefined };
}

test("decodeWal() gives the records of its chunks, one batch a chunk while the server is quiet", async () => {
  const wal = sample(1000);
  const chunks = chunksOf(wal.bytes, 10_000);
  const { batches, error } = await run(chunks);
  assert.is(error, undefined);
  assert.is(firstDifference(batches.flatMap(recordsOf), wal.records), -1);
  assert.is(batches.length, chunks.length);
});

test("decodeWal() ends with the first record at or beyond a position, wherever in a batch it is", async () => {
  const wal = sample(1000);
  const ends = wal.records.map(({ endLsn }) => endLsn);
  for (const index of [0, 1, 137, 500, 998, 999]) {
    for (const until of [ends[index], ends[index] - 8]) {
      if (index > 0 && until <= ends[index - 1]) continue;
      for (const ahead of [0, 1e9]) {
        const { batches, error } = await run(chunksOf(wal.bytes, 30_000, ahead), {
          ...BASE,
          until: lsn(until),
        });
        assert.is(error, undefined);
        assert.is(firstDifference(batches.flatMap(recordsOf), wal.records.slice(0, index + 1)), -1);
        assert.is(batches.at(-1)!.endLsn, ends[index]);
      }
    }
  }
});

test("decodeWal() tells a failure at once, also when nobody reads", async () => {
  const wal = sample(300);
  wal.bytes[20_000] ^= 1;
  let told: unknown;
  const decode = decodeWal({ ...BASE, onFailure: (error) => told = error });
  const writer = decode.writable.getWriter();
  writer.closed.catch(() => {});
  const reader = decode.readable.getReader();
  const [first] = chunksOf(wal.bytes, 10_000_000);
  const written = writer.write(first).catch((error) => error);
  const read = reader.read().catch((error) => error);
  assert.instance(await written, CorruptionError);
  assert.is(told, await written);
  await read;
});

test("decodeWal() gathers batches of 64 KiB while the server has more", async () => {
  const wal = sample(3000);
  const { batches } = await run(chunksOf(wal.bytes, 10_000, 1));
  assert.is(firstDifference(batches.flatMap(recordsOf), wal.records), -1);
  for (const batch of batches.slice(0, -1)) {
    assert.ok(batch.bytes.length >= 65_536 && batch.bytes.length < 80_000, `${batch.bytes.length} bytes`);
  }
  assert.ok(batches.length > 10);
});

test("decodeWal() asks for no chunk before somebody reads, and for few ahead of the reader", async () => {
  let pulled = 0;
  const chunks = chunksOf(sample(2000).bytes, 10_000);
  const source = new ReadableStream<WalChunk>({
    pull: (controller) => controller.enqueue(chunks[pulled++]),
  }, { highWaterMark: 0 });
  const reader = source.pipeThrough(decodeWal(BASE)).getReader();
  for (let read = 0; read < 20; read++) {
    const { value } = await reader.read();
    assert.ok(value!.count > 0);
    // Whatever is to happen by itself has happened after a turn of the event loop.
    await new Promise((resolve) => setTimeout(resolve, 0));
    assert.ok(pulled <= read + 3, `${pulled} chunks taken for ${read + 1} batches`);
  }
  await reader.cancel();
});

test("decodeWal() fails with what is wrong, at once and after the records before it", async () => {
  const wal = sample(500);
  const bytes = wal.bytes.slice();
  const spoilt = wal.records[300];
  bytes[spoilt.startLsn - BASE.startLsn + 100] ^= 1;
  const { batches, error } = await run(chunksOf(bytes, 20_000));
  assert.instance(error, CorruptionError);
  assert.is(firstDifference(batches.flatMap(recordsOf), wal.records.slice(0, 300)), -1);
});

test("decodeWal() closes where WAL ends, and reads no further", async () => {
  const wal = sample(100);
  const bytes = new Uint8Array(wal.bytes.length + 500_000);
  bytes.set(wal.bytes);
  const chunks = chunksOf(bytes, 20_000);
  let pulled = 0;
  const source = new ReadableStream<WalChunk>({
    pull: (controller) => controller.enqueue(chunks[pulled++]),
  }, { highWaterMark: 0 });
  const batches: RecordBatch[] = [];
  for await (const batch of source.pipeThrough(decodeWal({ ...BASE, endOfWal: "zeros" }))) {
    batches.push(batch);
  }
  assert.is(firstDifference(batches.flatMap(recordsOf), wal.records), -1);
  assert.ok(pulled < 6, `${pulled} chunks`);
});

test("decodeWal() hands out at the end of its source what it held back", async () => {
  const wal = sample(10);
  const { batches } = await run(chunksOf(wal.bytes, 1000, 100_000));
  assert.is(batches.length, 1);
  assert.is(batches[0].count, 10);
});

test.run();
