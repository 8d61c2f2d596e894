/**
 * varve's streams are web streams, so Deno's own tools for them fit: `jsr:@std/streams` turns decoded batches into text.
 * `deno run -A examples/05_std_streams.ts postgres://USER@HOST DIRECTORY UNTIL_LSN`
 *
 * Looks at the WAL that a timeline in the directory (01_follow_a_primary.ts makes one) does not have yet, and stores nothing.
 */
import * as varve from "../mod.ts";
import { postgresSource } from "../src/deps/postgres_source.ts";
import { FilesStore } from "../src/store/files.ts";

/** Of @std/streams, what is used here. */
interface StdStreams {
  toTransformStream<I, O>(transform: (source: ReadableStream<I>) => AsyncIterable<O>): TransformStream<I, O>;
  toText(stream: ReadableStream<string>): Promise<string>;
}
// In a project of your own: import { toText, toTransformStream } from "jsr:@std/streams@1.0.9". Put together like this, it
// is looked for when this example runs and not before: all else works where that registry cannot be reached.
const { toText, toTransformStream }: StdStreams = await import(["jsr:", "@std/streams@1.0.9"].join(""));

const [url, directory, until] = Deno.args;
const clock = varve.systemClock;
const { timeline: { facts, lastRecordLsn } } = await varve.attachReader({
  store: await FilesStore.open({ path: directory }),
  clock,
});
const wal = varve.followReplication({
  ...postgresSource,
  clock,
  connection: await varve.resolveConnection({ url }),
  lastRecordLsn,
  positions: { processed: () => lastRecordLsn, durable: () => lastRecordLsn },
});
const decode = varve.decodeWal({
  startLsn: varve.startPointAfter(lastRecordLsn, facts.walSegmentSize).normalized,
  profile: varve.profileOfMajor(facts.major),
  walSegmentSize: facts.walSegmentSize,
});

async function* describe(batches: ReadableStream<varve.RecordBatch>): AsyncGenerator<string> {
  for await (const { count, bytes, startLsn, endLsn } of batches) {
    yield `${varve.formatLsn(startLsn)} to ${
      varve.formatLsn(endLsn)
    }: ${count} records, ${bytes.length} bytes\n`;
    if (endLsn >= varve.parseLsn(until)) return;
  }
}
console.log(await toText(wal.pipeThrough(decode).pipeThrough(toTransformStream(describe))));
Deno.exit(0);
