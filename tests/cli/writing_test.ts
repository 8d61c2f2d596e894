/**
 * How layers are written, by the options of `varve follow` and `varve import`: to a real MinIO, compressed, by another
 * thread, and acknowledged from disk while the store is away.
 *
 * @module
 */
import { formatLsn, type Lsn, parseLsn } from "../../src/lsn.ts";
import { managerOfPage, maskPage } from "../../src/postgres/page/masks.ts";
import { Page } from "../../src/postgres/page/page.ts";
import { assert, suite } from "../support/harness.ts";
import { type Minio, minioOrSkip } from "../support/minio.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { findProgram, runCommand } from "../support/processes.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { varve, VarveProcess, type VarveResult } from "./varve_process.ts";

const test = suite("cli/writing", { timeoutMs: 600_000, sanitize: false });

let cluster: Cluster;
let directory: TemporaryDirectory;

test.before(async () => {
  directory = await temporaryDirectory("cli-writing");
  cluster = await startCluster({ major: 17, checksums: true, settings: { autovacuum: "off" } });
  await cluster.exec(`
    CREATE EXTENSION pageinspect;
    CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, repeat('a', 200) FROM generate_series(1, 20000) g;`);
});

test.after(async () => {
  await cluster?.dispose();
  await directory?.remove();
});

function ok(result: VarveResult): VarveResult {
  assert.is(result.code, 0, result.stderr);
  return result;
}

async function insertLsn(): Promise<string> {
  const [{ lsn }] = await cluster.exec("SELECT pg_current_wal_insert_lsn()::text AS lsn");
  return lsn;
}

/** A page as the server shows it at an LSN. */
interface Shown {
  relation: string;
  block: number;
  lsn: string;
  page: Uint8Array;
}

async function shown(block: number): Promise<Shown> {
  const [{ relation }] = await cluster.exec("SELECT pg_relation_filepath('t') AS relation");
  const [{ lsn, page }] = await cluster.sql()`
    SELECT pg_current_wal_insert_lsn()::text AS lsn, get_raw_page('t', ${block}) AS page`;
  return { relation, block, lsn, page: new Uint8Array(page) };
}

/** Hint bits, and what else is not in WAL, taken out. */
function masked(bytes: Uint8Array, block: number): Uint8Array {
  const page = Page.from(bytes);
  const lsn = page.lsn;
  maskPage(page, managerOfPage(page, block), 0, block);
  page.setLsn(lsn);
  return page.u8;
}

/** Reads a page as of when it was shown, and compares. */
async function assertReads(store: string[], { relation, block, lsn, page }: Shown, env = {}): Promise<void> {
  const which = ["--rel", relation, "--block", String(block), "--at", lsn, "--format", "raw"];
  const { bytes } = ok(await varve(["page", "--store", ...store, ...which], env));
  assert.equal(masked(bytes, block), masked(page, block));
}

/** Whether WAL that is written after MinIO has gone is acknowledged, which only the disk can be the reason for. */
async function isAcknowledgedWithout(
  minio: Minio,
  reaches: (lsn: string, timeoutMs?: number) => Promise<unknown>,
): Promise<boolean> {
  const before = await insertLsn();
  await cluster.exec("UPDATE t SET v = repeat('b', 200) WHERE id % 3 = 0");
  await reaches(before);
  await minio.kill();
  const gone = await insertLsn();
  await cluster.exec("UPDATE t SET v = repeat('c', 200) WHERE id % 5 = 0");
  return await reaches(gone, 40_000).then(() => true, () => false);
}

const startMinio = await minioOrSkip((reason) => test.skip(reason));
if (startMinio !== undefined) {
  test("varve follow --acknowledge disk to MinIO: WAL on disk is acknowledged while MinIO is away", async () => {
    await using minio = await startMinio();
    const common = ["--store", minio.url, "--timeline", "away"];
    const args = ["follow", ...common, "--source", cluster.replicationUrl, "--slot", "away", "--acknowledge"];
    const ways = ["--compress", "lz4", "--encoder", "on", "--flush-interval", "4s"];
    const cache = directory.join("away");
    await using process = new VarveProcess([...args, "disk", "--cache", cache, ...ways], minio.env);
    await process.said(/source\.streaming/);
    const acknowledged = async () => {
      const [row] = await cluster.exec("SELECT flush_lsn::text AS lsn FROM pg_stat_replication");
      return parseLsn(row?.lsn ?? "0/0");
    };
    const reaches = (lsn: string, timeoutMs = 90_000) =>
      waitFor(async () => await acknowledged() > parseLsn(lsn), {
        what: `${lsn} is acknowledged`,
        timeoutMs,
      });
    // A flush that had begun when MinIO went holds back the next: then once more.
    for (let tries = 3; !(await isAcknowledgedWithout(minio, reaches)); tries--) {
      assert.ok(tries > 0, "what was written while MinIO was away was acknowledged from disk");
      await minio.start();
    }
    const there = await shown(1);
    const after = await insertLsn();
    await minio.start();
    process.signal("SIGTERM");
    const { stdout } = ok(await process.end());
    const [, durable] = /to (\S+)\.\n/.exec(stdout)!;
    assert.ok(parseLsn(durable) >= parseLsn(after), "once MinIO is back, it has all of it too");
    await assertReads([minio.url, "--timeline", "away"], there, minio.env);
  });

  test("varve follow to MinIO takes its options from the environment, and goes on", async () => {
    await using minio = await startMinio();
    const env = {
      ...minio.env,
      VARVE_STORE: minio.url,
      VARVE_SOURCE: cluster.replicationUrl,
      VARVE_SLOT: "from_env",
      VARVE_UNTIL: "caught-up",
      VARVE_COMPRESS: "zstd",
      VARVE_ENCODER: "off",
      VARVE_ACKNOWLEDGE: "store",
      VARVE_JSON: "true",
    };
    const first = JSON.parse(ok(await varve(["follow"], env)).stdout);
    await cluster.exec("UPDATE t SET v = repeat('d', 200) WHERE id % 7 = 0");
    const there = await shown(2);
    const lsn = await insertLsn();
    const second = JSON.parse(ok(await varve(["follow"], { ...env, VARVE_ENCODER: "auto" })).stdout);
    assert.ok(parseLsn(second.durableLsn) >= parseLsn(lsn));
    assert.ok(second.layers > first.layers, "a layer was added to those of the base backup");
    const info = JSON.parse(ok(await varve(["info", "--store", minio.url, "--json"], minio.env)).stdout);
    assert.is(info.timelines[0].layers.count, second.layers);
    await assertReads([minio.url], there, minio.env);
  });
}

test("varve import --compress and --encoder: smaller layers of the same pages", async () => {
  await cluster.stop("fast");
  const base = directory.join("base");
  await runCommand(findProgram("cp")!, ["-a", cluster.dataDir, base]);
  await cluster.start();
  await cluster.exec("UPDATE t SET v = repeat('e', 200) WHERE id % 2 = 0");
  const there = await shown(3);
  await cluster.stop("fast");
  const wal = `${cluster.dataDir}/pg_wal`;
  const bytes: Record<string, number> = {};
  for (const [codec, encoder] of [["none", "off"], ["lz4", "on"], ["zstd", "on"], ["none", "on"]]) {
    const store = `file://${directory.path}/${codec}-${encoder}?fsync=off`;
    const ways = ["--compress", codec, "--encoder", encoder, "--json"];
    const result = ok(await varve(["import", "--base", base, "--wal", wal, "--store", store, ...ways]));
    const { layerBytes, walRecords } = JSON.parse(result.stdout);
    assert.ok(walRecords > 10_000);
    bytes[`${codec} ${encoder}`] = layerBytes;
    await assertReads([store], there);
  }
  assert.is(bytes["none on"], bytes["none off"]);
  assert.ok(bytes["lz4 on"] < bytes["none on"] * 0.7, JSON.stringify(bytes));
  assert.ok(bytes["zstd on"] < bytes["lz4 on"], JSON.stringify(bytes));
});

test("varve import --until ends with the first record there, and goes on from it", async () => {
  const store = `file://${directory.path}/until?fsync=off`;
  const base = ["--base", directory.join("base"), "--store", store, "--json"];
  const wal = `${cluster.dataDir}/pg_wal`;
  const { stdout } = ok(await varve(["waldump", "--json", wal]));
  const ends: string[] = stdout.trimEnd().split("\n").map((line) => JSON.parse(line).endLsn);
  const [{ window: { to } }] =
    JSON.parse(ok(await varve(["info", "--store", store.replace("until", "none-on"), "--json"])).stdout)
      .timelines;
  const last = ends.indexOf(to);
  for (const index of [last - 9000, last - 8999, last - 17]) {
    const beyond = formatLsn(parseLsn(ends[index - 1]) + 1 as Lsn);
    const result = ok(await varve(["import", ...base, "--wal", wal, "--until", beyond]));
    assert.is(JSON.parse(result.stdout).durableLsn, ends[index]);
  }
});

test("varve follow tells that the slot is in use before it takes a base backup", async () => {
  await cluster.start();
  const args = ["follow", "--source", cluster.replicationUrl, "--slot", "taken"];
  const held = new VarveProcess([...args, "--store", `file://${directory.path}/holder?fsync=off`]);
  await using _holder = held;
  await held.said(/source\.streaming/);
  const second = `file://${directory.path}/second?fsync=off`;
  const { code, stderr } = await varve([...args, "--store", second]);
  assert.is(code, 3, stderr);
  assert.match(stderr, /taken[^]*hint: .*Another follower/);
  assert.not.match(stderr, /bootstrap/);
  held.signal("SIGTERM");
  ok(await held.end());
  ok(await varve([...args, "--store", second, "--until", "caught-up"]));
});

test("varve follow and import say what they cannot do", async () => {
  const source = ["--source", "postgres://nobody@127.0.0.1:1", "--store", `file://${directory.path}/none`];
  const cases: [string[], Record<string, string>, RegExp][] = [
    [["--acknowledge", "disk"], {}, /--cache is missing[^]*hint: /],
    [["--acknowledge", "tape"], {}, /--acknowledge: expected store or disk/],
    [["--compress", "brotli"], {}, /--compress: expected none or lz4 or zstd/],
    [[], { VARVE_COMPRESS: "brotli" }, /VARVE_COMPRESS: expected none or lz4 or zstd/],
    [[], { VARVE_ENCODER: "perhaps" }, /VARVE_ENCODER: expected auto or on or off/],
    [[], { VARVE_ACKNOWLEDGE: "disk" }, /--cache is missing/],
  ];
  for (const [args, env, message] of cases) {
    const { code, stderr } = await varve(["follow", ...source, ...args], env);
    assert.is(code, 2, stderr);
    assert.match(stderr, message);
  }
});

test.run();
