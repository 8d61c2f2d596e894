import { postgresSource } from "../../../src/deps/postgres_source.ts";
import { UnavailableError } from "../../../src/errors.ts";
import {
  type BackupProgress,
  type BaseBackupOptions,
  openBaseBackup,
} from "../../../src/write/source/base_backup.ts";
import { assert, suite } from "../../support/harness.ts";
import { type Cluster, POSTGRES_MAJORS, startCluster } from "../../support/postgres.ts";
import { waitFor } from "../../support/wait.ts";
import { accessTo, walSenders, writeWal } from "./source_support.ts";

const test = suite("write/source/base_backup", { sanitize: false });

/** What a backup leaves out (basebackup.c: `excludeDirContents`, `excludeFiles`, unlogged relations), or adds. */
const EXCLUDED = new RegExp(
  "^(pg_wal|pg_replslot|pg_dynshmem|pg_notify|pg_serial|pg_snapshots|pg_stat_tmp|pg_subtrans|pg_tblspc)/" +
    "|^(postmaster\\.pid|postmaster\\.opts|backup_label|tablespace_map)$|pg_internal\\.init|pgsql_tmp",
);

async function optionsFor(cluster: Cluster): Promise<BaseBackupOptions> {
  return { ...await accessTo(cluster), untar: postgresSource.untar };
}

async function digest(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Digests of all files below a directory, by path. */
async function filesBelow(directory: string, prefix = ""): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for await (const { name, isDirectory, isFile } of Deno.readDir(directory)) {
    const path = prefix + name;
    if (isDirectory) {
      for (const file of await filesBelow(`${directory}/${name}`, `${path}/`)) files.set(...file);
    } else if (isFile && !EXCLUDED.test(path)) {
      files.set(path, await digest(await Deno.readFile(`${directory}/${name}`)));
    }
  }
  return files;
}

/** A backup's files as the server has them below its data directory, by the same paths. */
async function backedUpFiles(options: BaseBackupOptions) {
  await using backup = await openBaseBackup(options);
  const files = new Map<string, string>();
  const texts = new Map<string, string>();
  const directories: string[] = [];
  for await (const entry of backup.entries()) {
    const path = entry.tablespaceOid === null ? entry.path : `${entry.tablespacePath}:${entry.path}`;
    if (entry.type !== "file") directories.push(path);
    const content = await new Response(ReadableStream.from(entry.body)).bytes();
    assert.is(content.length, entry.size);
    if (/^(backup_label|tablespace_map)$/.test(path)) texts.set(path, new TextDecoder().decode(content));
    else if (entry.type === "file" && !EXCLUDED.test(path)) files.set(path, await digest(content));
  }
  return { backup, files, texts, directories, end: backup.finish() };
}

for (const major of POSTGRES_MAJORS) {
  test(`openBaseBackup() yields exactly the files of a quiet PostgreSQL ${major}`, async () => {
    await using cluster = await startCluster({ major, settings: { autovacuum: "off" } });
    const [one, two] = [await cluster.directory("spc one"), await cluster.directory("spc2")];
    await cluster.exec(`CREATE TABLESPACE one LOCATION '${one}'`);
    await cluster.exec(`CREATE TABLESPACE two LOCATION '${two}'`);
    await cluster.exec(
      "CREATE TABLE a TABLESPACE one AS SELECT i, repeat('a', 500) FROM generate_series(1, 20000) AS i",
    );
    await cluster.exec("CREATE TABLE b AS SELECT i, repeat('b', 500) FROM generate_series(1, 20000) AS i");
    const [{ oid }] = await cluster.exec("SELECT oid::int AS oid FROM pg_tablespace WHERE spcname = 'one'");
    const progress: BackupProgress[] = [];
    const options = {
      ...await optionsFor(cluster),
      manifest: major % 2 === 0,
      onProgress: (step: BackupProgress) => void progress.push(step),
    };
    const { backup, files, texts, directories, end } = await backedUpFiles(options);

    const expected = await filesBelow(cluster.dataDir);
    for (const [path, hash] of await filesBelow(one)) expected.set(`${one}:${path}`, hash);
    for (const [path, hash] of await filesBelow(two)) expected.set(`${two}:${path}`, hash);
    assert.equal([...files].sort(), [...expected].sort());
    assert.ok(files.size > 900, `${files.size} files`);
    assert.ok(directories.includes("pg_wal"));

    assert.is(backup.tablespaces.length, 3);
    assert.is(backup.tablespaces.find(({ path }) => path === one)?.oid, oid);
    assert.is(backup.tablespaces.at(-1)?.oid, null, "the data directory comes last");
    assert.match(texts.get("tablespace_map")!, `${oid} ${one}`);
    const [, startText] = /START WAL LOCATION: (\S+)/.exec(texts.get("backup_label")!)!;
    assert.is(startText, lsnText(backup.start.lsn));
    assert.ok(end.stop.lsn > backup.start.lsn);
    assert.is(end.stop.tli, 1);
    assert.is(progress.at(-1)?.bytesDone, backup.bytesDone);
    assert.ok(Math.abs(backup.bytesTotal / backup.bytesDone - 1) < 0.2, "the estimate is near");
    if (major % 2 === 0) {
      const manifest = JSON.parse(new TextDecoder().decode(end.manifest!));
      assert.is(manifest["WAL-Ranges"][0]["End-LSN"], lsnText(end.stop.lsn));
    } else {
      assert.is(end.manifest, null);
    }
    assert.is(await walSenders(cluster), 0);
  });
}

function lsnText(lsn: number): string {
  return `${Math.floor(lsn / 2 ** 32).toString(16).toUpperCase()}/${
    (lsn % 2 ** 32).toString(16).toUpperCase()
  }`;
}

for (const major of [14, 17] as const) {
  test(`BaseBackup.entries() holds PostgreSQL ${major} back while its reader lags, and skips unread bodies`, async () => {
    await using cluster = await startCluster({ major });
    await writeWal(cluster, 60);
    await using backup = await openBaseBackup(await optionsFor(cluster));
    let entries = 0;
    let largest = 0;
    for await (const entry of backup.entries()) {
      entries++;
      if (entry.size < 4 * 1024 * 1024) continue;
      largest = Math.max(largest, entry.size);
      // Nothing of this body is taken: what is in flight must stop growing, whatever the size of the rest.
      let before = -1;
      await waitFor(() => {
        const isStill = before === backup.bytesDone;
        before = backup.bytesDone;
        return isStill;
      }, { what: "the backup stands still", intervalMs: 100 });
      const inFlight = backup.bytesDone;
      assert.ok(inFlight < 60 * 1024 * 1024, `${inFlight} bytes read ahead`);
    }
    assert.ok(largest > 20 * 1024 * 1024, "a large file was met");
    assert.ok(entries > 900);
    assert.ok(backup.bytesDone > 60 * 1024 * 1024);
    assert.ok(backup.finish().stop.lsn > backup.start.lsn);
  });

  test(`BaseBackup of PostgreSQL ${major} leaves nothing behind when it ends early`, async () => {
    await using cluster = await startCluster({ major });
    await writeWal(cluster, 30);
    const options = await optionsFor(cluster);
    const early = await openBaseBackup(options);
    for await (const entry of early.entries()) if (entry.path.startsWith("base/")) break;
    assert.raises(() => early.finish(), TypeError);
    await waitFor(async () => await walSenders(cluster) === 0, { what: "no walsender after a break" });

    const abort = new AbortController();
    const aborted = await openBaseBackup({ ...options, signal: abort.signal });
    const reason = await assert.rejects(async () => {
      for await (const entry of aborted.entries()) {
        if (entry.size > 1024 * 1024) { for await (const _ of entry.body) abort.abort(new Error("enough")); }
      }
    }, "enough");
    assert.is(reason, abort.signal.reason);
    await waitFor(async () => await walSenders(cluster) === 0, { what: "no walsender after an abort" });

    const broken = await openBaseBackup(options);
    await assert.rejects(async () => {
      for await (const entry of broken.entries()) {
        if (!entry.path.startsWith("base/")) continue;
        await cluster.exec(
          "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'",
        );
        for await (const _ of entry.body);
      }
    }, (error) => error instanceof UnavailableError && /57P01|closed/.test(error.message));

    const early2 = new AbortController();
    const opening = openBaseBackup({ ...options, signal: early2.signal });
    early2.abort(new Error("at once"));
    await assert.rejects(opening, "at once");
    await waitFor(async () => await walSenders(cluster) === 0, { what: "no walsender in the end" });
  });
}

test.run();
