/**
 * On-demand download against a real server's history in a real MinIO: everything local is lost, and what reads need comes
 * back, no more of it, from a store that also misbehaves.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { CorruptionError, NotFoundError, UnavailableError, VarveError } from "../../src/errors.ts";
import { type Lsn, parseLsn } from "../../src/lsn.ts";
import type { LocalLayers } from "../../src/ports/local_layers.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { maskPage } from "../../src/postgres/page/masks.ts";
import { Page } from "../../src/postgres/page/page.ts";
import { RM_HEAP_ID } from "../../src/postgres/wal/rmgr.ts";
import { type AttachedTimeline, attachReader, type EngineOptions } from "../../src/read/attach.ts";
import { createStatusApp } from "../../src/status/app.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { openLocalLayers } from "../../src/store/local_layers.ts";
import { MinioStore, type MinioStoreOptions } from "../../src/store/minio.ts";
import { retrying } from "../../src/store/retrying.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { followCluster } from "../support/follow.ts";
import { FastClock } from "../support/fast_clock.ts";
import { assert, suite } from "../support/harness.ts";
import { filledPage, imageRecord } from "../support/made_wal.ts";
import { type Minio, minioOrSkip } from "../support/minio.ts";
import { startCluster } from "../support/postgres.ts";
import { type SeededRandom, seededRandom } from "../support/random.ts";
import { type ProxyFault, TcpProxy } from "../support/tcp_proxy.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { WrittenTimeline } from "../support/written_timeline.ts";

const test = suite("system/on demand", { timeoutMs: 360_000, sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

const GENERATIONS = 20;

/** A page as the server showed it, and when. */
interface Moment {
  lsn: Lsn;
  bytes: Uint8Array;
}

interface History {
  small: { spc: number; db: number; rel: number };
  large: { spc: number; db: number; rel: number };
  moments: Moment[];
  /** A page of the large relation at the end. */
  row: { block: number; bytes: Uint8Array };
}

function samePage(left: Uint8Array, right: Uint8Array): boolean {
  const [a, b] = [Page.from(left.slice()), Page.from(right.slice())];
  for (const page of [a, b]) maskPage(page, RM_HEAP_ID, 0, 0);
  return a.u8.every((byte, index) => byte === b.u8[index]);
}

/** A small table that is updated in generations, each in a layer of its own, and a large one. */
async function makeHistory(store: ObjectStore): Promise<History> {
  await using cluster = await startCluster({ major: 17, checksums: true, settings: { autovacuum: "off" } });
  await cluster.exec(`
    CREATE EXTENSION pageinspect;
    CREATE TABLE small (id int, text text);
    INSERT INTO small SELECT i, 'generation 0' FROM generate_series(1, 20) i;
    CREATE TABLE large (id int, text text);`);
  const following = await followCluster(cluster, store, { checkpointDistance: 64 * 1024 * 1024 });
  await cluster.exec("INSERT INTO large SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 24000) i");
  const [row] = await cluster.exec(`
    SELECT d.dattablespace::int AS spc, d.oid::int AS db, pg_relation_filenode('small')::int AS small,
      pg_relation_filenode('large')::int AS large
    FROM pg_database d WHERE datname = current_database()`);
  const moments: Moment[] = [];
  for (let generation = 1; generation <= GENERATIONS; generation++) {
    // The first change after a checkpoint logs the page whole: history before it is not needed for this generation.
    await cluster.exec("CHECKPOINT");
    // And the relation grows, so that its size is of this generation too.
    await cluster.exec(`
      UPDATE small SET text = 'generation ${generation}' WHERE id % 3 = ${generation % 3};
      INSERT INTO small SELECT i + 100, repeat('x', 200) FROM generate_series(1, 60) i;`);
    const [{ lsn, page }] = await cluster.sql()`
      SELECT pg_current_wal_insert_lsn()::text AS lsn, get_raw_page('small', 0) AS page`;
    await cluster.exec("SELECT pg_logical_emit_message(false, 'test', '', true)");
    moments.push({ lsn: parseLsn(lsn), bytes: new Uint8Array(page) });
    await following.timeline.waitForRecord(parseLsn(lsn));
    await following.flusher.flushAll();
  }
  const [{ page }] = await cluster.sql()`SELECT get_raw_page('large', 2000) AS page`;
  await cluster.stop("fast");
  await following.follower.stop();
  await following.close();
  const { spc, db } = row;
  return {
    small: { spc, db, rel: row.small },
    large: { spc, db, rel: row.large },
    moments,
    row: { block: 2000, bytes: new Uint8Array(page) },
  };
}

if (startMinio !== undefined) {
  let minio: Minio;
  let store: ObjectStore;
  let history: History;
  let directory: TemporaryDirectory;
  let directories = 0;

  const storeAt = (endpoint: string, more: Partial<MinioStoreOptions> = {}) =>
    new MinioStore({
      endpoint,
      bucket: minio.bucket,
      accessKey: minio.accessKey,
      secretKey: minio.secretKey,
      ...more,
    });
  const freshDirectory = () => directory.join(`local-${++directories}`);
  const attach = (options: Partial<EngineOptions> = {}) =>
    attachReader({ store, clock: systemClock, ...options });
  const reads = async (attached: AttachedTimeline, { lsn, bytes }: Moment) =>
    samePage(await attached.reader.getPage(history.small, 0, 0, lsn), bytes);

  test.before(async () => {
    directory = await temporaryDirectory("on-demand");
    minio = await startMinio();
    store = retrying(storeAt(minio.endpoint), { clock: systemClock });
    history = await makeHistory(store);
  });
  test.after(async () => {
    await store?.close();
    await minio?.stop();
    await directory?.remove();
  });

  test("time travel over 20 generations downloads layers when they are needed, and the timeline's size stays", async () => {
    const path = freshDirectory();
    const local = await openLocalLayers(path);
    const attached = await attach({ local, fetching: { hotShare: 0 } });
    const { files, timeline } = attached;
    const total = timeline.layers.totalBytes;
    assert.equal([files.residentBytes, files.counters.rangeRequests], [0, 0], "attaching fetches nothing");
    const sizes: number[] = [];
    for (const moment of history.moments.toReversed()) {
      assert.ok(await reads(attached, moment));
      await waitFor(() => files.downloading === 0, { what: "nothing is under way" });
      assert.is(timeline.layers.totalBytes, total);
      const onDisk = (await local.list()).reduce((sum, { size }) => sum + size, 0);
      assert.equal([files.residentBytes, files.counters.downloadedBytes], [onDisk, onDisk]);
      const { downloads } = files.counters;
      assert.ok(await reads(attached, moment));
      assert.is(files.counters.downloads, downloads, "nothing more for what was read before");
      sizes.push(onDisk);
    }
    for (let at = 4; at < sizes.length; at++) assert.ok(sizes[at] > sizes[at - 4], `${sizes}`);
    assert.ok(sizes[3] < total / 4, "a few moments need a few layers");
    assert.ok(files.residentCount < timeline.layers.count || sizes.at(-1)! === total);
    await attached.close();
  });

  test("a row of a large relation needs a few ranges, and 64 readers of one cold page no more than one", async () => {
    const alone = await attach();
    const { block, bytes } = history.row;
    const end = alone.timeline.lastRecordLsn;
    assert.ok(samePage(await alone.reader.getPage(history.large, 0, block, end), bytes));
    const { rangeRequests, rangeBytes, downloads } = alone.files.counters;
    const visited = alone.fetcher.counters.layersVisited;
    assert.is(downloads, 0);
    assert.ok(rangeRequests <= 3 * visited, `${rangeRequests} requests for ${visited} layers`);
    const total = alone.timeline.layers.totalBytes;
    assert.ok(rangeBytes < total / 20, `${rangeBytes} of ${total} bytes`);
    await alone.close();

    const crowd = await attach();
    const reads = Array.from({ length: 64 }, () => crowd.reader.getPage(history.large, 0, block, end));
    for (const page of await Promise.all(reads)) assert.ok(samePage(page, bytes));
    assert.is(crowd.files.counters.rangeRequests, rangeRequests);
    await crowd.close();
  });

  test("evict everything and read on; what is hot comes back whole, by itself", async () => {
    const local = await openLocalLayers(freshDirectory());
    const attached = await attach({ local, cacheBytes: 1, fetching: { hotShare: 0.01 } });
    const { files, timeline } = attached;
    for (let round = 0; round < 2; round++) {
      for (const moment of history.moments) assert.ok(await reads(attached, moment));
      await waitFor(() => files.downloading === 0 && files.residentCount > 10, {
        what: "layers are resident",
      });
      for (const { name } of timeline.layers.layers()) await files.evict(name);
      assert.equal([files.residentBytes, (await local.list()).length], [0, 0]);
    }
    assert.is(files.counters.evictedBytes, files.counters.downloadedBytes);
    assert.ok(files.counters.byCause.read.downloads > 20);
    await attached.close();
  });

  test("all layers are downloaded over HTTP: every one fails while the disk does, then none", async () => {
    const path = freshDirectory();
    const inner = await openLocalLayers(path);
    let isFull = true;
    const local: LocalLayers = {
      list: () => inner.list(),
      open: (name) => inner.open(name),
      remove: (name) => inner.remove(name),
      create: async (name) => {
        const writer = await inner.create(name);
        const commit = () => isFull ? Promise.reject(new Error("No space left on device")) : writer.commit();
        return { write: (chunk) => writer.write(chunk), commit, abort: () => writer.abort() };
      },
    };
    const attached = await attach({ local });
    const board = new StatusBoard({ clock: systemClock });
    board.add(attached);
    const app = createStatusApp({ board });
    const run = async () => {
      const path = "/v1/timelines/main/download";
      assert.is((await app.request(path, { method: "POST" })).status, 202);
      assert.is((await app.request(path, { method: "POST" })).status, 200, "it runs already");
      let task: { state: string; doneLayers: number; failedLayers: number } | undefined;
      await waitFor(async () => (task = await (await app.request(path)).json())!.state === "completed", {
        what: "the download is over",
        timeoutMs: 60_000,
      });
      return task!;
    };
    const { count, totalBytes } = attached.timeline.layers;
    const failed = await run();
    assert.equal([failed.doneLayers, failed.failedLayers], [0, count]);
    assert.equal([...Deno.readDirSync(path)].length, 0, "nothing is left behind");
    isFull = false;
    const done = await run();
    assert.equal([done.doneLayers, done.failedLayers], [count, 0]);
    assert.equal([attached.files.residentBytes, attached.timeline.layers.totalBytes], [
      totalBytes,
      totalBytes,
    ]);
    await attached.close();
  });

  test("a local copy that is cut while nobody looks is found, and fetched again", async () => {
    const path = freshDirectory();
    const local = await openLocalLayers(path);
    const attached = await attach({ local, cacheBytes: 1 });
    for (const layer of attached.timeline.layers.layers()) await attached.files.download(layer);
    for (const { name, size } of await local.list()) {
      await Deno.truncate(`${path}/${name}`, Math.floor(size / 2));
    }
    for (const moment of history.moments) assert.ok(await reads(attached, moment));
    await waitFor(() => attached.files.downloading === 0, { what: "copies are whole again" });
    assert.ok(attached.files.counters.damagedCopies > 10);
    for (const { name, size } of await local.list()) {
      if (attached.files.isResident(name)) continue;
      assert.ok(size < attached.timeline.layers.get(name)!.size, "what was not read was not looked at");
    }
    // The same at attach.
    await attached.close();
    const again = await attach({ local });
    assert.is(again.files.residentCount, (await local.list()).length);
    await again.close();
  });

  test("a download that stands still is given up and asked for again; detaching leaves no temporary file", async () => {
    await using proxy = new TcpProxy(minio.port);
    const through = storeAt(proxy.endpoint);
    const path = freshDirectory();
    const local = await openLocalLayers(path);
    const layers = (attached: AttachedTimeline) =>
      attached.timeline.layers.layers().sort((left, right) => right.size - left.size);
    const attached = await attach({ store: through, local, fetching: { requestMs: 1500 } });
    const [largest] = layers(attached);
    proxy.disconnect();
    let stalls = 2;
    proxy.fault = () => stalls-- > 0 ? { kind: "stall", after: 300_000 } : undefined;
    await attached.files.download(largest);
    assert.ok(stalls < 0, "two connections stood still");
    assert.ok(attached.files.isResident(largest.name));

    await attached.files.evict(largest.name);
    proxy.disconnect();
    proxy.fault = () => ({ kind: "stall", after: 300_000 });
    const download = attached.files.download(largest).catch((error) => error);
    await waitFor(() => [...Deno.readDirSync(path)].length === 1, { what: "a temporary file is there" });
    await attached.close();
    assert.is((await download).name, "AbortError");
    assert.is([...Deno.readDirSync(path)].length, 0);
    const again = await attach({ local });
    assert.ok(await reads(again, history.moments[0]));
    await again.close();
    await through.close();
  });

  test("a layer that is missing or cut in the bucket is named, and reads that do not need it go on", async () => {
    const attached = await attach();
    const [newest, ...older] = attached.timeline.layers.layers().filter(({ kind }) => kind === "delta");
    // The newest moment's layer, by its LSN.
    const victim = [newest, ...older].find(({ lsnStart, lsnEnd }) => {
      const { lsn } = history.moments[10];
      return lsnStart <= lsn && lsn < lsnEnd;
    })!;
    const key = layerKey("main", victim.name);
    const { bytes } = await store.get(key);
    const names = (error: Error) => error.message.includes(victim.name);
    try {
      await store.delete(key);
      await assert.rejects(
        attached.reader.getPage(history.small, 0, 0, history.moments[10].lsn),
        (error: Error) => error instanceof NotFoundError && names(error),
      );
      assert.ok(await reads(attached, history.moments[5]), "older ones");
      assert.ok(await reads(attached, history.moments[15]), "newer ones");
      for (const cut of [bytes.length - 10, 100]) {
        await store.put(key, bytes.slice(0, cut));
        const fresh = await attach();
        await assert.rejects(
          fresh.reader.getPage(history.small, 0, 0, history.moments[10].lsn),
          (error: Error) => error instanceof CorruptionError && names(error),
        );
        assert.ok(await reads(fresh, history.moments[15]));
        await fresh.close();
      }
    } finally {
      await store.put(key, bytes);
    }
    assert.ok(await reads(attached, history.moments[10]), "when it is back");
    await attached.close();
  });

  test("hundreds of random faults of the network: every page is right, or its error says what to do", async () => {
    const random = seededRandom("network faults");
    await using proxy = new TcpProxy(minio.port);
    const impatient = { connectTimeoutMs: 300, firstByteTimeoutMs: 300, idleTimeoutMs: 300 };
    const raw = storeAt(proxy.endpoint, impatient);
    const shaky = retrying(raw, { clock: systemClock, attempts: 3, backoff: { initialMs: 1, maxMs: 5 } });
    let right = 0;
    let refused = 0;
    while (proxy.faults < 300) {
      proxy.fault = () => random.chance(0.4) ? randomFault(random) : undefined;
      proxy.disconnect();
      const local = random.chance(0.5) ? await openLocalLayers(freshDirectory()) : undefined;
      const fetching = { hotShare: random.pick([0, 0.2]), requestMs: 2000 };
      const attached = await attach({ store: shaky, local, fetching }).catch((error) => {
        if (!(error instanceof VarveError)) throw error;
      });
      if (attached === undefined) continue;
      const outcomes = await Promise.all(Array.from({ length: 10 }, async () => {
        try {
          assert.ok(await reads(attached, random.pick(history.moments)));
          return true;
        } catch (error) {
          if (error instanceof UnavailableError || error instanceof CorruptionError) return false;
          if (error instanceof VarveError && ["PROTOCOL", "STORE_DENIED"].includes(error.code)) return false;
          throw error;
        }
      }));
      for (const outcome of outcomes) outcome ? right++ : refused++;
      await attached.close();
    }
    // How many come right depends on how busy the machine is: time limits are short here.
    assert.ok(right > 50, `${right} right, ${refused} refused, ${proxy.faults} faults`);
    await raw.close();
  });

  test("while the network fails at random, writes go on, and what is acknowledged is there", async () => {
    const random = seededRandom("faults of writes");
    await using proxy = new TcpProxy(minio.port);
    const impatient = { connectTimeoutMs: 500, firstByteTimeoutMs: 500, idleTimeoutMs: 500, prefix: "shaky" };
    const raw = storeAt(proxy.endpoint, impatient);
    const clock = new FastClock(10);
    const shaky = retrying(raw, { clock, attempts: 4, backoff: { initialMs: 10, maxMs: 100 } });
    const clean = storeAt(minio.endpoint, { prefix: "shaky" });
    let written = await WrittenTimeline.open({ store: shaky, clock });
    clock.random = () => random.float();
    const moments: { lsn: Lsn; byte: number }[] = [];
    let lives = 1;
    while (proxy.faults < 100 || lives === 1 || moments.length <= 20) {
      proxy.fault = () => random.chance(0.4) ? randomFault(random) : undefined;
      for (let n = random.int(1, 5); n > 0; n--) {
        const byte = random.int(1, 255);
        const lsn = await written.writeOne(imageRecord({ block: 0, image: filledPage(byte) }));
        moments.push({ lsn, byte });
      }
      proxy.disconnect();
      await written.flush();
      const acknowledged = written.timeline.remoteConsistentLsn;
      assert.is(acknowledged, moments.at(-1)!.lsn);
      const attached = await attach({ store: clean });
      assert.is(attached.timeline.lastRecordLsn, acknowledged, "the store has what was acknowledged");
      const { lsn, byte } = random.pick(moments);
      assert.is((await attached.reader.getPage({ spc: 1663, db: 5, rel: 16384 }, 0, 0, lsn))[100], byte);
      await attached.close();
      if (!random.chance(0.2)) continue;
      // Another writer takes over; it may need several attempts.
      await written.close();
      for (;;) {
        const next = await WrittenTimeline.open({ store: shaky, clock }).catch((error) => {
          if (!(error instanceof VarveError)) throw error;
        });
        if (next === undefined) continue;
        written = next;
        lives++;
        break;
      }
      assert.is(written.timeline.lastRecordLsn, acknowledged);
    }
    proxy.fault = () => undefined;
    await written.close();
    await raw.close();
    await clean.close();
  });

  test("of four drives one may be lost: what was written is read, and more is written", async () => {
    await using erasure = await startMinio({ drives: 4 });
    const spread = retrying(
      new MinioStore({
        endpoint: erasure.endpoint,
        bucket: erasure.bucket,
        accessKey: erasure.accessKey,
        secretKey: erasure.secretKey,
      }),
      { clock: systemClock },
    );
    for await (const { key } of store.list("timelines/")) await spread.put(key, (await store.get(key)).bytes);
    await Deno.remove(erasure.drives[2], { recursive: true });
    await Deno.writeTextFile(erasure.drives[2], "no directory any more");
    const attached = await attach({ store: spread });
    for (const moment of history.moments) assert.ok(await reads(attached, moment));
    await attached.close();
    const body = crypto.getRandomValues(new Uint8Array(60_000));
    const { etag } = await spread.put("more", body, { condition: { ifAbsent: true } });
    await assert.rejects(spread.put("more", body.slice(1), { condition: { ifAbsent: true } }));
    await spread.put("more", body.slice(1), { condition: { ifMatch: etag } });
    assert.equal((await spread.get("more")).bytes, body.slice(1));
    await spread.close();
  });
}

function randomFault(random: SeededRandom): ProxyFault {
  const after = random.pick([0, 10, 200, 1000, 5000, 40_000]);
  return random.pick<ProxyFault>([
    { kind: "refuse" },
    { kind: "lose answer" },
    { kind: "cut", after },
    { kind: "stall", after },
    { kind: "damage", after: random.int(1000, 30_000) },
    { kind: "status", status: 429 },
    { kind: "status", status: 503 },
    { kind: "delay", ms: random.int(1, 100) },
  ]);
}

test.run();
