/** The timeline as a WritableStream: when layers are frozen, back-pressure, failures, closing. */
import { VarveError } from "../../src/errors.ts";
import { ModificationBuilder } from "../../src/layer/modification.ts";
import type { Lsn } from "../../src/lsn.ts";
import { timelineSink } from "../../src/write/sink.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { settle } from "../support/manual_clock.ts";
import { TEST_START, WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("write/sink", { timeoutMs: 10_000 });
const DISTANCE = 10_000;

async function sinkOver(store: BentStore, options: { frozenLayersMax?: number; failing?: AbortSignal } = {}) {
  const written = await WrittenTimeline.open({ store, flusher: { flushIntervalMs: 1e12 } });
  const { timeline, flusher } = written;
  let progress = 0;
  const sink = timelineSink({
    timeline,
    flusher,
    checkpointDistance: DISTANCE,
    onProgress: () => progress++,
    ...options,
  });
  const writer = sink.getWriter();
  let position: number = TEST_START;
  /** A modification of so much WAL. */
  const write = (walBytes: number, isWhole = true): Promise<void> => {
    position += walBytes;
    const builder = new ModificationBuilder(new Uint8Array(100), 1);
    builder.addRange(timeline.spaces.intern(0x0b, 1, 2, 3, 0), 0, position, 0, 0, 10, 0);
    return writer.write(builder.build(position as Lsn, 1, isWhole, 1, walBytes));
  };
  return { written, timeline, flusher, writer, write, progress: () => progress };
}

test("timelineSink() makes a modification readable when the write resolves, and freezes at the distance", async () => {
  const { written, timeline, flusher, writer, write, progress } = await sinkOver(new BentStore());
  await write(DISTANCE - 8);
  assert.equal([timeline.lastRecordLsn, timeline.frozen.length, progress()], [
    TEST_START + DISTANCE - 8,
    0,
    1,
  ]);
  await write(8);
  assert.is(timeline.frozen.length, 1);
  flusher.start();
  await timeline.waitForDurable(TEST_START + DISTANCE as Lsn);
  await write(16);
  await writer.close();
  assert.is(timeline.remoteConsistentLsn, TEST_START + DISTANCE + 16);
  await written.close();
});

test("timelineSink() does not wait for an absent store when what comes before it has failed", async () => {
  const store = new BentStore();
  const failing = new AbortController();
  const { written, flusher, writer, write } = await sinkOver(store, { failing: failing.signal });
  const answer = deferred();
  store.before = (method) => method === "put" ? answer.promise : undefined;
  flusher.start();
  await write(DISTANCE);
  writer.closed.catch(() => {});
  const waiting = write(DISTANCE).catch((error) => error);
  await settle();
  const reason = new VarveError("TEST", "the WAL is gone");
  failing.abort(reason);
  assert.is(await waiting, reason);
  answer.resolve();
  await written.close();
});

test("timelineSink() waits while the flush cannot keep up, and goes on when it can", async () => {
  const store = new BentStore();
  const { written, timeline, flusher, writer, write } = await sinkOver(store);
  const answer = deferred();
  store.before = (method) => method === "put" ? answer.promise : undefined;
  flusher.start();
  await write(DISTANCE);
  let isTaken = false;
  const second = write(DISTANCE).then(() => isTaken = true);
  const third = write(8);
  await settle();
  assert.not.ok(isTaken);
  assert.equal([timeline.frozen.length, timeline.lastRecordLsn], [1, TEST_START + 2 * DISTANCE]);
  answer.resolve();
  await second;
  await third;
  await writer.close();
  assert.is(timeline.remoteConsistentLsn, TEST_START + 2 * DISTANCE + 8);
  await written.close();
});

test("timelineSink() fails with what ended the flush: waiting, at the next write, and at close", async () => {
  for (const when of ["waiting", "write", "close"]) {
    const store = new BentStore();
    const { written, timeline, flusher, writer, write } = await sinkOver(store);
    writer.closed.catch(() => {});
    const answer = deferred();
    store.before = (method) => method === "put" ? answer.promise : undefined;
    flusher.start();
    await write(DISTANCE);
    const waiting = when === "waiting" ? write(DISTANCE) : undefined;
    waiting?.catch(() => {});
    const closing = when === "close" ? writer.close() : undefined;
    closing?.catch(() => {});
    await settle();
    answer.reject(new VarveError("STORE_DENIED", "Read-only"));
    await assert.rejects(timeline.waitForDurable(timeline.lastRecordLsn), /Read-only/);
    await assert.rejects(waiting ?? closing ?? write(8), /Read-only/, when);
    assert.is(timeline.remoteConsistentLsn, TEST_START);
    await written.close();
  }
});

test("timelineSink(): a record in several modifications is not reached before the last", async () => {
  const { written, timeline, flusher, writer, write } = await sinkOver(new BentStore());
  flusher.start();
  await write(80);
  await write(DISTANCE, false);
  assert.is(timeline.lastRecordLsn, TEST_START + 80);
  await written.flush();
  assert.is(timeline.remoteConsistentLsn, TEST_START + 80, "what is durable is a whole record");
  await write(0);
  assert.is(timeline.lastRecordLsn, TEST_START + 80 + DISTANCE);
  await writer.close();
  assert.is(timeline.remoteConsistentLsn, TEST_START + 80 + DISTANCE);
  await written.close();
});

test("timelineSink() bounds memory also where many bytes come from little WAL: a copied database", async () => {
  const { written, timeline, flusher, writer } = await sinkOver(new BentStore());
  flusher.start();
  const end = TEST_START + 800 as Lsn;
  const space = timeline.spaces.intern(0, 1, 2, 3, 0);
  let most = 0;
  for (let page = 0; page < 100; page++) {
    const builder = new ModificationBuilder(new Uint8Array(0), 1);
    builder.addMade(space, page, end, 0, new Uint8Array(8192));
    await writer.write(builder.build(end, 1, page === 99, 0, 0));
    most = Math.max(most, timeline.memoryBytes);
  }
  await writer.close();
  assert.ok(most < 100_000, `${most} bytes`);
  assert.is(timeline.remoteConsistentLsn, end);
  await written.close();
});

test.run();
