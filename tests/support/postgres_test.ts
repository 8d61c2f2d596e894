import { assert, suite } from "./harness.ts";
import { DEFAULT_SETTINGS, POSTGRES_MAJORS, startCluster } from "./postgres.ts";
import { isAlive } from "./processes.ts";
import { exists } from "./cache.ts";

const test = suite("support/postgres", { sanitize: false, timeoutMs: 120_000 });

for (const major of POSTGRES_MAJORS) {
  test(`startCluster() runs PostgreSQL ${major}, and leaves nothing behind`, async () => {
    const cluster = await startCluster({ major });
    const pid = cluster.pid!;
    try {
      const [{ server_version_num }] = await cluster.exec("SHOW server_version_num");
      assert.is(Math.floor(server_version_num / 10000), major);
      const [{ data_checksums }] = await cluster.sql()`SHOW data_checksums`;
      assert.is(data_checksums, "on");
      await cluster.stop();
      assert.not(isAlive(pid));
      assert.ok(await exists(`${cluster.dataDir}/PG_VERSION`), "files stay until the cluster is disposed of");
    } finally {
      await cluster.dispose();
    }
    assert.not(await exists(cluster.rootDir));
  });
}
test("Cluster.kill9() is survived by recovery, and clients reconnect", async () => {
  await using cluster = await startCluster({ major: 17, checksums: false, walSegmentSizeMb: 1 });
  await cluster.exec("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i");
  await cluster.kill9();
  assert.not(cluster.running);
  await cluster.start();
  const [{ count }] = await cluster.sql()`SELECT count(*) FROM t`;
  assert.is(Number(count), 1000);
  assert.match(cluster.logTail(500), "redo done at");
  assert.equal(await cluster.exec("SHOW wal_segment_size"), [{ wal_segment_size: "1MB" }]);
});

test("startCluster() passes on settings, and configure() with reload() changes them", async () => {
  await using cluster = await startCluster({ major: 14, settings: { work_mem: "3MB" } });
  assert.equal(await cluster.exec("SHOW work_mem"), [{ work_mem: "3MB" }]);
  assert.equal(await cluster.exec("SHOW fsync"), [{ fsync: DEFAULT_SETTINGS.fsync }]);
  await cluster.configure({ work_mem: "5MB" });
  await cluster.restart();
  assert.equal(await cluster.exec("SHOW work_mem"), [{ work_mem: "5MB" }]);
});

test.run();
