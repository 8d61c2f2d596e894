/**
 * Bad input from the outside: each gets a message that says what, a hint that says what next, the exit code of its kind,
 * and shows no secret.
 *
 * @module
 */
import { assert, suite } from "../support/harness.ts";
import { freePort } from "../support/ports.ts";
import { type Cluster, startCluster } from "../support/postgres.ts";
import { findProgram, runCommand } from "../support/processes.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temp.ts";
import { waitFor } from "../support/wait.ts";
import { varve, VarveProcess, type VarveResult } from "./varve_process.ts";

const test = suite("cli/bad input", { timeoutMs: 60_000, sanitize: false });

const SECRET = "not-the-password";

let cluster: Cluster;
let directory: TemporaryDirectory;
/** A store with a timeline `main` of the cluster. */
let store: string;
/** A relation of it with 100 pages and more. */
let relation: string;

test.before(async () => {
  directory = await temporaryDirectory("cli-bad");
  store = fileStore("good");
  // Small segments and no leniency, so that WAL is gone soon.
  cluster = await startCluster({
    major: 17,
    auth: "scram",
    walSegmentSizeMb: 1,
    settings: {
      wal_keep_size: 0,
      min_wal_size: "2MB",
      max_wal_size: "4MB",
      max_slot_wal_keep_size: "2MB",
      wal_recycle: "off",
    },
  });
  await cluster.exec(`
    CREATE ROLE plain LOGIN PASSWORD 'plain-password';
    CREATE TABLE t AS SELECT g, repeat('x', 500) AS v FROM generate_series(1, 2000) g;`);
  [{ relation }] = await cluster.exec("SELECT pg_relation_filepath('t') AS relation");
  for (
    const [into, slot] of [["good", ["--slot", "good"]], ["lost", ["--slot", "lost"]], ["gone", [
      "--no-slot",
    ]]]
  ) {
    const result = await varve([...followInto(fileStore(into as string)), ...slot, "--until", "caught-up"]);
    assert.is(result.code, 0, result.stderr);
  }
});

test.after(async () => {
  await cluster?.dispose();
  await directory?.remove();
});

function fileStore(name: string): string {
  return `file://${directory.path}/${name}?fsync=off`;
}

function followInto(into: string, source = cluster.replicationUrl): string[] {
  return ["follow", "--store", into, "--source", source];
}

function page(...args: string[]): string[] {
  return ["page", "--store", store, ...args];
}

/** Checks how a run has failed, as people see it. */
function failed(result: VarveResult, code: number, message: RegExp, hint: RegExp): void {
  const { stderr, stdout } = result;
  assert.is(result.code, code, stderr);
  assert.match(stderr, /^varve: Cannot /m);
  assert.ok(message.test(stderr), `expected ${message}:\n${stderr}`);
  assert.match(/^ {2}hint: {2}(.*)$/m.exec(stderr)?.[1] ?? "", hint, stderr);
  assert.ok(!/\n\s+at .*:\d+:\d+/.test(stderr), `no stack is shown:\n${stderr}`);
  assert.ok(!(stderr + stdout).includes(SECRET), "no secret is shown");
}

test("a wrong password ends with 8, in JSON too", async () => {
  const args = followInto(fileStore("new"), cluster.url("postgres", { password: SECRET }));
  failed(await varve(args), 8, /28P01 password authentication failed/, /PGPASSWORD or a password file/);
  const { code, stderr } = await varve([...args, "--json"]);
  assert.is(code, 8);
  const document = JSON.parse(stderr.trim().split("\n").at(-1)!);
  assert.equal([document.level, document.code, document.exitCode], ["error", "POSTGRES", 8]);
  assert.match(document.hint, /password/);
  assert.ok(!stderr.includes(SECRET));
});

test("a user without the right to replicate ends with 8", async () => {
  const source = cluster.url("postgres", { user: "plain", password: "plain-password" });
  failed(await varve(followInto(fileStore("new"), source)), 8, /42501/, /REPLICATION/);
});

test("the password may come from PGPASSWORD or a password file", async () => {
  const source = `postgres://postgres@127.0.0.1:${cluster.port}`;
  const passfile = directory.join("passfile");
  await Deno.writeTextFile(passfile, `127.0.0.1:*:*:postgres:${cluster.password}\n`, { mode: 0o600 });
  const environments: Record<string, string>[] = [{ PGPASSWORD: cluster.password! }, {
    PGPASSFILE: passfile,
  }];
  for (const env of environments) {
    const args = [...followInto(store, source), "--slot", "good", "--until", "caught-up"];
    const result = await varve(args, env);
    assert.is(result.code, 0, result.stderr);
    assert.ok(!(result.stdout + result.stderr).includes(cluster.password!));
  }
});

test("a server that cannot be reached ends with 3", async () => {
  const source = `postgres://postgres:${SECRET}@127.0.0.1:${freePort()}`;
  failed(await varve(followInto(fileStore("new"), source)), 3, /ECONNREFUSED/, /host and port/);
  // One that was reached before is tried again, until we shall give up.
  const args = [...followInto(store, source), "--give-up-after", "500ms"];
  failed(await varve(args), 3, /source\.retry[^]*ECONNREFUSED/, /host and port/);
});

test("a slot in use is tried again, and ends with 3 when we shall give up", async () => {
  await using holder = new VarveProcess([...followInto(fileStore("holder")), "--slot", "held"]);
  await holder.said(/source\.streaming/);
  await waitFor(async () => {
    const [slot] = await cluster.exec("SELECT active FROM pg_replication_slots WHERE slot_name = 'held'");
    return slot?.active === true;
  }, { what: "the slot is in use" });
  const args = [...followInto(fileStore("second")), "--slot", "held", "--give-up-after", "1s"];
  failed(await varve(args), 3, /55006[^]*is active/, /Another follower uses this slot/);
  holder.signal("SIGINT");
  const { code, stderr } = await holder.end();
  assert.is(code, 0, stderr);
});

test("WAL that is gone, with a lost slot or without a slot, ends with 10", async () => {
  for (let round = 0; round < 8; round++) {
    await cluster.exec("CREATE TABLE IF NOT EXISTS churn (v int)");
    await cluster.exec("INSERT INTO churn SELECT generate_series(1, 5000)");
    await cluster.exec("SELECT pg_switch_wal()");
    await cluster.exec("CHECKPOINT");
  }
  const [{ wal_status }] = await cluster.exec(
    "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'lost'",
  );
  assert.is(wal_status, "lost");
  const lost = await varve([...followInto(fileStore("lost")), "--slot", "lost"]);
  failed(lost, 10, /55000[^]*(can no longer|cannot read)|58P01[^]*already been removed/, /new timeline name/);
  const gone = await varve([...followInto(fileStore("gone")), "--no-slot"]);
  failed(gone, 10, /58P01[^]*already been removed/, /new timeline name/);
  // Nothing was lost of what was there.
  const info = await varve(["info", "--store", fileStore("lost")]);
  assert.is(info.code, 0, info.stderr);
});

test("another cluster and wal_level=minimal end with 8", async () => {
  await using other = await startCluster({
    major: 17,
    ownSystemIdentifier: true,
    settings: { wal_level: "minimal", max_wal_senders: 0 },
  });
  failed(
    await varve(followInto(fileStore("new"), other.replicationUrl)),
    8,
    /wal_level|max_wal_senders/,
    /wal_level/,
  );
  await other.stop("fast");
  await other.configure({ wal_level: "replica", max_wal_senders: 5 });
  await other.start();
  failed(await varve(followInto(store, other.replicationUrl)), 8, /system identifier/, /timeline/);
});

test("a store that does not answer ends with 3, one that refuses with 9", async () => {
  const s3 = `s3://bucket/prefix?endpoint=http://127.0.0.1:${freePort()}`;
  const env = { AWS_ACCESS_KEY_ID: "key", AWS_SECRET_ACCESS_KEY: SECRET };
  failed(await varve(["info", "--store", s3], env), 3, /ECONNREFUSED/, /./);
  failed(await varve(followInto(s3), env), 3, /ECONNREFUSED/, /./);
  failed(await varve(["info", "--store", s3]), 2, /no credentials/, /AWS_ACCESS_KEY_ID/);
  failed(
    await varve(followInto(`file://${await readOnlyDirectory()}/varve`)),
    9,
    /Cannot /,
    /right|read-only/,
  );
  failed(await varve(["info", "--store", fileStore("nowhere")]), 5, /no such directory/, /path/);
});

/** A directory that nobody may write to, root included. */
async function readOnlyDirectory(): Promise<string> {
  if (Deno.uid() === 0 && Deno.build.os === "linux") return "/sys/kernel";
  const path = directory.join("read-only");
  await Deno.mkdir(path, { mode: 0o555 });
  return path;
}

test("a signal before there is anything to keep breaks off the start", async () => {
  // Takes connections and never answers.
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  for (const [signal, code] of [["SIGTERM", 143], ["SIGINT", 130]] as const) {
    await using process = new VarveProcess(
      followInto(fileStore("new"), `postgres://u:${SECRET}@127.0.0.1:${port}`),
    );
    using connection = await listener.accept();
    assert.is((connection.localAddr as Deno.NetAddr).port, port);
    process.signal(signal);
    const result = await process.end();
    assert.is(result.code, code, result.stderr);
  }
});

test("what is not there ends with 5", async () => {
  const block = ["--block", "0"];
  failed(
    await varve(page("--rel", "1663/5/99999", ...block)),
    5,
    /does not exist at LSN/,
    /pg_relation_filepath/,
  );
  failed(
    await varve(page("--rel", relation, "--block", "9999")),
    5,
    /it has \d+ blocks/,
    /pg_relation_filepath/,
  );
  failed(await varve(page("--rel", relation, ...block, "--fork", "init")), 5, /does not exist/, /./);
  failed(
    await varve(page("--rel", relation, ...block, "--at", "0/28")),
    5,
    /history starts at/,
    /varve info/,
  );
  failed(await varve(page("--rel", relation, ...block, "--at", "FF/0")), 5, /has reached/, /caught up/);
  failed(await varve(page("--rel", relation, ...block, "--timeline", "other")), 5, /"other"/, /varve follow/);
  failed(await varve(["info", "--store", store, "--timeline", "other"]), 5, /"other"/, /It has: main/);
  failed(await varve(["waldump", directory.join("none")]), 5, /ENOENT/, /path/);
  failed(await varve(["waldump", directory.path]), 5, /no segments/, /24 hexadecimal digits/);
});

test("a damaged layer ends with 6 and says where", async () => {
  const damaged = directory.join("damaged");
  await runCommand(findProgram("cp")!, ["-a", directory.join("good"), damaged]);
  const layers = `${damaged}/timelines/main/layers`;
  for await (const { name, isFile } of Deno.readDir(layers)) {
    if (!isFile) continue;
    const bytes = await Deno.readFile(`${layers}/${name}`);
    for (let at = 1000; at < bytes.length - 100; at += 1000) bytes[at] ^= 0x40;
    await Deno.writeFile(`${layers}/${name}`, bytes);
  }
  const args = ["page", "--store", `file://${damaged}`, "--rel", relation, "--block", "7"];
  const result = await varve(args);
  failed(
    result,
    6,
    /^varve: Cannot .*: in [0-9A-F-]+__[0-9A-F-]+\S+ at offset \d+, expected \S+ got /m,
    /another copy/,
  );
  assert.is(result.stdout, "");
});

test("a damaged WAL segment ends with 6, after the records before the damage", async () => {
  const [{ name }] = await cluster.exec("SELECT pg_walfile_name(pg_switch_wal()) AS name");
  const bytes = await Deno.readFile(`${cluster.dataDir}/pg_wal/${name}`);
  await cluster.exec("INSERT INTO churn SELECT generate_series(1, 4000); SELECT pg_switch_wal()");
  const [{ full }] = await cluster.exec(
    `SELECT name AS full FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$' AND name > '${name}' ORDER BY name LIMIT 1`,
  );
  assert.ok(bytes.length > 0);
  const segment = await Deno.readFile(`${cluster.dataDir}/pg_wal/${full}`);
  segment[100_000] ^= 0xff;
  const copy = directory.join(full);
  await Deno.writeFile(copy, segment);
  const result = await varve(["waldump", copy]);
  failed(result, 6, /^varve: Cannot .*LSN/m, /another copy/);
  assert.ok(result.stdout.split("\n").length > 100);
});

test("a command line that is not right ends with 2", async () => {
  const wrong: [string[], RegExp, RegExp][] = [
    [[], /without a verb/, /help/],
    [["folow"], /Did you mean follow/, /varve --help/],
    [["follow", "--stor", "x"], /unknown option '--stor'/, /follow --help/],
    [["follow"], /--store is missing/, /follow --help/],
    [["follow", "--store", store], /--source is missing/, /--source/],
    [["follow", "--store", "/tmp/x", "--source", "x"], /--store/, /file:\/\/\//],
    [["follow", "--store", `s3://k:${SECRET}@b`, "--source", "x"], /credentials in it/, /AWS_/],
    [followInto(store, `http://u:${SECRET}@h`), /postgres:\/\//, /postgres:\/\//],
    [[...followInto(store), "--slot", "Bad-Slot"], /--slot/, /./],
    [[...followInto(store), "--until", "tomorrow"], /--until/, /./],
    [[...followInto(store), "--checkpoint-distance", "many"], /no size/, /./],
    [[...followInto(store), "--flush-interval", "10"], /no duration/, /./],
    [[...followInto(store), "--listen", "here"], /no address/, /./],
    [[...followInto(store), "--timeline", "../x"], /--timeline/, /./],
    [page("--rel", "t", "--block", "0"), /no relation/, /./],
    [page("--rel", relation, "--block", "-1"), /--block|unknown option/, /./],
    [page("--rel", relation, "--block", "0", "--at", "5"), /--at/, /./],
    [page("--rel", relation, "--block", "0", "--fork", "x"), /main or fsm/, /./],
    [["waldump"], /missing required argument 'PATH'/, /./],
    [["waldump", ".", "--start", "1/0", "--end", "0/0"], /ends before it starts/, /./],
    [["import", "--store", store, "--base", "x"], /--wal is missing/, /./],
  ];
  for (const [args, message, hint] of wrong) failed(await varve(args), 2, message, hint);
  const { code, stderr } = await varve(["info", "--store", store], { VARVE_TIMELINE: "/" });
  assert.is(code, 2);
  assert.match(stderr, /VARVE_TIMELINE/);
});

test("an address in use ends with 3", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const args = [...followInto(store), "--slot", "good", "--listen", `127.0.0.1:${port}`];
  failed(await varve(args), 3, /address is in use/, /--listen/);
});

test("import of what is no backup ends with 5", async () => {
  const args = ["import", "--store", fileStore("new"), "--base", directory.path, "--wal", directory.path];
  failed(await varve(args), 5, /./, /./);
});

test("--help and --version end with 0", async () => {
  for (const args of [["--help"], ["help", "page"], ["follow", "--help"], ["--version"]]) {
    const { code, stdout, stderr } = await varve(args);
    assert.is(code, 0, stderr);
    assert.match(stdout, args.includes("--version") ? /^varve \d/ : /varve/);
  }
  assert.match((await varve(["follow", "--help"])).stdout, /VARVE_CHECKPOINT_DISTANCE/);
});

test.run();
