/**
 * The write path put together by hand, its stream of decoded records teed: one branch is ingested, the other is counted by
 * resource manager. A stage of our own ends the stream. Needs a timeline to go on with, 01_follow_a_primary.ts makes one.
 * `deno run -A examples/04_tee_the_decoded_stream.ts postgres://USER@HOST DIRECTORY UNTIL_LSN`
 */
import * as varve from "../mod.ts";
import { postgresSource } from "../src/deps/postgres_source.ts";
import { FilesStore } from "../src/store/files.ts";

const [url, directory, until] = Deno.args;
const store = await FilesStore.open({ path: directory });
const clock = varve.systemClock;
const stored = await varve.readManifest(store, "main");
if (stored === undefined) throw new Error(`Cannot go on: ${store.description} has no timeline yet`);
const manifest = await varve.ManifestWriter.claim(store, clock, stored); // whoever wrote before is fenced
const attached = await varve.openTimeline(manifest.manifest, { store, clock });
const { timeline, timeline: { facts, lastRecordLsn } } = attached;
const profile = varve.profileOfMajor(facts.major);
const flusher = new varve.Flusher({ timeline, manifest, store, clock });
flusher.start();

const access = { ...postgresSource, clock, connection: await varve.resolveConnection({ url }) };
const positions = { processed: () => timeline.lastRecordLsn, durable: () => timeline.remoteConsistentLsn };
const wal = varve.followReplication({ ...access, lastRecordLsn, positions, slot: "varve" });
const startLsn = varve.startPointAfter(lastRecordLsn, facts.walSegmentSize).normalized;
const decode = varve.decodeWal({ startLsn, profile, walSegmentSize: facts.walSegmentSize });
const endAtLsn = new TransformStream<varve.RecordBatch, varve.RecordBatch>({
  transform(batch, controller) {
    controller.enqueue(batch);
    if (batch.endLsn >= varve.parseLsn(until)) controller.terminate();
  },
});
// Both branches must be read: what one of them lets lie, tee() keeps in memory.
const [counted, ingested] = wal.pipeThrough(decode).pipeThrough(endAtLsn).tee();

const statistics = new varve.WalStatistics(profile);
async function countRecords(batches: ReadableStream<varve.RecordBatch>) {
  const record = new varve.DecodedRecord(profile);
  for await (const { bytes, offsets, endLsns, count } of batches) {
    for (let i = 0; i < count; i++) {
      record.decode(bytes, offsets[i], endLsns[i] as varve.Lsn);
      statistics.add(record);
    }
  }
}
const state = await varve.loadWriterState(attached);
const readDatabase = varve.databaseContent.bind(null, attached.reader);
const ingest = varve.ingestWal({ timeline, state, readDatabase });
const sink = varve.timelineSink({ timeline, flusher, checkpointDistance: 64 * 2 ** 20 });
await Promise.all([countRecords(counted), ingested.pipeThrough(ingest).pipeTo(sink)]);

for (const { name, count } of statistics.byManager()) if (count > 0) console.log(`${name}: ${count} records`);
console.log(`durable up to ${varve.formatLsn(timeline.remoteConsistentLsn)}`);
Deno.exit(0);
