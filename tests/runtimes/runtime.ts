/**
 * The smoke test of another runtime: bundles, a server, a store made by Deno, and the script that is run on them.
 *
 * @module
 */
import { MAIN_FORKNUM, parseLsn, type RelationId, systemClock } from "../../mod.ts";
import { attachReader } from "../../src/read/attach.ts";
import { bundle, entryPoints } from "../../tools/build.ts";
import { followCluster, testStore } from "../support/follow.ts";
import { assert, type SuiteOptions, type TestRegistrar } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { findProgram, runCommand } from "../support/processes.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";

/** What `smoke.ts` prints. */
interface SmokeResult {
  past: string;
  early: string;
  present: string;
  records: number;
}

/** For suites of runtimes. */
export const OPTIONS: SuiteOptions = { timeoutMs: 120_000, sanitize: false };

/** Registers the tests of one runtime. They are skipped, and say so, where its program is not on the PATH. */
export function addRuntimeTests(
  test: TestRegistrar,
  program: string,
  minimum: [major: number, minor: number],
): void {
  const path = findProgram(program);
  const what = `bundles on ${program} read what Deno has stored, and follow a server`;
  if (path === undefined) return test.skip(`${what}: there is no ${program} on the PATH`);
  test(what, async () => {
    const { stdout: version } = await runCommand(path, ["--version"]);
    const [major, minor] = version.replace(/^v/, "").split(".").map(Number);
    assert.ok(major > minimum[0] || (major === minimum[0] && minor >= minimum[1]), `${program} ${version}`);
    await using directory = await temporaryDirectory(program);
    await using cluster = await startCluster({ major: 17, settings: { autovacuum: "off" } });
    const bundles = directory.join("dist");
    await bundle(
      { ...await entryPoints(), smoke: decodeURIComponent(new URL("smoke.ts", import.meta.url).pathname) },
      bundles,
    );
    await installPackages(bundles);
    const { relation, at, past } = await makeHistory(cluster, directory);
    await cluster.exec("UPDATE t SET b = 'third' WHERE a % 7 = 0");
    const until = await endOfRecord(cluster);
    const numbers = `${relation.spc}/${relation.db}/${relation.rel}`;
    const args = [`${bundles}/smoke.js`, directory.join("store"), numbers, "0", at, cluster.url(), until];
    const { stdout } = await runCommand(path, args, {
      cwd: directory.path,
      signal: AbortSignal.timeout(60_000),
    });
    const result: SmokeResult = JSON.parse(stdout);
    assert.is(result.past, past.toHex(), "the page of the past");
    assert.is(result.early, "not reached");
    assert.ok(result.records > 0);
    assert.is(result.present, await readAgain(directory, relation, until), "the page after following");
    assert.is.not(result.present, result.past);
  });
  test(`the command line runs on ${program}`, async () => {
    await using directory = await temporaryDirectory(program);
    await using cluster = await startCluster({ major: 17, settings: { autovacuum: "off" } });
    await bundle(await entryPoints(), directory.join("dist"));
    await installPackages(directory.join("dist"));
    const varve = async (...args: string[]) => {
      const options = { cwd: directory.path, signal: AbortSignal.timeout(60_000) };
      return (await runCommand(path, [directory.join("dist/varve.js"), ...args], options)).stdout;
    };
    const store = `file://${directory.join("store")}`;
    await varve("follow", "--source", cluster.url(), "--store", store, "--until", "caught-up");
    const info = JSON.parse(await varve("info", "--store", store, "--json"));
    assert.match(JSON.stringify(info), '"name":"main"');
    const [{ path: relation }] = await cluster.exec("SELECT pg_relation_filepath('pg_class') AS path");
    const page = await varve("page", "--store", store, "--rel", relation, "--block", "0");
    assert.match(page, /^00001ff0 /m);
  });
}

/** Lets Deno put the packages of package.json beside it: it has most of them in its cache. */
async function installPackages(directory: string): Promise<void> {
  await runCommand(Deno.execPath(), ["install", "--quiet", "--node-modules-dir=manual"], { cwd: directory });
}

/** A table before and after a change, followed by Deno. */
async function makeHistory(
  cluster: Cluster,
  directory: TemporaryDirectory,
): Promise<{ relation: RelationId; at: string; past: Uint8Array }> {
  const [{ db, rel }] = await cluster.exec(`
    CREATE TABLE t AS SELECT n AS a, 'first' AS b FROM generate_series(1, 500) n;
    SELECT d.oid::int AS db, pg_relation_filenode('t')::int AS rel FROM pg_database d WHERE datname = current_database()`);
  const relation = { spc: 1663, db, rel };
  const store = await testStore(directory.join("store"));
  const following = await followCluster(cluster, store);
  const at = await endOfRecord(cluster);
  await cluster.exec("UPDATE t SET b = 'second' WHERE a % 3 = 0");
  const end = await endOfRecord(cluster);
  await following.timeline.waitForRecord(parseLsn(end));
  const past = await following.reader.getPage(relation, MAIN_FORKNUM, 0, parseLsn(at));
  await following.follower.stop();
  await following.close();
  await store.close();
  return { relation, at, past };
}

/** Where a flushed record ends that is behind everything so far. */
async function endOfRecord(cluster: Cluster): Promise<string> {
  const [{ lsn }] = await cluster.exec(
    "SELECT pg_logical_emit_message(false, 'test', '', true)::text AS lsn",
  );
  return lsn;
}

async function readAgain(directory: TemporaryDirectory, relation: RelationId, at: string): Promise<string> {
  const store = await testStore(directory.join("store"));
  const attached = await attachReader({ store, clock: systemClock });
  const page = await attached.reader.getPage(relation, MAIN_FORKNUM, 0, parseLsn(at));
  await attached.close();
  await store.close();
  return page.toHex();
}
