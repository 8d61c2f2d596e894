/**
 * The verbs end to end, as child processes: a server is followed, looked at, and its pages of the past are read and
 * compared with what the server itself showed; backups and WAL are read without it.
 *
 * @module
 */
import { formatLsn, parseLsn } from "../../src/lsn.ts";
import { managerOfPage, maskPage } from "../../src/postgres/page/masks.ts";
import { Page } from "../../src/postgres/page/page.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { debianPostgresOrSkip } from "../support/postgres_debian.ts";
import { findProgram, runCommand } from "../support/processes.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { varve, VarveProcess, type VarveResult } from "./varve_process.ts";

const test = suite("cli/follow", { timeoutMs: 60_000, sanitize: false });

let cluster: Cluster;
let directory: TemporaryDirectory;
let store: string;

/** A page as the server showed it at an LSN. */
interface Snapshot {
  relation: string;
  block: number;
  lsn: string;
  page: Uint8Array;
}
const snapshots: Snapshot[] = [];

async function snapshot(table: string, block: number): Promise<void> {
  const [{ relation }] = await cluster.exec(`SELECT pg_relation_filepath('${table}') AS relation`);
  const [{ lsn, page }] = await cluster.sql()`
    SELECT pg_current_wal_insert_lsn()::text AS lsn, get_raw_page(${table}, ${block}) AS page`;
  snapshots.push({ relation, block, lsn, page: new Uint8Array(page) });
}

/** Hint bits, and what else is not in WAL, taken out. */
function masked(bytes: Uint8Array, block: number): Uint8Array {
  const page = Page.from(bytes);
  const lsn = page.lsn;
  maskPage(page, managerOfPage(page, block), 0, block);
  page.setLsn(lsn);
  return page.u8;
}

function ok(result: VarveResult): VarveResult {
  assert.is(result.code, 0, result.stderr);
  return result;
}

test.before(async () => {
  directory = await temporaryDirectory("cli");
  store = `file://${directory.path}/store?fsync=off`;
  cluster = await startCluster({ major: 15, checksums: true, settings: { wal_keep_size: "1GB" } });
  await cluster.exec(`
    CREATE EXTENSION pageinspect;
    CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, repeat('a', 100) FROM generate_series(1, 3000) g;`);
});

test.after(async () => {
  await cluster?.dispose();
  await directory?.remove();
});

test("varve follow takes a base backup and stops when it has caught up", async () => {
  const result = ok(
    await varve(["follow", "--store", store, "--source", cluster.replicationUrl, "--until", "caught-up"]),
  );
  assert.match(result.stdout, /^Timeline "main" is durable in file:\/\/.* pages can be read from LSN .* to /);
  assert.match(result.stderr, /bootstrap\.progress: base backup: .* of .*%/);
  assert.match(result.stderr, /flush\.done/);
  const [{ count }] = await cluster.exec(
    "SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = 'varve'",
  );
  assert.is(count, 1);
});

test("varve follow goes on where it was, prints JSON, takes its options from the environment", async () => {
  await snapshot("t", 1);
  await snapshot("t_pkey", 1);
  await cluster.exec("UPDATE t SET v = repeat('b', 120) WHERE id % 3 = 0");
  await snapshot("t", 1);
  await cluster.exec("DELETE FROM t WHERE id % 5 = 0");
  await cluster.exec("VACUUM t");
  await snapshot("t", 1);
  await snapshot("t_pkey", 1);
  await cluster.exec("CHECKPOINT");
  const { port, user } = cluster;
  const env = {
    VARVE_STORE: store,
    VARVE_UNTIL: "caught-up",
    PGHOST: "127.0.0.1",
    PGPORT: String(port),
    PGUSER: user,
    VARVE_JSON: "true",
  };
  const result = ok(await varve(["follow"], env));
  const summary = JSON.parse(result.stdout);
  assert.is(summary.timeline, "main");
  assert.ok(parseLsn(summary.durableLsn) >= parseLsn(snapshots.at(-1)!.lsn), "all of it is durable");
  const events = result.stderr.trim().split("\n").map((line) => JSON.parse(line));
  assert.ok(
    events.some(({ topic, level, time }) =>
      topic === "flush.done" && level === "info" && Date.parse(time) > 0
    ),
  );
});

test("varve page equals get_raw_page() at every LSN", async () => {
  assert.is(snapshots.length, 5);
  for (const { relation, block, lsn, page } of snapshots) {
    const args = [
      "page",
      "--store",
      store,
      "--rel",
      relation,
      "--block",
      String(block),
      "--at",
      lsn,
      "--format",
      "raw",
    ];
    const { bytes } = ok(await varve(args));
    assert.is(bytes.length, 8192);
    assert.equal(masked(bytes, block), masked(page, block), `${relation} block ${block} at ${lsn}`);
  }
  const [first, , second] = snapshots;
  assert.not.equal(
    masked(first.page, 1),
    masked(second.page, 1),
    "the page has changed between the two LSNs",
  );
});

test("varve page shows hex and JSON", async () => {
  const { relation, lsn, page } = snapshots[0];
  const args = ["page", "--store", store, "--rel", relation, "--block", "1", "--at", lsn];
  assert.match(
    ok(await varve(args)).stdout,
    /^00000000 ( [0-9a-f]{2}){8} ( [0-9a-f]{2}){8} {2}\|.{16}\|\n[^]*00002000\n$/,
  );
  const document = JSON.parse(ok(await varve([...args, "--json"])).stdout);
  const reference = Page.from(page);
  assert.is(document.lsn, lsn);
  assert.is(document.header.lsn, formatLsn(reference.lsn));
  assert.is(document.items.length, reference.maxOffsetNumber());
  assert.is(document.hex.length, 16384);
  const latest = JSON.parse(ok(await varve([...args.slice(0, -2), "--format=json"])).stdout);
  assert.ok(parseLsn(latest.lsn) > parseLsn(lsn));
});

test("varve info tells facts, window, layers and sizes", async () => {
  const { stdout } = ok(await varve(["info", "--store", store, "--json"]));
  const { timelines: [main, ...others] } = JSON.parse(stdout);
  assert.equal(others, []);
  const [{ system_identifier }] = await cluster.exec(
    "SELECT system_identifier::text FROM pg_control_system()",
  );
  assert.equal([main.name, main.major, main.systemId, main.dataChecksums], [
    "main",
    15,
    system_identifier,
    true,
  ]);
  assert.ok(parseLsn(main.window.from) <= parseLsn(snapshots[0].lsn));
  assert.ok(parseLsn(main.window.to) >= parseLsn(snapshots.at(-1)!.lsn));
  assert.is(main.layers.count, main.layers.delta + main.layers.image);
  assert.ok(main.layers.delta >= 1 && main.layers.image >= 1);
  assert.is(main.sizes.total, main.sizes.delta + main.sizes.image);
  const text = ok(await varve(["info", "--store", store, "--timeline", "main"])).stdout;
  assert.match(text, /^timeline main in file:\/\/[^]*window +\S+ to \S+, .* of WAL\n[^]*layers +\d+/);
});

test("varve follow --listen serves the status; SIGTERM flushes and ends with 0", async () => {
  const args = ["follow", "--store", store, "--source", cluster.replicationUrl, "--listen", "127.0.0.1:0"];
  await using process = new VarveProcess(args, { VARVE_LISTEN_TOKEN: "open-sesame" });
  const [, url] = await process.said(/The status page is at (\S+)/);
  await process.said(/source\.streaming/);
  const headers = { authorization: "Bearer open-sesame" };
  const { version, timelines } = await (await fetch(`${url}/v1/status`, { headers })).json();
  assert.match(version, /^\d+\.\d+\.\d+/);
  assert.is(timelines[0].name, "main");
  assert.match(await (await fetch(`${url}/metrics`, { headers })).text(), /varve_store_requests_total/);
  const refused = await fetch(`${url}/v1/status`);
  await refused.body?.cancel();
  assert.is(refused.status, 401);
  await cluster.exec("INSERT INTO t VALUES (100001, 'last')");
  const [{ lsn }] = await cluster.exec("SELECT pg_current_wal_insert_lsn()::text AS lsn");
  for (let reached = ""; reached === "" || parseLsn(reached) < parseLsn(lsn);) {
    const status = await (await fetch(`${url}/v1/timelines/main`, { headers })).json();
    reached = status.lastRecordLsn;
  }
  process.signal("SIGTERM");
  const { stdout, stderr } = ok(await process.end());
  assert.match(stderr, /follow\.stopping: Asked to stop/);
  const [, durable] = /to (\S+)\.\n/.exec(stdout)!;
  assert.ok(parseLsn(durable) >= parseLsn(lsn), "what was received is durable");
});

test("varve follow --until LSN stops at that record", async () => {
  await cluster.exec("INSERT INTO t VALUES (100002, 'until')");
  const [{ lsn }] = await cluster.exec("SELECT pg_current_wal_insert_lsn()::text AS lsn");
  await cluster.exec("INSERT INTO t VALUES (100003, 'behind')");
  const args = ["follow", "--store", store, "--source", cluster.replicationUrl, "--until", lsn, "--json"];
  const cache = directory.join("cache");
  const { durableLsn } = JSON.parse(ok(await varve([...args, "--cache", cache])).stdout);
  assert.ok(parseLsn(durableLsn) >= parseLsn(lsn));
  const copies = [...Deno.readDirSync(`${cache}/main`)].map(({ name }) => name);
  assert.ok(copies.length > 0, "there are local copies of what was written");
});

test("varve follow ends with 4 when another writer takes the timeline over", async () => {
  const common = ["follow", "--store", store, "--source", cluster.replicationUrl];
  await using first = new VarveProcess([...common, "--slot", "first", "--flush-interval", "100ms"]);
  await first.said(/source\.streaming/);
  ok(await varve([...common, "--slot", "second", "--until", "caught-up"]));
  await cluster.exec("INSERT INTO t VALUES (100004, 'fenced')");
  const { code, stderr } = await first.end();
  assert.is(code, 4, stderr);
  assert.match(stderr, /another writer has taken over[^]*hint: /);
});

test("varve waldump counts and lists as pg_waldump does", async () => {
  const wal = `${cluster.dataDir}/pg_wal`;
  await cluster.exec("SELECT pg_switch_wal()");
  await cluster.exec("CHECKPOINT");
  const [{ name, lsn: text }] = await cluster.exec(
    `SELECT pg_walfile_name('${snapshots[2].lsn}') AS name, pg_current_wal_insert_lsn()::text AS lsn`,
  );
  const rows =
    JSON.parse(ok(await varve(["waldump", `${wal}/${name}`, "--stats=record", "--json"])).stdout).rows;
  assert.ok(rows.length > 5 && rows.every((row: { count: number }) => row.count > 0));
  const range = ["--start", "0/2000028", "--end", text];
  const listed = ok(await varve(["waldump", ...range, wal])).stdout.trimEnd().split("\n");
  assert.match(listed[0], /^0\/2000028 \S+\/\S+ end 0\/[0-9A-F]+; xid \d+/);
  const lines = ok(await varve(["waldump", ...range, wal, "--json"])).stdout.trimEnd().split("\n");
  assert.is(lines.length, listed.length);
  assert.is(JSON.parse(lines[0]).lsn, "0/2000028");
  const middle = JSON.parse(lines[10]);
  const from = ok(await varve(["waldump", "--start", middle.lsn, "--end", text, wal])).stdout.trimEnd().split(
    "\n",
  );
  assert.is(from.length, listed.length - 10);
  const peer = await debianPostgresOrSkip(console.log, 15);
  if (peer === undefined) return;
  const theirs = await peer.run("pg_waldump", ["-p", wal, "-s", "0/2000028", "-e", text, "--stats=record"]);
  const ours =
    ok(await varve(["waldump", "--start", "0/2000028", "--end", text, "--stats=record", wal])).stdout;
  const table = (output: string) => output.split("\n").slice(1).join("\n").trimEnd();
  assert.is(table(ours), table(theirs.stdout), theirs.stderr);
});

test("varve import makes the same timeline of a directory and its WAL", async () => {
  await cluster.stop("fast");
  const base = `${directory.path}/base`;
  await runCommand(findProgram("cp")!, ["-a", cluster.dataDir, base]);
  await cluster.start();
  await cluster.exec("UPDATE t SET v = repeat('c', 80) WHERE id % 7 = 0");
  await snapshot("t", 2);
  await cluster.exec("CHECKPOINT");
  await cluster.stop("fast");
  const imported = `file://${directory.path}/imported?fsync=off`;
  const args = [
    "import",
    "--base",
    base,
    "--wal",
    `${cluster.dataDir}/pg_wal`,
    "--store",
    imported,
    "--json",
  ];
  const { walRecords } = JSON.parse(ok(await varve([...args, "--timeline", "copy"])).stdout);
  assert.ok(walRecords > 0);
  const { relation, lsn, page } = snapshots.at(-1)!;
  const read = [
    "page",
    "--store",
    imported,
    "--timeline",
    "copy",
    "--rel",
    relation,
    "--block",
    "2",
    "--at",
    lsn,
  ];
  const { bytes } = ok(await varve([...read, "--format", "raw"]));
  assert.equal(masked(bytes, 2), masked(page, 2));
  const again = JSON.parse(ok(await varve([...args, "--timeline", "copy"])).stdout);
  assert.is(again.walRecords, 0);
});

test.run();
