/** The judge itself: it finds nothing wrong where nothing is, and finds what is. */
import { BLCKSZ } from "../../src/postgres/page/page.ts";
import { assert, suite } from "./harness.ts";
import { judgeWorkload } from "./judge_workload.ts";
import type { Cluster } from "./postgres.ts";
import { judgeRedo } from "./replay_oracle.ts";
import { splitStatements } from "./sql_script.ts";
import { temporaryDirectory } from "./temp.ts";

const test = suite("support/replay_oracle", { sanitize: false });

async function work(cluster: Cluster): Promise<void> {
  await cluster.exec(
    "CREATE TABLE t (i int PRIMARY KEY, v text); INSERT INTO t SELECT i, i FROM generate_series(1, 500) i",
  );
  await cluster.exec("UPDATE t SET v = v || 'x'; DELETE FROM t WHERE i % 2 = 0");
  await cluster.exec("VACUUM t");
  await cluster.exec("CREATE DATABASE other");
}

test("judgeWorkload() compares every record of a server with its check image", async () => {
  for (const major of [14, 18] as const) {
    const verdict = await judgeWorkload({ major, run: work });
    assert.equal(verdict.differences, [], verdict.report());
    assert.is(verdict.total("different"), 0);
    assert.is(verdict.total("errors"), 0);
    assert.ok(verdict.total("compared", "Heap/") > 1000);
    assert.ok(verdict.total("compared", "Heap2/") > 5);
    assert.ok(verdict.total("compared", "Btree/") > 500);
    assert.match(verdict.report("Btree/"), /^Btree\/INSERT_LEAF +\d+/m);
  }
});

test("judgeWorkload() with full-page writes compares images of hints with what redo had", async () => {
  const verdict = await judgeWorkload({
    major: 16,
    settings: { full_page_writes: "on" },
    run: async (cluster) => {
      await work(cluster);
      await cluster.exec("INSERT INTO t SELECT i, i FROM generate_series(1001, 2000) i");
      await cluster.exec("CHECKPOINT");
      await cluster.exec("SELECT count(*) FROM t"); // sets hint bits
    },
  });
  assert.is(verdict.total("different"), 0, verdict.report());
  assert.ok(verdict.total("compared", "XLOG/FPI_FOR_HINT") > 0);
});

test("judgeRedo() reports a page that is wrong in one byte: where, and both values", async () => {
  await using saved = await temporaryDirectory("judge-saved");
  const clean = await judgeWorkload({ major: 17, run: work, saveTo: saved.path });
  assert.is(clean.total("different"), 0);

  // A byte in the last tuple on the first page of pg_class, which every CREATE TABLE comes by.
  const file = saved.join("base/base/5/1259");
  const bytes = Deno.readFileSync(file);
  const changed = BLCKSZ - 20;
  bytes[changed] ^= 0xff;
  Deno.writeFileSync(file, bytes);
  const verdict = judgeRedo({
    walDir: saved.join("pg_wal"),
    baseDir: saved.join("base"),
    hintBitsLogged: true,
  });
  assert.is(verdict.total("different"), 1, "the page is replaced then, and reported once");
  const [difference] = verdict.differences;
  assert.is(difference.block, "1663/5/1259 blk 0");
  assert.match(difference.what, new RegExp(`first of 1 differing bytes at offset ${changed} `));
  assert.ok(difference.dump.includes(bytes[changed].toString(16)));
  assert.match(verdict.report(), /1663\/5\/1259 blk 0/);
});

test("splitStatements() ends statements at semicolons that end statements", () => {
  const script = `
    -- a comment; with a semicolon
    SELECT ';', "a;b", $$ ; $$, $x$ $$ ; $x$; /* ; */ SELECT 1 - 1;;
    DO $$ BEGIN NULL; END $$;
    SELECT 'it''s; fine', $1, a$b`;
  const statements = splitStatements(script);
  assert.equal(statements.map((statement) => statement.replace(/\s+/g, " ")), [
    `-- a comment; with a semicolon SELECT ';', "a;b", $$ ; $$, $x$ $$ ; $x$`,
    "/* ; */ SELECT 1 - 1",
    "DO $$ BEGIN NULL; END $$",
    "SELECT 'it''s; fine', $1, a$b",
  ]);
});

test.run();
