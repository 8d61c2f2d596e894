/**
 * The examples, run one after the other on one real server and one directory, as the README suggests.
 *
 * @module
 */
import { firstDifference, maskedPage } from "../../examples/demo/prove.ts";
import { managerOfPage, Page } from "../../mod.ts";
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { DENO_RUN, examplePath, runExample } from "./run_example.ts";

const test = suite("examples", { timeoutMs: 90_000, sanitize: false });

let cluster: Cluster;
let directory: TemporaryDirectory;
/** A page that the server showed at an LSN of the past, and has changed since. */
let past: { lsn: string; path: string; bytes: Uint8Array };

test.before(async () => {
  directory = await temporaryDirectory("examples");
  cluster = await startCluster({ major: 17, settings: { autovacuum: "off" } });
  await cluster.exec(
    "CREATE EXTENSION pageinspect; CREATE TABLE t AS SELECT n AS a, 'first' AS b FROM generate_series(1, 500) n",
  );
});

test.after(async () => {
  await cluster.dispose();
  await directory.remove();
});

/** Where a record ends that is behind everything so far, and flushed. */
async function quietLsn(): Promise<string> {
  const [{ lsn }] = await cluster.exec(
    "SELECT pg_logical_emit_message(false, 'test', '', true)::text AS lsn",
  );
  return lsn;
}

test("01_follow_a_primary.ts makes a timeline and goes on with it", async () => {
  const first = await runExample("01_follow_a_primary.ts", [cluster.url(), directory.path, await quietLsn()]);
  assert.match(first, /base backup: \d+ of ~\d+ bytes/);
  assert.match(first, /durable up to [0-9A-F]+\/[0-9A-F]+: \d+ records/);
  const lsn = await quietLsn();
  const [{ bytes, path }] = await cluster.exec(
    "SELECT get_raw_page('t', 0) AS bytes, pg_relation_filepath('t') AS path",
  );
  past = { lsn, bytes, path: path.replace("base/", "1663/") };
  await cluster.exec("UPDATE t SET b = 'second' WHERE a % 3 = 0; DELETE FROM t WHERE a % 3 = 1");
  await cluster.exec("VACUUM t");
  const second = await runExample("01_follow_a_primary.ts", [
    cluster.url(),
    directory.path,
    await quietLsn(),
  ]);
  assert.not.match(second, /base backup/);
  assert.match(second, /durable up to/);
});

test("02_read_a_page_of_the_past.ts reads what was there, and what is", async () => {
  const args = [directory.path, past.path, "0"];
  const then = await runExample("02_read_a_page_of_the_past.ts", [...args, past.lsn]);
  const today = await runExample("02_read_a_page_of_the_past.ts", args);
  const page = Page.from(past.bytes);
  assert.match(then, `${page.maxOffsetNumber()} line pointers, ${page.upper - page.lower} bytes free`);
  assert.match(then, /item 3: \d+ bytes at \d+: [0-9a-f]{48}\.\.\./);
  assert.is.not(then, today);
});

test("03_mount_the_status_app.ts serves the app below a path, and pages beside it", async () => {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...DENO_RUN, examplePath("03_mount_the_status_app.ts"), directory.path],
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  let output = "";
  const reading = child.stdout.pipeThrough(new TextDecoderStream()).pipeTo(
    new WritableStream({ write: (text) => void (output += text) }),
  );
  try {
    const url = await waitFor(() => /listening on (http:\S+)/.exec(output)?.[1], {
      what: "the example listens",
    });
    const status = await (await fetch(`${url}varve/v1/status`)).json();
    assert.is(status.timelines[0].name, "main");
    assert.match(await (await fetch(`${url}varve/metrics`)).text(), /^varve_/m);
    const answer = await fetch(`${url}pages/${past.path}/0?lsn=${past.lsn}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const manager = managerOfPage(Page.from(past.bytes.slice()), 0);
    const difference = firstDifference(maskedPage(bytes, 0, manager), maskedPage(past.bytes, 0, manager));
    assert.is(difference, -1, "the page is the one that the server showed");
  } finally {
    child.kill("SIGKILL");
    await Promise.all([child.status, reading]);
  }
});

test("04_tee_the_decoded_stream.ts counts what it ingests", async () => {
  await cluster.exec("INSERT INTO t SELECT n, 'third' FROM generate_series(1, 1000) n");
  const until = await quietLsn();
  const output = await runExample("04_tee_the_decoded_stream.ts", [cluster.url(), directory.path, until]);
  const heapRecords = Number(/^Heap: (\d+) records$/m.exec(output)?.[1]);
  assert.ok(heapRecords >= 1000, output);
  assert.match(output, /durable up to/);
  // What it ingested can be read.
  assert.match(
    await runExample("02_read_a_page_of_the_past.ts", [directory.path, past.path, "4", until]),
    "line pointers",
  );
});

test.run();
