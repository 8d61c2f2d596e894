import { assert, suite } from "./harness.ts";
import { type Cluster, POSTGRES_MAJORS, startCluster } from "./postgres.ts";
import { seededRandom } from "./random.ts";
import { BLOCKS, mixedWorkload, prepareWorkload, Session } from "./workload.ts";
import { prepareDdl } from "./workload/ddl.ts";
import { waitFor } from "./wait.ts";

const test = suite("support/workload", { sanitize: false, timeoutMs: 180_000 });
const { seed } = seededRandom("support/workload");

/** Every index agrees with its table, and every heap is sound, as amcheck sees it. */
async function amcheck(cluster: Cluster): Promise<number> {
  await cluster.exec("CREATE EXTENSION IF NOT EXISTS amcheck");
  const [{ count }] = await cluster.exec(`SELECT count(bt_index_check(c.oid, heapallindexed => true)::text)
    FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
    WHERE c.relam = 403 AND i.indisvalid AND c.relkind = 'i' AND c.relpersistence = 'p'`);
  return Number(count);
}

for (const major of POSTGRES_MAJORS) {
  test(`every block runs on PostgreSQL ${major}`, async () => {
    await using cluster = await startCluster({ major });
    const session = new Session(cluster, "postgres", 0, seededRandom(`blocks on ${major}`));
    try {
      await prepareWorkload(session);
      await prepareDdl(session);
      for (const [, name, block] of BLOCKS) {
        await block(session).catch((error) => {
          throw new Error(`Block ${name}: ${error.message}`, { cause: error });
        });
      }
    } finally {
      await session.close();
    }
    assert.ok(await amcheck(cluster) > 50);
  });
}

test("mixedWorkload() with several sessions leaves a sound cluster that starts again", async () => {
  await using cluster = await startCluster({ major: 17 });
  const summary = await mixedWorkload(cluster, { seed, seconds: 5, sessions: 4 });
  console.log(summary);
  assert.ok(Object.keys(summary.done).length > 20);
  await cluster.restart();
  assert.ok(await amcheck(cluster) > 50);
  const [{ prepared }] = await cluster.exec("SELECT count(*)::int AS prepared FROM pg_prepared_xacts");
  assert.is(prepared, 2);
});

test("mixedWorkload() with one session does the same for the same seed", async () => {
  const contents: unknown[] = [];
  for (let i = 0; i < 2; i++) {
    await using cluster = await startCluster({ major: 16, settings: { autovacuum: "off" } });
    const { done } = await mixedWorkload(cluster, { seed, rounds: 40, sessions: 1 });
    const sums = ["accounts", "keys", "journal", "everything"].map((table) =>
      `(SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM shared.${table} t)`
    );
    contents.push([done, await cluster.exec(`SELECT md5(concat_ws('|', ${sums.join(", ")})) AS sum`)]);
  }
  assert.equal(contents[0], contents[1]);
});

test("mixedWorkload() goes on after the server was killed", async () => {
  await using cluster = await startCluster({ major: 15 });
  const stop = new AbortController();
  const workload = mixedWorkload(cluster, { seed, seconds: 60, signal: stop.signal, surviveRestarts: true });
  const rows = async () =>
    Number((await cluster.exec("SELECT last_value AS n FROM shared.account_ids"))[0].n);
  try {
    for (let kill = 0; kill < 3; kill++) {
      const seen = await waitFor(() => rows().catch(() => undefined), { what: "the workload has begun" });
      await waitFor(async () => await rows() > seen, { what: "the workload goes on" });
      await cluster.kill9();
      await cluster.start();
    }
  } finally {
    stop.abort();
  }
  const { done } = await workload;
  assert.ok(Object.keys(done).length > 0);
  assert.ok(await amcheck(cluster) > 50);
});

test.run();
