/**
 * Reading cold pages out of a real MinIO, beside plain requests for the same bytes in the same run: latency with a cold
 * and a warm index, bytes fetched for a page beside the bytes of the layers it is in, a scan of a relation beside the
 * download of its objects.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import type { LayerDescriptor } from "../../src/layer/layer_descriptor.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { CallOptions, ObjectStore } from "../../src/ports/object_store.ts";
import { type AttachedTimeline, attachReader } from "../../src/read/attach.ts";
import { scanRelation } from "../../src/read/relation_scan.ts";
import { MinioStore } from "../../src/store/minio.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { followCluster } from "../support/follow.ts";
import { type Minio, startMinio } from "../support/minio.ts";
import { startCluster } from "../support/postgres.ts";

const ROUNDS = 150;
/** Scans and downloads, in turns; the first ones are not counted, in which the code is still being compiled. */
const SCANS = 22;
const WARM_UP_SCANS = 2;

interface Range {
  key: string;
  offset: number;
  length: number;
}

/** The store, with the ranges that were asked for. */
class Recorded {
  readonly store: ObjectStore;
  readonly ranges: Range[] = [];

  constructor(inner: MinioStore) {
    const record = (range: Range) => this.ranges.push(range);
    this.store = new Proxy(inner, {
      get(target, name) {
        if (name !== "getRange") {
          const value = Reflect.get(target, name);
          return typeof value === "function" ? value.bind(target) : value;
        }
        return (key: string, offset: number, length: number, options?: CallOptions) => {
          record({ key, offset, length });
          return target.getRange(key, offset, length, options);
        };
      },
    });
  }
}

function storeOf(minio: Minio): MinioStore {
  return new MinioStore({
    endpoint: minio.endpoint,
    bucket: minio.bucket,
    accessKey: minio.accessKey,
    secretKey: minio.secretKey,
  });
}

/** Rows, four a page: some 64 MiB in one layer. */
const PAGE_ROWS = 32_000;
/** Some 256 MiB in two: a scan of less is over before its figure stands still. */
const SCAN_ROWS = 128_000;

/** A relation, bootstrapped, with changes in some layers on top. */
async function makeHistory(
  store: ObjectStore,
  rows: number,
): Promise<{ spc: number; db: number; rel: number }> {
  await using cluster = await startCluster({ major: 17, checksums: false, settings: { autovacuum: "off" } });
  await cluster.exec("CREATE TABLE large (id int, text text)");
  await cluster.exec(
    `INSERT INTO large SELECT i, repeat(md5(i::text), 60) FROM generate_series(1, ${rows}) i`,
  );
  const [row] = await cluster.exec(`
    SELECT dattablespace::int AS spc, oid::int AS db, pg_relation_filenode('large')::int AS rel
    FROM pg_database WHERE datname = current_database()`);
  const following = await followCluster(cluster, store, { checkpointDistance: 256 * 1024 * 1024 });
  for (let round = 0; round < 3; round++) {
    await cluster.exec(`UPDATE large SET id = -id WHERE id % 400 = ${round}`);
    await cluster.exec("SELECT pg_switch_wal()");
    await following.timeline.waitForRecord(following.timeline.lastRecordLsn);
    await following.flusher.flushAll();
  }
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  return row as unknown as { spc: number; db: number; rel: number };
}

const median = (values: number[]) => values.sort((left, right) => left - right)[values.length >> 1];

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** Cold pages, and after each the same ranges by plain requests. */
async function coldPages(minio: Minio, relation: { spc: number; db: number; rel: number }, isWarm: boolean) {
  const plain = storeOf(minio);
  const ours: number[] = [];
  const theirs: number[] = [];
  const bytes: number[] = [];
  const requests: number[] = [];
  let wholeLayers = 0;
  const recorded = new Recorded(storeOf(minio));
  const attach = () => attachReader({ store: recorded.store, clock: systemClock });
  let attached: AttachedTimeline = await attach();
  const end = attached.timeline.lastRecordLsn;
  const blocks = await attached.reader.relationSize(relation, 0, end) ?? 0;
  for (let round = 0; round < ROUNDS; round++) {
    const block = (round * 7919) % blocks;
    if (!isWarm) {
      await attached.close();
      attached = await attach();
    }
    recorded.ranges.length = 0;
    ours.push(await timed(() => attached.reader.getPage(relation, 0, block, end)));
    const ranges = recorded.ranges.filter(({ key }) => key.includes("/layers/"));
    bytes.push(ranges.reduce((sum, { length }) => sum + length, 0));
    requests.push(ranges.length);
    if (ranges.length === 0) {
      ours.pop();
      continue;
    }
    const keys = new Set(ranges.map(({ key }) => key));
    const sizes = new Map(
      attached.timeline.layers.layers().map(({ name, size }) => [layerKey("main", name), size]),
    );
    wholeLayers = [...keys].reduce((sum, key) => sum + sizes.get(key)!, 0);
    // The same ranges by plain requests, all side by side: nobody has to look anything up.
    theirs.push(
      await timed(() =>
        Promise.all(ranges.map(({ key, offset, length }) => plain.getRange(key, offset, length)))
      ),
    );
  }
  await attached.close();
  const ratio = median(ours) / median(theirs);
  console.log(
    `cold page, index ${isWarm ? "warm" : "cold"}: ${
      median(ours).toFixed(2)
    } ms, plain ranged GETs of the same bytes ` +
      `${median(theirs).toFixed(2)} ms: ${ratio.toFixed(2)}x; ${median(requests)} requests, ` +
      `${(median(bytes) / 1024).toFixed(0)} KiB of ${(wholeLayers / 1024 / 1024).toFixed(1)} MiB of layers`,
  );
  await plain.close();
}

async function download(store: ObjectStore, layers: readonly LayerDescriptor[]): Promise<void> {
  await Promise.all(layers.map(async ({ name }) => {
    const { body } = await store.getStream(layerKey("main", name));
    for await (const chunk of body) void chunk;
  }));
}

/**
 * All pages of the relation in order, beside whole downloads of the layers that they come from. Both begin without a
 * connection.
 */
async function scans(minio: Minio, relation: { spc: number; db: number; rel: number }): Promise<void> {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < SCANS; round++) {
    const store = storeOf(minio);
    const attached = await attachReader({ store, clock: systemClock });
    const end: Lsn = attached.timeline.lastRecordLsn;
    let pages = 0;
    const ms = await timed(async () => {
      for await (const { pages: chunk } of scanRelation(attached, relation, 0, end)) pages += chunk.length;
    });
    const { rangeBytes } = attached.files.counters;
    const layers = attached.timeline.layers.layers();
    const total = layers.reduce((sum, { size }) => sum + size, 0);
    const plain = storeOf(minio);
    const downloadMs = await timed(() => download(plain, layers));
    await plain.close();
    if (round >= WARM_UP_SCANS) {
      ours.push(rangeBytes / 1e6 / (ms / 1000));
      theirs.push(total / 1e6 / (downloadMs / 1000));
    }
    if (round === SCANS - 1) {
      const rate = pages * 8192 / 1e6 / (ms / 1000);
      const best = [median(ours), median(theirs)];
      console.log(
        `cold scan of ${pages} pages: ${rate.toFixed(0)} MB/s of pages, ${
          best[0].toFixed(0)
        } MB/s fetched; raw download ` +
          `of the same objects ${best[1].toFixed(0)} MB/s: ${(best[0] / best[1]).toFixed(2)}x`,
      );
    }
    await attached.close();
    await store.close();
  }
}

/** Has a history made on a server of its own, and does something with it. */
async function withHistory(
  rows: number,
  work: (minio: Minio, relation: { spc: number; db: number; rel: number }) => Promise<void>,
): Promise<void> {
  await using minio = await startMinio();
  const store = storeOf(minio);
  const relation = await makeHistory(store, rows);
  await store.close();
  await work(minio, relation);
}

/** Prints all of it. */
export async function onDemandBench(): Promise<void> {
  await withHistory(PAGE_ROWS, async (minio, relation) => {
    await coldPages(minio, relation, false);
    await coldPages(minio, relation, true);
  });
  await withHistory(SCAN_ROWS, scans);
}

if (import.meta.main) await onDemandBench();
