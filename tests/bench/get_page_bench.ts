/**
 * Latency of getPage with chains of 0, 10 and 100 records behind the page's base image, out of layer files in a directory.
 *
 * @module
 */
import { systemClock } from "../../src/deps/system_clock.ts";
import { parseLsn } from "../../src/lsn.ts";
import { FilesStore } from "../../src/store/files.ts";
import { attachReader } from "../../src/read/attach.ts";
import { followCluster } from "../support/follow.ts";
import { startCluster } from "../support/postgres.ts";
import { temporaryDirectory } from "../support/temp.ts";

const CHAINS = [0, 10, 100];
const READS = 2000;

/** Prints p50 and p99 per chain length, with blocks in the cache and without. */
export async function getPageBench(): Promise<void> {
  await using directory = await temporaryDirectory("get-page-bench");
  await using cluster = await startCluster({
    major: 17,
    checksums: false,
    settings: { autovacuum: "off", checkpoint_timeout: "1h" },
  });
  const sql = cluster.sql();
  const store = await FilesStore.open({ path: directory.path, syncReadLimit: 1 << 20 });
  const following = await followCluster(cluster, store);
  const rels: { chain: number; rel: number }[] = [];
  for (const chain of CHAINS) {
    await sql.unsafe(`CREATE TABLE chain_${chain} (id int, filler text) WITH (fillfactor = 50)`);
    await sql.unsafe(
      `INSERT INTO chain_${chain} SELECT i, repeat('x', 300) FROM generate_series(1, 12000) i`,
    );
    await sql`CHECKPOINT`;
    // The first touch after a checkpoint logs the page whole: the base of the chain.
    for (let touch = 0; touch <= chain; touch++) {
      await sql.unsafe(
        `SELECT count(*) FROM (SELECT id FROM chain_${chain} WHERE id % 12 = 0 FOR ${
          touch % 2 === 0 ? "SHARE" : "UPDATE"
        }) x`,
      );
    }
    const [{ rel }] = await sql.unsafe(`SELECT pg_relation_filenode('chain_${chain}')::int AS rel`);
    rels.push({ chain, rel });
  }
  const [{ spc, db }] =
    await sql`SELECT dattablespace::int AS spc, oid::int AS db FROM pg_database WHERE datname = current_database()`;
  const [{ lsn }] = await sql`SELECT pg_current_wal_flush_lsn()::text AS lsn`;
  await following.timeline.waitForRecord(parseLsn(lsn));
  await following.follower.stop();
  await following.close();
  const at = parseLsn(lsn);
  for (const { chain, rel } of rels) {
    const relation = { spc, db, rel };
    for (const warm of [false, true]) {
      const attached = await attachReader({ store, clock: systemClock });
      const blocks = await attached.reader.relationSize(relation, 0, at) ?? 0;
      if (warm) {
        for (let block = 0; block < blocks; block++) await attached.reader.getPage(relation, 0, block, at);
      }
      const times: number[] = [];
      for (let read = 0; read < READS; read++) {
        const block = (read * 7919) % blocks;
        const started = performance.now();
        await attached.reader.getPage(relation, 0, block, at);
        times.push(performance.now() - started);
      }
      times.sort((left, right) => left - right);
      const percentile = (share: number) => times[Math.floor(times.length * share)].toFixed(3);
      console.log(
        `getPage, about ${chain} records, ${warm ? "warm" : "from cold"}: p50 ${percentile(0.5)} ms, p99 ${
          percentile(0.99)
        } ms (${blocks} blocks)`,
      );
      await attached.close();
    }
  }
  await store.close();
}

if (import.meta.main) await getPageBench();
