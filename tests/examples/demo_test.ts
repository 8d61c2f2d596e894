/**
 * The demo, short; and its judge, which must see a difference where there is one.
 *
 * @module
 */
import { proveMoment } from "../../examples/demo/prove.ts";
import { attachReader, Page, parseLsn, systemClock } from "../../mod.ts";
import { followCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { startCluster } from "../support/postgres.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { runExample } from "./run_example.ts";

const test = suite("examples/demo", { timeoutMs: 120_000, sanitize: false });

test("demo/main.ts proves pages of five moments", async () => {
  const output = await runExample("demo/main.ts", ["3"]);
  const moments = [
    ...output.matchAll(/^moment (\d) {3}LSN \S+: (\d+) Heap \+ (\d+) Btree pages equal, 0 differ/gm),
  ];
  assert.equal(moments.map(([, number]) => number), ["1", "2", "3", "4", "5"], output);
  assert.ok(moments.every(([, , heap, btree]) => Number(heap) > 20 && Number(btree) > 20), output);
  assert.match(output, /status {5}http:\/\/127\.0\.0\.1:\d+\//);
  assert.match(output, /0 differ$/m);
});

test("proveMoment() sees a page that differs, and one that is not there", async () => {
  await using directory = await temporaryDirectory("demo");
  await using cluster = await startCluster({ major: 17, settings: { autovacuum: "off" } });
  await cluster.exec(
    "CREATE EXTENSION pageinspect; CREATE TABLE t AS SELECT n FROM generate_series(1, 300) n",
  );
  const store = await testStore(directory.path);
  const following = await followCluster(cluster, store);
  const [{ bytes, db, rel }] = await cluster.exec(`
    SELECT get_raw_page('t', 0) AS bytes, oid::int AS db, pg_relation_filenode('t')::int AS rel
    FROM pg_database WHERE datname = current_database()`);
  const [{ text }] = await cluster.exec(
    "SELECT pg_logical_emit_message(false, 'test', '', true)::text AS text",
  );
  const lsn = parseLsn(text);
  await following.timeline.waitForRecord(lsn);
  await following.follower.stop();
  await following.close();
  const { reader, close } = await attachReader({ store, clock: systemClock });
  const relation = { spc: 1663, db, rel };
  const damaged = Uint8Array.from(bytes);
  const at = Page.from(damaged).itemOffset(1) + 24; // behind the tuple's header
  damaged[at] ^= 1;
  const page = { relation, name: "t", block: 0, bytes: Uint8Array.from(bytes) };
  const pages = [page, { ...page, bytes: damaged }, { ...page, block: 99 }];
  const proof = await proveMoment(reader, { lsn, at: new Date(), relations: 1, pages }, lsn);
  assert.is(proof.equal.get("Heap"), 1);
  assert.is(proof.differences.length, 2);
  assert.match(
    proof.differences[0],
    `t block 0: byte ${at} is ${bytes[at]} in varve, ${damaged[at]} on the server`,
  );
  assert.is(proof.differences[1], "t block 99: not there in varve");
  await close();
  await store.close();
});

test.run();
