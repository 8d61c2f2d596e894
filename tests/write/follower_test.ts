/** A follower over a made-up source: how it ends, in order and not, whatever the store and the source do. */
import { FencedError, ProtocolError, UnavailableError } from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { ClusterState } from "../../src/postgres/effects/cluster_state.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { ManifestWriter, readManifest } from "../../src/timeline/manifest_store.ts";
import { Follower, type FollowerOptions } from "../../src/write/follower.ts";
import { startPointAfter, type WalChunk } from "../../src/write/source/wal_source.ts";
import { BentStore, deferred } from "../support/bent_store.ts";
import { assert, suite } from "../support/harness.ts";
import { TEST_MAJOR } from "../support/made_wal.ts";
import { waitFor } from "../support/wait.ts";
import { WalBuilder } from "../support/wal_builder.ts";
import { TEST_FACTS, TEST_START, WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("write/follower", { timeoutMs: 10_000 });

/** WAL from where the timeline begins. */
function someWal(records: number): WalBuilder {
  const { walSegmentSize, systemId } = TEST_FACTS;
  const startLsn = startPointAfter(TEST_START, walSegmentSize).normalized;
  const wal = new WalBuilder({
    profile: profileOfMajor(TEST_MAJOR),
    walSegmentSize,
    startLsn,
    systemId: BigInt(systemId),
  });
  for (let record = 0; record < records; record++) wal.record(100 + record % 50);
  return wal;
}

/** A source that gives WAL in pieces, then waits to be cancelled, or ends. */
class MadeSource {
  readonly stream: ReadableStream<WalChunk>;
  cancelled: unknown = undefined;
  /** What its cancelling waits for. */
  closing: Promise<void> = Promise.resolve();
  isClosed = false;
  given = 0;

  constructor(wal: WalBuilder, options: { ends?: boolean; fails?: Error; pieceBytes?: number } = {}) {
    const { ends = false, fails, pieceBytes = 1000 } = options;
    const { bytes } = wal;
    const startLsn = startPointAfter(TEST_START, TEST_FACTS.walSegmentSize).normalized;
    this.stream = new ReadableStream<WalChunk>({
      pull: (controller) => {
        if (this.given < bytes.length) {
          const data = bytes.slice(this.given, this.given + pieceBytes);
          controller.enqueue(
            { startLsn: startLsn + this.given as Lsn, data, serverWalEnd: wal.position, tli: 1, sentAtMs: 0 },
          );
          this.given += data.length;
          return;
        }
        if (fails !== undefined) return controller.error(fails);
        if (ends) return controller.close();
        return new Promise(() => {});
      },
      cancel: async (reason) => {
        this.cancelled = reason;
        await this.closing;
        this.isClosed = true;
      },
    }, { highWaterMark: 0 });
  }
}

interface Setting {
  written: WrittenTimeline;
  store: BentStore;
  wal: WalBuilder;
  source: MadeSource;
  follower: Follower;
  end: Lsn;
}

async function following(
  options: {
    records?: number;
    source?: ConstructorParameters<typeof MadeSource>[1];
    follower?: Partial<FollowerOptions>;
  } = {},
): Promise<Setting> {
  const store = new BentStore();
  const written = await WrittenTimeline.open({ store });
  const wal = someWal(options.records ?? 100);
  const source = new MadeSource(wal, options.source);
  const { timeline, flusher, clock } = written;
  const follower = new Follower({
    timeline,
    state: new ClusterState(),
    flusher,
    clock,
    openSource: () => ({
      stream: source.stream,
      startLsn: startPointAfter(TEST_START, TEST_FACTS.walSegmentSize).normalized,
    }),
    readDatabase: () => Promise.reject(new TypeError("No database is read here")),
    ...options.follower,
  });
  return { written, store, wal, source, follower, end: wal.position };
}

const durableLsn = async (store: BentStore) =>
  (await readManifest(store.below, "main"))!.manifest.diskConsistentLsn;

test("Follower takes everything in, flushes it and ends when its source does", async () => {
  const { written, store, follower, end } = await following({ source: { ends: true } });
  await follower.done;
  assert.is(written.timeline.lastRecordLsn, end);
  assert.is(await durableLsn(store), end);
  assert.is(written.clock.sleeping, 0);
  await written.close();
});

test("Follower.stop() keeps what was received, cancels the source and leaves no timer", async () => {
  const { written, store, source, follower, end } = await following();
  await written.timeline.waitForRecord(end);
  await follower.stop();
  assert.is(await durableLsn(store), end);
  assert.ok(source.cancelled !== undefined);
  assert.is(written.clock.sleeping, 0);
  await follower.stop();
  await follower.abort();
  await written.close();
});

test("Follower.done settles only when the source is closed", async () => {
  for (const how of ["stop", "abort"] as const) {
    const { written, source, follower, end } = await following();
    await written.timeline.waitForRecord(end);
    const closing = deferred();
    source.closing = closing.promise;
    let isDone = false;
    const ending = follower[how]().then(() => isDone = true);
    await waitFor(() => source.cancelled !== undefined, { what: "the source is told" });
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve));
    assert.not.ok(isDone, how);
    closing.resolve();
    await ending;
    assert.ok(source.isClosed, how);
    await written.close();
  }
});

test("Follower.abort() while stop() waits for a store that is away ends both", async () => {
  const { written, store, follower, end } = await following();
  await written.timeline.waitForRecord(end);
  store.goAway();
  const stopping = follower.stop();
  stopping.catch(() => {});
  await waitFor(() => written.clock.sleeps.some((ms) => ms <= 15_000), { what: "the flush tries" });
  await follower.abort();
  await assert.rejects(stopping, (error) => error.name === "AbortError");
  assert.is(written.clock.sleeping, 0);
  assert.is(await durableLsn(store), TEST_START);
  await written.close();
});

test("Follower.abort() ends a sink that waits for room while the store is away", async () => {
  const { written, store, follower, source } = await following({
    records: 2000,
    follower: { checkpointDistance: 8192 },
  });
  store.goAway();
  await waitFor(() => written.timeline.frozen.length === 1, {
    what: "the sink waits",
  });
  await follower.abort();
  assert.ok(source.cancelled !== undefined);
  assert.is(written.clock.sleeping, 0);
  await written.close();
});

test("Follower.stop() and abort() after the source has failed, while what it gave still waits for the store", async () => {
  const { written, store, follower } = await following({
    records: 1600,
    source: { fails: new UnavailableError("cut off"), pieceBytes: 10_000 },
    follower: { checkpointDistance: 4096 },
  });
  store.goAway();
  await waitFor(() => written.timeline.frozen.length === 1, {
    what: "the sink waits",
  });
  follower.stop().catch(() => {});
  await follower.abort();
  await assert.rejects(follower.done);
  assert.is(written.clock.sleeping, 0);
  await written.close();
});

test("Follower goes on where it waited when the store comes back", async () => {
  const { written, store, follower, end } = await following({
    records: 2000,
    source: { ends: true },
    follower: { checkpointDistance: 8192 },
  });
  store.goAway();
  await waitFor(() => written.timeline.frozen.length === 1, {
    what: "the sink waits",
  });
  const given = written.timeline.lastRecordLsn;
  assert.ok(given < end);
  store.comeBack();
  await waitFor(async () => {
    await written.clock.advance(15_000);
    return written.timeline.remoteConsistentLsn === end;
  }, { what: "everything is durable" });
  await follower.done;
  assert.is(await durableLsn(store), end);
  await written.close();
});

test("Follower ends once records up to `until` are in, and makes them durable", async () => {
  const wal = someWal(100);
  const until = wal.records[40].endLsn;
  const { written, store, follower, source } = await following({ follower: { until } });
  await follower.done;
  assert.ok(await durableLsn(store) >= until);
  assert.ok(source.cancelled !== undefined);
  await written.close();
});

test("Follower with an `until` that is reached already ends at once", async () => {
  const { written, follower } = await following({ follower: { until: TEST_START } });
  await follower.done;
  assert.ok(written.timeline.lastRecordLsn >= TEST_START);
  await written.close();
});

test("Follower fails with the source's error", async () => {
  const { written, follower } = await following({ source: { fails: new UnavailableError("cut off") } });
  await assert.rejects(follower.done, /cut off/);
  await assert.rejects(follower.stop(), /cut off/);
  await assert.rejects(written.timeline.waitForRecord(0x2_0000_0000 as Lsn));
  assert.is(written.clock.sleeping, 0);
  await written.close();
});

test("Follower fails with what is wrong with the WAL, and closes its source", async () => {
  const store = new BentStore();
  const wal = someWal(100);
  wal.bytes[5000] ^= 0x55;
  const source = new MadeSource(wal);
  const written = await WrittenTimeline.open({ store });
  const { timeline, flusher, clock } = written;
  const follower = new Follower({
    timeline,
    flusher,
    clock,
    state: new ClusterState(),
    openSource: () => ({
      stream: source.stream,
      startLsn: startPointAfter(TEST_START, TEST_FACTS.walSegmentSize).normalized,
    }),
    readDatabase: () => Promise.reject(new TypeError("No database is read here")),
  });
  await assert.rejects(follower.done, /WAL|CRC|record/);
  assert.ok(source.isClosed);
  await written.close();
});

test("Follower fails when the source cannot be opened, and stops its flush", async () => {
  const { written, follower } = await following({
    follower: {
      openSource: () => {
        throw new ProtocolError("No such source");
      },
    },
  });
  await assert.rejects(follower.done, /No such source/);
  assert.is(written.clock.sleeping, 0);
  await written.close();
});

test("Follower that is fenced ends at once, also when no WAL comes", async () => {
  const { written, store, source, follower, end } = await following();
  await written.timeline.waitForRecord(end);
  await ManifestWriter.claim(store.below, written.clock, (await readManifest(store.below, "main"))!);
  written.flusher.flushSoon(end);
  await assert.rejects(follower.done, FencedError);
  assert.ok(source.isClosed);
  assert.is(await durableLsn(store), TEST_START);
  await written.close();
});

test("Follower.abort() loses nothing that was durable, and the next one goes on there", async () => {
  const { written, store, follower } = await following({
    records: 1000,
    follower: { checkpointDistance: 8192 },
  });
  await waitFor(() => written.timeline.remoteConsistentLsn > TEST_START, { what: "something is durable" });
  await follower.abort();
  const durable = written.timeline.remoteConsistentLsn;
  assert.is(await durableLsn(store), durable);
  await written.close();
  const again = await WrittenTimeline.open({ store });
  assert.is(again.timeline.lastRecordLsn, durable);
  await again.close();
});

test.run();
