/**
 * The example on `jsr:@std/streams`: with the real package where its registry answers, and everywhere with a stand-in, so that
 * the rest of the example is known to work.
 *
 * @module
 */
import { assert, suite } from "../support/harness.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { runExample } from "./run_example.ts";

const test = suite("examples/std streams", { timeoutMs: 90_000, sanitize: false });

const SPECIFIER = "jsr:@std/streams@1.0.9";
/** The two functions in use, as simple as they can be. */
const STAND_IN = `
export const toTransformStream = (transform) => {
  const { readable, writable } = new TransformStream();
  return { readable: ReadableStream.from(transform(readable)), writable };
};
export const toText = async (stream) => (await Array.fromAsync(stream)).join("");
`;

let cluster: Cluster;
let directory: TemporaryDirectory;
let until: string;

test.before(async () => {
  directory = await temporaryDirectory("std-streams");
  cluster = await startCluster({ major: 17, settings: { autovacuum: "off" } });
  await runExample("01_follow_a_primary.ts", [cluster.url(), directory.join("store"), await endOfWal()]);
  await cluster.exec("CREATE TABLE t AS SELECT n FROM generate_series(1, 2000) n");
  until = await endOfWal();
});

test.after(async () => {
  await cluster.dispose();
  await directory.remove();
});

/** Where a flushed record ends. */
async function endOfWal(): Promise<string> {
  const [{ lsn }] = await cluster.exec(
    "SELECT pg_logical_emit_message(false, 'test', '', true)::text AS lsn",
  );
  return lsn;
}

async function runIt(options: string[]): Promise<void> {
  const args = [cluster.url(), directory.join("store"), until];
  const lines = (await runExample("05_std_streams.ts", args, options)).trim().split("\n");
  const records = lines.map((line) => /^\S+ to \S+: (\d+) records, \d+ bytes$/.exec(line)?.[1]);
  assert.ok(records.reduce((sum, count) => sum + Number(count), 0) > 0, lines.join("\n"));
}

test("05_std_streams.ts describes batches, with a stand-in for @std/streams", async () => {
  const importMap = directory.join("import_map.json");
  await Deno.writeTextFile(directory.join("streams.ts"), STAND_IN);
  await Deno.writeTextFile(importMap, JSON.stringify({ imports: { [SPECIFIER]: "./streams.ts" } }));
  await runIt([`--import-map=${importMap}`]);
});

const real = "05_std_streams.ts describes batches, with @std/streams itself";
if (await canBeReached()) test(real, () => runIt([]));
else test.skip(`${real}: ${SPECIFIER} cannot be fetched here`);

/** Whether the package is in Deno's cache already, or its registry answers. */
async function canBeReached(): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["cache", "--no-config", "--no-lock", SPECIFIER],
      stdout: "null",
      stderr: "null",
      signal: AbortSignal.timeout(20_000),
    }).output();
    return success;
  } catch {
    return false;
  }
}

test.run();
