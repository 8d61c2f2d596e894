/**
 * The ways of `varve restore`, on one followed history: targets, tar streams, one database alone, a standby that streams on,
 * receipts; and what must not be restored: damaged and missing layers, LSNs outside the window, into directories in use.
 *
 * @module
 */
import { formatLsn, type Lsn, parseLsn } from "../../src/lsn.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import { CorruptionError, NotFoundError } from "../../src/errors.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { attachReader } from "../../src/read/attach.ts";
import { restore } from "../../src/restore/restore.ts";
import { verifyDirectory } from "../../src/restore/verify.ts";
import { parseRelationPath } from "../../src/postgres/files/relation_path.ts";
import { backupDirectory } from "../../src/store/directory_files.ts";
import { restoreDirectory } from "../../src/store/restore_directory.ts";
import type { FilesStore } from "../../src/store/files.ts";
import { varve } from "../cli/varve_process.ts";
import { followCluster, testStore } from "../support/follow.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { postgresBinaries } from "../support/postgres_binaries.ts";
import { runCommand } from "../support/processes.ts";
import * as restored from "../support/restored.ts";
import { removeTree, scratchDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";

const test = suite("system/restore ways", { timeoutMs: 360_000, sanitize: false });

const MAJOR = 17;
const SETTINGS = { max_prepared_transactions: 20, wal_keep_size: "1GB", autovacuum: "off" };

let path = "";
let primary: Cluster;
let store: FilesStore;
let owner = "";
/** Ids that the table had at each target. */
const seen: Record<string, { lsn: Lsn; ids: number[] }> = {};
let xid = "";
let time = "";

async function idsOf(cluster: Cluster): Promise<number[]> {
  return (await cluster.exec("SELECT id FROM steps ORDER BY id")).map((row) => Number(row.id));
}

async function note(name: string): Promise<void> {
  const { lsn } = await restored.remember(primary);
  seen[name] = { lsn, ids: await idsOf(primary) };
}

test.before(async () => {
  path = await Deno.realPath(
    await Deno.makeTempDir({ prefix: "varve-ways-", dir: await scratchDirectory() }),
  );
  await Deno.chmod(path, 0o755);
  const { user } = await postgresBinaries(MAJOR);
  owner = user.uid === undefined ? "" : `${user.uid}:${user.gid ?? 0}`;
  primary = await startCluster({ major: MAJOR, settings: SETTINGS });
  store = await testStore(`${path}/store`);
  await primary.exec("CREATE TABLE steps (id int PRIMARY KEY, filler text)");
  await primary.exec("INSERT INTO steps SELECT i, repeat('x', 100) FROM generate_series(1, 3000) i");
  await primary.exec("VACUUM (FREEZE) steps"); // so that reading does not change it
  await primary.exec("CREATE DATABASE other");
  await primary.exec("CREATE TABLE elsewhere AS SELECT 1 AS one", "other");
  const following = await followCluster(primary, store);
  await primary.exec("INSERT INTO steps VALUES (10001)");
  await note("lsn");
  await primary.exec("INSERT INTO steps VALUES (10002)");
  await primary.exec("SELECT pg_create_restore_point('the point')");
  await note("name");
  const [{ x }] = await primary.exec(
    "INSERT INTO steps VALUES (10003) RETURNING pg_current_xact_id()::text AS x",
  );
  xid = String(x);
  await note("xid");
  const [{ now }] = await primary.exec("SELECT pg_sleep(0.01), clock_timestamp()::text AS now");
  time = String(now);
  await primary.exec("SELECT pg_sleep(0.01); INSERT INTO steps VALUES (10004); CHECKPOINT");
  const [{ end }] = await primary.exec("SELECT pg_current_wal_flush_lsn() AS end");
  await following.timeline.waitForRecord(parseLsn(String(end)));
  // What is only in memory yet belongs to it.
  assert.ok(following.timeline.lastRecordLsn > following.timeline.remoteConsistentLsn);
  const { uid, gid } = (await postgresBinaries(MAJOR)).user;
  const target = await restoreDirectory(`${path}/live`, {
    fsync: false,
    owner: uid === undefined ? undefined : { uid, gid: gid ?? 0 },
  });
  await restore(following, following.timeline.lastRecordLsn, target, { clock: systemClock });
  await following.follower.stop();
  await following.close();
});

test.after(async () => {
  await store?.close();
  await primary?.dispose();
  await removeTree(path);
});

/** `varve restore` into a new directory; returns the server that runs on it. */
async function restoreAndStart(name: string, ...args: string[]): Promise<Cluster> {
  const result = await varve([
    "restore",
    "--store",
    `file://${path}/store`,
    ...own(),
    ...args,
    `${path}/${name}`,
  ]);
  assert.is(result.code, 0, result.stderr);
  return await restored.startRestored(MAJOR, `${path}/${name}`);
}

function own(): string[] {
  return owner === "" ? ["--no-sync"] : ["--no-sync", "--owner", owner];
}

for (
  const [name, target, expected] of [
    ["lsn", () => ["--at", formatLsn(seen.lsn.lsn)], () => seen.lsn.ids],
    ["name", () => ["--target-name", "the point"], () => seen.name.ids],
    ["xid", () => ["--target-xid", xid], () => seen.xid.ids],
    ["exclusive xid", () => ["--target-xid", xid, "--target-exclusive"], () => seen.name.ids],
    ["time", () => ["--target-time", time], () => seen.xid.ids],
  ] as const
) {
  test(`varve restore to a target ${name} shows what PostgreSQL showed there`, async () => {
    await using cluster = await restoreAndStart(`to-${name.replace(" ", "-")}`, ...target());
    assert.equal(await idsOf(cluster), expected());
    assert.equal(restored.complaints(cluster), []);
  });
}

test("restore() from a timeline that is being followed has what is not in layers yet", async () => {
  await using cluster = await restored.startRestored(MAJOR, `${path}/live`);
  assert.is((await idsOf(cluster)).at(-1), 10004);
  assert.equal(await restored.checkCluster(cluster), []);
});

test("restore() writes the pages that getPage() reads, also after layers were merged and images made", async () => {
  const merged = `${path}/merged`;
  await runCommand("cp", ["-r", `${path}/store`, merged]);
  const compacted = await varve(["compact", "--store", `file://${merged}`, "--all", "--images", "all"]);
  assert.is(compacted.code, 0, compacted.stderr);
  const attached = await attachReader({ store, clock: systemClock });
  for (
    const [folder, lsn] of [["store", seen.name.lsn], ["merged", seen.name.lsn], [
      "merged",
      undefined,
    ]] as const
  ) {
    const at = lsn ?? attached.timeline.lastRecordLsn;
    const directory = `${path}/pages-of-${folder}-${at}`;
    const args = ["--at", formatLsn(at), "--no-sync", "--keep-tli", directory];
    const result = await varve(["restore", "--store", `file://${path}/${folder}`, ...args]);
    assert.is(result.code, 0, result.stderr);
    let pages = 0;
    for await (const entry of backupDirectory(directory).entries()) {
      const file = entry.type === "file" ? parseRelationPath(entry.path) : undefined;
      if (file === undefined) continue;
      const bytes = await Deno.readFile(`${directory}/${entry.path}`);
      for (let block = 0; block * 8192 < bytes.length; block++, pages++) {
        const expected = await attached.reader.getPage(file, file.fork, block, at);
        const written = bytes.subarray(block * 8192, (block + 1) * 8192);
        if (written.some((byte, index) => byte !== expected[index])) {
          throw new Error(`${entry.path} block ${block} of ${folder} at ${formatLsn(at)} differs`);
        }
      }
    }
    assert.ok(pages > 2000, `${pages} pages compared`);
  }
  await attached.close();
});

test("varve diff names the relation that changed, and its block", async () => {
  const [{ file }] = await primary.exec("SELECT pg_relation_filepath('steps') AS file");
  const { code, stdout, stderr } = await varve([
    ...["diff", "--store", `file://${path}/store`, "--json", "--rel", String(file)],
    ...["--from", formatLsn(seen.lsn.lsn), "--to", formatLsn(seen.name.lsn)],
  ]);
  assert.is(code, 0, stderr);
  const { changes } = JSON.parse(stdout);
  const main = changes.filter((change: { fork: string }) => change.fork === "main");
  assert.is(main.length, 1);
  assert.equal([main[0].change, main[0].changedBlocks, main[0].database], ["changed", 1, "postgres"]);
  const [{ block }] = await primary.exec(
    "SELECT (ctid::text::point)[0]::int AS block FROM steps WHERE id = 10002",
  );
  assert.equal(main[0].blocks, [[block, block]]);
});

test("varve restore --verify --boot leaves a receipt of what it found", async () => {
  const binaries = await postgresBinaries(MAJOR);
  const folder = binaries.program("postgres").replace(/\/postgres$/, "");
  const directory = `${path}/booted`;
  const result = await varve([
    ...[
      "restore",
      "--store",
      `file://${path}/store`,
      ...own(),
      "--json",
      "--verify",
      "--boot",
      folder,
      directory,
    ],
  ], binaries.env);
  assert.is(result.code, 0, result.stderr);
  const receipt = JSON.parse(await Deno.readTextFile(`${directory}.receipt.json`));
  assert.equal(JSON.parse(result.stdout), receipt);
  assert.is(receipt.verify.problemCount, 0);
  assert.is(receipt.verify.checksums, receipt.verify.pages);
  assert.ok(receipt.boot.amcheck && receipt.boot.heaps > 100 && receipt.boot.indexes > 100);
  assert.equal([receipt.boot.problemCount, receipt.boot.complaints], [0, []]);
  assert.ok(Math.abs(Date.parse(receipt.time) - Date.now()) < 3_600_000, receipt.time);
  assert.ok(receipt.requests > 0 && receipt.bytesRead > 0 && receipt.restored.pages > 0);
});

test("varve restore --as tar is a directory that starts", async () => {
  const { code, bytes, stderr } = await varve([
    ...["restore", "--store", `file://${path}/store`, ...own(), "--as", "tar", "--keep-tli", "-"],
  ]);
  assert.is(code, 0, stderr);
  await Deno.mkdir(`${path}/untarred`);
  await Deno.writeFile(`${path}/cluster.tar`, bytes);
  await runCommand("tar", ["xf", `${path}/cluster.tar`, "-C", `${path}/untarred`]);
  await using cluster = await restored.startRestored(MAJOR, `${path}/untarred`);
  assert.is((await idsOf(cluster)).at(-1), 10004);
});

test("varve restore --db leaves the others out, and they can be dropped", async () => {
  await using cluster = await restoreAndStart("one-database", "--db", "postgres");
  assert.is((await idsOf(cluster)).at(-1), 10004);
  await cluster.exec("DROP DATABASE other");
  assert.equal(
    (await cluster.exec("SELECT count(*)::int AS n FROM pg_database WHERE datname = 'other'"))[0].n,
    0,
  );
  const unknown = await varve([
    "restore",
    "--store",
    `file://${path}/store`,
    "--db",
    "nowhere",
    `${path}/nowhere`,
  ]);
  assert.is(unknown.code, 5);
  assert.match(unknown.stderr, /It has: .*other/);
});

test("varve restore --as standby streams on from the primary", async () => {
  const directory = `${path}/standby`;
  const args = ["--as", "standby", "--at", formatLsn(seen.name.lsn)];
  const result = await varve(["restore", "--store", `file://${path}/store`, ...own(), ...args, directory]);
  assert.is(result.code, 0, result.stderr);
  const conninfo = `host=${primary.host} port=${primary.port} user=${primary.user}`;
  await using standby = await restored.startRestored(MAJOR, directory, {
    primary_conninfo: conninfo,
    hot_standby: "on",
  });
  await primary.exec("INSERT INTO steps VALUES (10005)");
  await waitFor(async () => (await idsOf(standby)).at(-1) === 10005, {
    what: "the standby has what came later",
    timeoutMs: 120_000,
  });
  assert.equal(
    await standby.exec("SELECT pg_is_in_recovery() AS standby").then((rows) => rows[0].standby),
    true,
  );
});

test("varve restore refuses an LSN outside the window, and names the window", async () => {
  for (const at of ["0/28", "FF/0"]) {
    const directory = `${path}/outside`;
    const { code, stderr } = await varve([
      "restore",
      "--store",
      `file://${path}/store`,
      "--at",
      at,
      directory,
    ]);
    assert.is(code, 5);
    assert.match(stderr, /Recoverable: 0\/[0-9A-F]+ to 0\/[0-9A-F]+/);
    assert.equal(await leftovers("outside"), []);
  }
});

test("varve restore refuses a directory that is not empty, and replaces it with --force", async () => {
  const directory = `${path}/full`;
  await Deno.mkdir(directory);
  await Deno.writeTextFile(`${directory}/precious`, "");
  const args = ["restore", "--store", `file://${path}/store`, "--no-sync", directory];
  const refused = await varve(args);
  assert.is(refused.code, 1);
  assert.match(refused.stderr, /not empty/);
  assert.equal([...Deno.readDirSync(directory)].map((entry) => entry.name), ["precious"]);
  assert.is((await varve([...args, "--force"])).code, 0);
  assert.ok(!await exists(`${directory}/precious`) && await exists(`${directory}/global/pg_control`));
  assert.equal(await leftovers("full"), ["full"]);
});

test("verifyDirectory() finds a page that was damaged after it was written", async () => {
  const directory = `${path}/full`;
  const file = `${directory}/base/1/1259`;
  const bytes = await Deno.readFile(file);
  bytes[8192 + 5000] ^= 0x01;
  await Deno.writeFile(file, bytes);
  const { problems, pages } = await verifyDirectory(backupDirectory(directory), { lsn: 0x7fff_ffff as Lsn });
  assert.ok(pages > 1000);
  assert.is(problems.length, 1);
  assert.match(problems[0], /^base\/1\/1259 block 1: its checksum is \d+, expected \d+$/);
});

test("varve restore --dry-run writes nothing", async () => {
  const { code, stdout } = await varve([
    ...["restore", "--store", `file://${path}/store`, "--dry-run", "--json", `${path}/dry`],
  ]);
  assert.is(code, 0);
  const { restored: would, bytesToFetch } = JSON.parse(stdout);
  assert.ok(would.pages > 0 && bytesToFetch > 0);
  assert.equal(await leftovers("dry"), []);
});

test("restore() fails over a damaged layer, names it and leaves nothing behind", async () => {
  let object = "";
  const damage = (key: string, bytes: Uint8Array) => {
    object = key.slice(key.lastIndexOf("/") + 1);
    bytes[bytes.length >> 1] ^= 0x10;
  };
  const isToBeDamaged = (offset: number, length: number) => offset > 0 && length > 100_000 && object === "";
  const broken = storeWith({
    async getRange(key, offset, length, options) {
      const bytes = await store.getRange(key, offset, length, options);
      if (isToBeDamaged(offset, length)) damage(key, bytes);
      return bytes;
    },
    async getStream(key, options) {
      const { size, body } = await store.getStream(key, options);
      const range = options?.range;
      if (range === undefined || !isToBeDamaged(range.offset, range.length)) return { size, body };
      const damaging = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          if (object === "") damage(key, chunk);
          controller.enqueue(chunk);
        },
      });
      return { size, body: body.pipeThrough(damaging) };
    },
  });
  const error = await failureOf(broken, "damaged");
  assert.instance(error, CorruptionError);
  assert.ok(object !== "" && error.message.includes(object), error.message);
  assert.equal(await leftovers("damaged"), []);
});

test("restore() fails over a missing layer before it writes, and names it", async () => {
  const attached = await attachReader({ store, clock: systemClock });
  const { name } = attached.manifest.layers.at(-1)!;
  await attached.close();
  const lacking = storeWith({
    async *list(prefix) {
      for await (const entry of store.list(prefix)) if (!entry.key.endsWith(name)) yield entry;
    },
  });
  const error = await failureOf(lacking, "missing");
  assert.instance(error, NotFoundError);
  assert.ok(error.message.includes(name), error.message);
  assert.equal(await leftovers("missing"), []);
});

/** The store with some methods replaced. */
function storeWith(methods: Partial<ObjectStore>): ObjectStore {
  return {
    description: store.description,
    put: (...args) => store.put(...args),
    get: (...args) => store.get(...args),
    getRange: (...args) => store.getRange(...args),
    getStream: (...args) => store.getStream(...args),
    head: (...args) => store.head(...args),
    list: (...args) => store.list(...args),
    delete: (...args) => store.delete(...args),
    close: () => Promise.resolve(),
    ...methods,
  };
}

async function failureOf(from: ObjectStore, name: string): Promise<Error> {
  const attached = await attachReader({ store: from, clock: systemClock });
  try {
    const target = await restoreDirectory(`${path}/${name}`, { fsync: false });
    await restore(attached, attached.timeline.lastRecordLsn, target, { clock: systemClock, store: from });
  } catch (error) {
    return error as Error;
  } finally {
    await attached.close();
  }
  throw new Error("It was restored");
}

/** Names in the folder that have something to do with a directory. */
async function leftovers(name: string): Promise<string[]> {
  const names: string[] = [];
  for await (const entry of Deno.readDir(path)) if (entry.name.startsWith(name)) names.push(entry.name);
  return names.sort();
}

async function exists(file: string): Promise<boolean> {
  return await Deno.stat(file).then(() => true, () => false);
}

test.run();
