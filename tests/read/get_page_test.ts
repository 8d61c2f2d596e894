/**
 * Reading a page: what is refused and how, one flight for many readers, local copies that are damaged, relations that had
 * an earlier life. Against a real server's history.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { CorruptionError, LsnCollectedError, LsnNotReachedError, NotFoundError } from "../../src/errors.ts";
import { type Lsn, parseLsn } from "../../src/lsn.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { maskPage } from "../../src/postgres/page/masks.ts";
import { Page } from "../../src/postgres/page/page.ts";
import { pageChecksum } from "../../src/postgres/page/checksum.ts";
import { RM_HEAP_ID } from "../../src/postgres/wal/rmgr.ts";
import { openLocalLayers } from "../../src/store/local_layers.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { layerPrefix } from "../../src/timeline/object_keys.ts";
import { attachReader } from "../../src/read/attach.ts";
import type { Following } from "../../src/varve.ts";
import { followCluster } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { temporaryDirectory } from "../support/temp.ts";

const test = suite("read/get_page", { timeoutMs: 60_000, sanitize: false });

/** A page as the server showed it, and when. */
interface Moment {
  lsn: Lsn;
  bytes: Uint8Array;
}

let cluster: Cluster;
let store: MemoryStore;
let following: Following;
let relation: { spc: number; db: number; rel: number };
const moments: Moment[] = [];

/** The server's own view of a block, in a quiet moment. */
async function remember(): Promise<Moment> {
  const sql = cluster.sql();
  const [row] = await sql`SELECT pg_current_wal_flush_lsn()::text AS lsn, get_raw_page('history', 0) AS page`;
  return { lsn: parseLsn(row.lsn), bytes: new Uint8Array(row.page) };
}

test.before(async () => {
  cluster = await startCluster({ major: 17, checksums: true, settings: { autovacuum: "off" } });
  const sql = cluster.sql();
  await sql`CREATE EXTENSION pageinspect`;
  await sql`CREATE TABLE history (id int, text text)`;
  store = new MemoryStore();
  following = await followCluster(cluster, store);
  const [row] =
    await sql`SELECT dattablespace::int AS spc, oid::int AS db, pg_relation_filenode('history')::int AS rel
    FROM pg_database WHERE datname = current_database()`;
  relation = { spc: row.spc, db: row.db, rel: row.rel };
  for (let generation = 0; generation < 5; generation++) {
    await sql`INSERT INTO history SELECT i, repeat('x', ${generation + 10}) FROM generate_series(1, 5) i`;
    await sql`UPDATE history SET text = text || 'y' WHERE id = ${generation}`;
    const moment = await remember();
    await following.timeline.waitForRecord(moment.lsn);
    moments.push(moment);
    await following.flusher.flushAll();
  }
});

test.after(async () => {
  await following?.follower.abort();
  await following?.close();
  await cluster?.[Symbol.asyncDispose]();
});

/** Equal after PostgreSQL's masks. */
function samePage(left: Uint8Array, right: Uint8Array): boolean {
  const [a, b] = [Page.from(left), Page.from(right)];
  for (const page of [a, b]) maskPage(page, RM_HEAP_ID, 0, 0);
  return a.u8.every((byte, index) => byte === b.u8[index]);
}

test("getPage() shows a page as it was at each of several moments", async () => {
  for (const moment of moments) {
    const page = await following.reader.getPage(relation, 0, 0, moment.lsn);
    assert.ok(samePage(page, moment.bytes));
    assert.is(Page.from(page).checksum, pageChecksum(Page.from(page), 0), "its checksum is right");
  }
});

test("getPage() refuses what is not there, by class", async () => {
  const { reader, timeline } = following;
  const { lsn } = moments[0];
  await assert.rejects(reader.getPage(relation, 0, 1000, lsn), NotFoundError);
  await assert.rejects(reader.getPage(relation, 0, -1, lsn), NotFoundError);
  await assert.rejects(reader.getPage({ ...relation, rel: 4_000_000_000 }, 0, 0, lsn), NotFoundError);
  await assert.rejects(reader.getPage(relation, 0, 0, timeline.lastRecordLsn + 8 as Lsn), LsnNotReachedError);
  await assert.rejects(reader.getPage(relation, 0, 0, timeline.consistentLsn - 8 as Lsn), LsnCollectedError);
  assert.is(await reader.relationSize({ ...relation, rel: 4_000_000_000 }, 0, lsn), undefined);
});

test("getPage() shows nothing of a relation's life before it was truncated", async () => {
  const sql = cluster.sql();
  await sql`CREATE TABLE regrown (id int, filler text)`;
  await sql`INSERT INTO regrown SELECT i, repeat('z', 500) FROM generate_series(1, 200) i`;
  const [{ rel }] = await sql`SELECT pg_relation_filenode('regrown')::int AS rel`;
  await sql`DELETE FROM regrown`;
  await sql`VACUUM (TRUNCATE on) regrown`;
  await sql`INSERT INTO regrown VALUES (1, 'again')`;
  const [{ lsn, page }] =
    await sql`SELECT pg_current_wal_flush_lsn()::text AS lsn, get_raw_page('regrown', 0) AS page`;
  await following.timeline.waitForRecord(parseLsn(lsn));
  const regrown = { ...relation, rel };
  assert.is(await following.reader.relationSize(regrown, 0, parseLsn(lsn)), 1);
  assert.ok(samePage(await following.reader.getPage(regrown, 0, 0, parseLsn(lsn)), new Uint8Array(page)));
  await assert.rejects(following.reader.getPage(regrown, 0, 1, parseLsn(lsn)), NotFoundError);
});

test("attachReader() with many readers of one cold page fetches each block once", async () => {
  const attached = await attachReader({ store, clock: systemClock });
  const reads = Array.from({ length: 64 }, () => attached.reader.getPage(relation, 0, 0, moments[2].lsn));
  for (const page of await Promise.all(reads)) assert.ok(samePage(page, moments[2].bytes));
  const { rangeRequests } = attached.files.counters;
  await attached.reader.getPage(relation, 0, 0, moments[2].lsn);
  assert.is(attached.files.counters.rangeRequests, rangeRequests, "the page is warm now");
  await attached.close();
  const alone = await attachReader({ store, clock: systemClock });
  await alone.reader.getPage(relation, 0, 0, moments[2].lsn);
  assert.is(rangeRequests, alone.files.counters.rangeRequests, "64 readers fetched what one does");
  await alone.close();
});

test("attachReader() drops a local copy that is cut or damaged and reads the store's", async () => {
  await using directory = await temporaryDirectory("damaged-copy");
  const local = await openLocalLayers(directory.path);
  const fetching = { hotShare: 0 };
  const first = await attachReader({ store, clock: systemClock, local, fetching });
  await first.reader.getPage(relation, 0, 0, moments[4].lsn);
  await first.close();
  const copies = (await local.list()).sort((left, right) => right.size - left.size);
  assert.ok(copies.length > 1);
  // One of another size, found at attach; one damaged inside, found when it is read.
  await Deno.truncate(`${directory.path}/${copies[1].name}`, copies[1].size - 1);
  const bytes = await Deno.readFile(`${directory.path}/${copies[0].name}`);
  for (let at = 0; at < bytes.length; at += 1000) bytes[at] ^= 0xff;
  await Deno.writeFile(`${directory.path}/${copies[0].name}`, bytes);
  const second = await attachReader({ store, clock: systemClock, local });
  for (const moment of moments) {
    assert.ok(samePage(await second.reader.getPage(relation, 0, 0, moment.lsn), moment.bytes));
  }
  await second.close();
});

test("getPage() names a layer that is damaged or missing in the store", async () => {
  const damaged = new MemoryStore();
  await copyStore(store, damaged);
  const attached = await attachReader({ store: damaged, clock: systemClock });
  const names: string[] = [];
  for await (const { key } of damaged.list(layerPrefix("main"))) names.push(key);
  for (const key of names) {
    const { bytes } = await damaged.get(key);
    const broken = bytes.slice();
    for (let at = 20; at < broken.length; at += 500) broken[at] ^= 0x55;
    await damaged.put(key, broken);
  }
  await assert.rejects(attached.reader.getPage(relation, 0, 0, moments[0].lsn), CorruptionError);
  for (const key of names) await damaged.delete(key);
  const error = await assert.rejects(
    (await attachReader({ store: damaged, clock: systemClock })).reader.getPage(
      relation,
      0,
      0,
      moments[0].lsn,
    ),
  );
  assert.ok(
    names.some((key) => error.message.includes(key.split("/").at(-1)!)),
    `the message names a layer: ${error.message}`,
  );
});

async function copyStore(from: ObjectStore, to: ObjectStore): Promise<void> {
  for await (const { key } of from.list("")) await to.put(key, (await from.get(key)).bytes);
}

test.run();
