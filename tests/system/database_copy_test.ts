/**
 * Databases copied by file: created from templates, moved to a tablespace and back, so that the same place has several
 * lives; while layers are frozen all the time. Judged by the stopped server.
 *
 * @module
 */
import { MemoryStore } from "../../src/store/memory.ts";
import { followCluster, judgeStoppedCluster } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { startCluster } from "../support/postgres.ts";

const test = suite("system/database_copy", { timeoutMs: 120_000, sanitize: false });

for (const major of [14, 18] as const) {
  test(`follow() keeps databases of PostgreSQL ${major} that are copied by file again and again`, async () => {
    await using cluster = await startCluster({ major, checksums: true, settings: { autovacuum: "off" } });
    const store = new MemoryStore();
    const following = await followCluster(cluster, store, { checkpointDistance: 512 * 1024 });
    const sql = cluster.sql();
    const strategy = major >= 15 ? "STRATEGY file_copy" : "";
    await sql.unsafe(`CREATE TABLESPACE elsewhere LOCATION '${await cluster.directory("elsewhere")}'`);
    await sql.unsafe(`CREATE DATABASE moved ${strategy}`);
    const fill = async (rows: number) => {
      await cluster.exec(`CREATE TABLE IF NOT EXISTS t (id int, text text)`, "moved");
      await cluster.exec(
        `INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, ${rows}) i`,
        "moved",
      );
      await cluster.exec(`VACUUM t`, "moved");
      await cluster.disconnect("moved");
    };
    await fill(20_000);
    await sql.unsafe("ALTER DATABASE moved SET TABLESPACE elsewhere");
    await cluster.exec("DELETE FROM t WHERE id > 500; ", "moved");
    await cluster.exec("VACUUM t", "moved");
    await cluster.exec("CREATE INDEX ON t (id)", "moved");
    await cluster.disconnect("moved");
    await sql.unsafe("ALTER DATABASE moved SET TABLESPACE pg_default");
    await fill(3000);
    await sql.unsafe(`CREATE DATABASE again TEMPLATE moved ${strategy}`);
    await sql.unsafe("ALTER DATABASE moved SET TABLESPACE elsewhere");
    await sql.unsafe("DROP DATABASE again");
    await sql.unsafe(`CREATE DATABASE again TEMPLATE moved ${strategy}`);
    await cluster.stop("fast");
    await following.follower.stop();
    await following.close();
    const result = await judgeStoppedCluster(cluster, store, `databases copied by PostgreSQL ${major}`);
    assert.is(result.differenceCount, 0);
  });
}

test.run();
