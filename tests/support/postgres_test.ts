import { assert, suite } from "./harness.ts";
import { DEFAULT_SETTINGS, POSTGRES_MAJORS, startCluster } from "./postgres.ts";
import { isAlive } from "./processes.ts";
import { exists } from "./cache.ts";
import { postgres } from "../../src/deps/postgres.ts";
import { temporaryDirectory } from "./temp.ts";
import { waitFor } from "./wait.ts";

const test = suite("support/postgres", { sanitize: false, timeoutMs: 120_000 });

for (const major of POSTGRES_MAJORS) {
  test(`startCluster() runs PostgreSQL ${major}, and leaves nothing behind`, async () => {
    const cluster = await startCluster({ major });
    const pid = cluster.pid!;
    try {
      const [{ server_version_num }] = await cluster.exec("SHOW server_version_num");
      assert.is(Math.floor(server_version_num / 10000), major);
      const [{ data_checksums }] = await cluster.sql()`SHOW data_checksums`;
      assert.is(data_checksums, "on");
      await cluster.stop();
      assert.not(isAlive(pid));
      assert.ok(await exists(`${cluster.dataDir}/PG_VERSION`), "files stay until the cluster is disposed of");
    } finally {
      await cluster.dispose();
    }
    assert.not(await exists(cluster.rootDir));
  });
}
test("Cluster.kill9() is survived by recovery, and clients reconnect", async () => {
  await using cluster = await startCluster({ major: 17, checksums: false, walSegmentSizeMb: 1 });
  await cluster.exec("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i");
  await cluster.kill9();
  assert.not(cluster.running);
  await cluster.start();
  const [{ count }] = await cluster.sql()`SELECT count(*) FROM t`;
  assert.is(Number(count), 1000);
  assert.match(cluster.logTail(500), "redo done at");
  assert.equal(await cluster.exec("SHOW wal_segment_size"), [{ wal_segment_size: "1MB" }]);
});

test("startCluster() passes on settings, and configure() with reload() changes them", async () => {
  await using cluster = await startCluster({ major: 14, settings: { work_mem: "3MB" } });
  assert.equal(await cluster.exec("SHOW work_mem"), [{ work_mem: "3MB" }]);
  assert.equal(await cluster.exec("SHOW fsync"), [{ fsync: DEFAULT_SETTINGS.fsync }]);
  await cluster.configure({ work_mem: "5MB" });
  await cluster.restart();
  assert.equal(await cluster.exec("SHOW work_mem"), [{ work_mem: "5MB" }]);
});

test("startCluster() asks for SCRAM passwords", async () => {
  await using cluster = await startCluster({ major: 16, auth: "scram" });
  assert.equal(await cluster.exec("SELECT 1 AS one"), [{ one: 1 }]);
  const stranger = postgres(cluster.url("postgres", { password: "wrong" }), { max: 1 });
  await assert.rejects(stranger`SELECT 1`, (error) => (error as { code?: string }).code === "28P01");
  await stranger.end();
});

test("startCluster() offers TLS that verifies for its hosts only", async () => {
  await using cluster = await startCluster({ major: 18, tls: true });
  const url = cluster.url("postgres", { host: "localhost" });
  const ca = cluster.tls!.authority;
  const trusting = postgres(url, { max: 1, ssl: { ca } });
  const [{ ssl }] = await trusting`SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()`;
  assert.is(ssl, true);
  await trusting.end();
  const distrusting = postgres(url, { max: 1, ssl: {} });
  await assert.rejects(distrusting`SELECT 1`, /certificate|issuer/i);
  await distrusting.end();
  await using other = await startCluster({ major: 18, tls: { hosts: ["elsewhere.invalid"] } });
  const misled = postgres(other.url("postgres", { host: "localhost" }), {
    max: 1,
    ssl: { ca: other.tls!.authority },
  });
  await assert.rejects(misled`SELECT 1`, "elsewhere.invalid");
  await misled.end();
});

test("startCluster() takes over a data directory, and gives another its own system identifier", async () => {
  await using first = await startCluster({ major: 15 });
  await first.exec("CREATE TABLE t AS SELECT 7 AS seven");
  const identify = "SELECT system_identifier FROM pg_control_system()";
  const [{ system_identifier }] = await first.exec(identify);
  await first.stop();
  await using second = await startCluster({
    major: 15,
    dataDir: first.dataDir,
    settings: { work_mem: "6MB" },
  });
  assert.equal(await second.exec("SELECT seven FROM t"), [{ seven: 7 }]);
  assert.equal(await second.exec("SHOW work_mem"), [{ work_mem: "6MB" }]);
  await using third = await startCluster({ major: 15, ownSystemIdentifier: true });
  assert.is.not((await third.exec(identify))[0].system_identifier, system_identifier);
});

test("guard() ends the server and removes its files when the process is killed", async () => {
  const script = `
    import { startCluster } from ${JSON.stringify(import.meta.resolve("./postgres.ts"))};
    const cluster = await startCluster({ major: 17 });
    console.log(JSON.stringify({ pid: cluster.pid, rootDir: cluster.rootDir }));
    await new Promise((resolve) => setTimeout(resolve, 60_000));
  `;
  await using directory = await temporaryDirectory();
  await Deno.writeTextFile(directory.join("victim.ts"), script);
  const victim = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", directory.join("victim.ts")],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = victim.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) text += (await reader.read()).value ?? "\n";
  const { pid, rootDir } = JSON.parse(text);
  assert.ok(isAlive(pid));
  victim.kill("SIGKILL");
  await victim.status;
  await reader.cancel();
  await waitFor(() => !isAlive(pid), { what: "the orphaned server has ended" });
  await waitFor(async () => !(await exists(rootDir)), { what: "its files are removed" });
});

test.run();
