import {
  MismatchError,
  NotFoundError,
  PostgresError,
  UnavailableError,
  UnsupportedError,
  VarveError,
  WalLostError,
} from "../../../src/errors.ts";
import { lsn } from "../../../src/lsn.ts";
import { openBaseBackup } from "../../../src/write/source/base_backup.ts";
import { readServerFacts } from "../../../src/write/source/identify.ts";
import { openReplication, type ReplicationOptions } from "../../../src/write/source/replication.ts";
import { openSession } from "../../../src/write/source/session.ts";
import { dropSlot, ensureSlot } from "../../../src/write/source/slot.ts";
import { postgresSource } from "../../../src/deps/postgres_source.ts";
import { makeCertificates } from "../../support/certificates.ts";
import { assert, suite } from "../../support/harness.ts";
import { freePort } from "../../support/ports.ts";
import { type Cluster, POSTGRES_MAJORS, startCluster } from "../../support/postgres.ts";
import { temporaryDirectory } from "../../support/temp.ts";
import { waitFor } from "../../support/wait.ts";
import {
  accessTo,
  compareWithSegments,
  flushedLsn,
  identify,
  receiveUntil,
  walSenders,
  writeWal,
} from "./source_support.ts";

const test = suite("write/source/refusal", { sanitize: false });

/** What the stream fails with. */
function failure<E extends Error>(
  options: ReplicationOptions,
  expected: new (...args: never[]) => E,
): Promise<E> {
  return assert.rejects<E>(async () => {
    for await (const _ of openReplication(options));
  }, expected as never);
}

const nowhere = { processed: () => lsn(1), durable: () => lsn(0) };

for (const major of POSTGRES_MAJORS) {
  test(`PostgreSQL ${major} is identified, and its slot made, read, refused and dropped`, async () => {
    await using cluster = await startCluster({
      major,
      walSegmentSizeMb: 1,
      settings: {
        max_slot_wal_keep_size: "1MB",
        min_wal_size: "2MB",
        max_wal_size: "2MB",
        max_replication_slots: 2,
      },
    });
    const access = await accessTo(cluster);
    await using session = await openSession(access);
    const [{ id }] = await cluster.exec("SELECT system_identifier::text AS id FROM pg_control_system()");
    assert.is(String(session.identity.systemId), id);
    assert.is(session.identity.tli, 1);
    assert.is(session.identity.dbName, null);
    const facts = await readServerFacts(session);
    assert.is(facts.profile.major, major);
    assert.is(facts.walSegmentSize, 1024 * 1024);
    assert.is(facts.walSenderTimeoutMs, 60_000);
    assert.ok(facts.dataChecksums && !facts.inRecovery);

    const made = await ensureSlot(session, facts, "varve");
    assert.ok(made.created);
    const again = await ensureSlot(session, facts, "varve");
    assert.not(again.created);
    if (major > 14) assert.ok(made.restartLsn! > 0 && again.restartLsn === made.restartLsn);
    await cluster.exec("SELECT pg_create_logical_replication_slot('logical', 'pgoutput')").catch(() => {});
    await assert.rejects(ensureSlot(session, facts, "third"), (error) => error instanceof VarveError)
      .catch(() => assert.is(facts.walLevel, "replica")); // the logical one takes a place only with wal_level=logical

    const options = { ...access, lastRecordLsn: session.identity.xlogPos, positions: nowhere, slot: "varve" };
    const first = openReplication(options).getReader();
    await cluster.exec("SELECT txid_current()");
    assert.ok(!(await first.read()).done);
    const inUse = await failure(options, UnavailableError);
    assert.is(inUse.code, "SLOT_IN_USE");
    assert.match(inUse.hint!, "Another follower");
    const used = await assert.rejects(dropSlot(session, "varve"), UnavailableError);
    assert.is(used.code, "SLOT_IN_USE");
    await first.cancel();
    await waitFor(async () => await walSenders(cluster) === 1, { what: "the slot is free" });

    // The slot is lost, and with it the WAL.
    await writeWal(cluster, 8);
    await cluster.exec("CHECKPOINT");
    await waitFor(async () => {
      const [row] = await cluster.exec(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'varve'",
      );
      if (row.wal_status !== "lost") await cluster.exec("SELECT pg_switch_wal(); CHECKPOINT");
      return row.wal_status === "lost";
    }, { what: "the slot is lost" });
    const lost = await failure(options, WalLostError);
    assert.match(lost.hint!, "new timeline name");
    await failure({ ...options, slot: undefined }, WalLostError);

    await dropSlot(session, "varve");
    const missing = await assert.rejects(dropSlot(session, "varve"), NotFoundError);
    assert.is(missing.code, "SLOT_NOT_FOUND");
    await assert.rejects(ensureSlot(session, facts, "Bad Name"), TypeError);
  });
}

test("a server that does not match the timeline is refused, naming both", async () => {
  await using cluster = await startCluster({
    major: 17,
    settings: { wal_level: "minimal", max_wal_senders: 0 },
  });
  const refused = await assert.rejects(openSession(await accessTo(cluster)), MismatchError);
  assert.match(refused.hint!, "wal_level");
  await cluster.configure({ wal_level: "replica", max_wal_senders: 5 });
  await cluster.restart();
  const access = await accessTo(cluster);
  const { systemId, xlogPos } = await identify(access);
  const options = { ...access, lastRecordLsn: xlogPos, positions: nowhere };
  const expected = { systemId, major: 17, walSegmentSize: 16 * 1024 * 1024, blockSize: 8192 };
  const other = await failure({ ...options, expected: { ...expected, systemId: 7n } }, MismatchError);
  assert.match(other.message, `system identifier differs, expected 7, got ${systemId}`);
  const upgraded = await failure({ ...options, expected: { ...expected, major: 16 } }, MismatchError);
  assert.match(upgraded.message, "major version differs, expected 16, got 17");
  const resized = await failure(
    { ...options, expected: { ...expected, walSegmentSize: 2 ** 20 } },
    MismatchError,
  );
  assert.match(resized.message, "expected 1048576, got 16777216");
  await assert.rejects(
    openBaseBackup({ ...access, untar: postgresSource.untar, expected: { ...expected, systemId: 7n } }),
    MismatchError,
  );
  const nothing = await failure({ ...options, lastRecordLsn: lsn(0) }, VarveError);
  assert.is(nothing.code, "NO_WAL_POSITION");
  assert.match(nothing.message, /no previous WAL position/);
  const ahead = await failure({ ...options, lastRecordLsn: lsn(xlogPos + 2 ** 24) }, MismatchError);
  assert.match(ahead.message, "varve already has WAL up to");
  const later = await failure({ ...options, tli: 2 }, MismatchError);
  assert.match(later.message, "it is on timeline 1, varve already on 2");
  assert.is(await walSenders(cluster), 0);
});

test("wrong credentials and missing rights are refused, with what to do", async () => {
  await using cluster = await startCluster({ major: 16, auth: "scram" });
  await cluster.exec(
    "CREATE ROLE plain LOGIN PASSWORD 'p'; CREATE ROLE replica LOGIN REPLICATION PASSWORD 'p:\\x'",
  );
  const attempt = (user: string, password: string) =>
    accessTo(cluster.url("postgres", { user, password })).then((access) => openSession(access));
  const wrong = await assert.rejects(attempt("postgres", "wrong"), PostgresError);
  assert.is(wrong.sqlState, "28P01");
  assert.match(wrong.hint!, "PGPASSWORD");
  assert.not.match(wrong.message, "wrong", "the password is not shown");
  const plain = await assert.rejects(attempt("plain", "p"), PostgresError);
  assert.is(plain.sqlState, "42501");
  assert.match(plain.hint!, "REPLICATION");
  const empty = await assert.rejects(attempt("replica", ""), VarveError);
  assert.not.instance(empty, TypeError);
  await (await attempt("replica", "p:\\x")).close();

  await using directory = await temporaryDirectory("passfile");
  const passfile = directory.join("pgpass");
  await Deno.writeTextFile(passfile, `# ours\n*:${cluster.port}:replication:replica:p\\:\\\\x\n`);
  const url = `postgres://replica@127.0.0.1:${cluster.port}/`;
  await (await openSession(await accessTo(url, `sslmode=disable&passfile=${passfile}`))).close();
});

test("an unreachable server and one that does not answer are told apart, within the time limit", async () => {
  const nobody = await assert.rejects(
    openSession(await accessTo(`postgres://u@127.0.0.1:${freePort()}/`)),
    UnavailableError,
  );
  assert.is(nobody.code, "CONNECT_FAILED");
  assert.match(nobody.hint!, "listen_addresses");
  const unknown = await assert.rejects(
    openSession(await accessTo("postgres://u@nobody.invalid/")),
    UnavailableError,
  );
  assert.is(unknown.code, "CONNECT_FAILED");

  // Takes connections and says nothing.
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const taken: Deno.Conn[] = [];
  const taking = (async () => {
    for await (const connection of silent) taken.push(connection);
  })().catch(() => {});
  const url = `postgres://u@127.0.0.1:${(silent.addr as Deno.NetAddr).port}/`;
  for (const parameters of ["sslmode=disable", "sslmode=require", "sslmode=prefer"]) {
    const startedMs = performance.now();
    const late = await assert.rejects(
      openSession(await accessTo(url, `${parameters}&connect_timeout=1`)),
      UnavailableError,
    );
    assert.is(late.code, "TIMEOUT");
    assert.match(late.message, "1000 ms");
    const tookMs = performance.now() - startedMs;
    assert.ok(tookMs > 900 && tookMs < 20_000, `${tookMs} ms`);
  }
  assert.is(taken.length, 3);
  for (const connection of taken) {
    // Ours has been closed: reading comes to an end.
    await new Response(connection.readable).bytes().catch(() => {});
  }
  silent.close();
  await taking;

  // Takes connections and closes them.
  using rude = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const closing = (async () => {
    for await (const connection of rude) connection.close();
  })().catch(() => {});
  const rudeUrl = `postgres://u@127.0.0.1:${(rude.addr as Deno.NetAddr).port}/`;
  for (const parameters of ["sslmode=disable", "sslmode=require"]) {
    await assert.rejects(openSession(await accessTo(rudeUrl, parameters)), UnavailableError);
  }
  rude.close();
  await closing;
});

/** A server with its own certificate, that lets in encrypted connections only. */
function startTlsCluster(hosts?: string[]): Promise<Cluster> {
  return startCluster({
    major: 17,
    tls: hosts === undefined ? true : { hosts },
    auth: "scram",
    hba: ["hostssl all,replication all all scram-sha-256", "local all all trust"],
  });
}

test("sslmode verifies as libpq does, with SCRAM over TLS", async () => {
  await using files = await temporaryDirectory("tls");
  await using cluster = await startTlsCluster();
  await using misnamed = await startTlsCluster(["elsewhere.invalid"]);
  const authorities = { right: cluster.tls!.authority, other: misnamed.tls!.authority };
  const stranger = (await makeCertificates(["localhost"])).authority;
  for (const [name, text] of Object.entries({ ...authorities, stranger })) {
    await Deno.writeTextFile(files.join(`${name}.crt`), text);
  }
  const attempt = async (server: Cluster, parameters: string, host = "localhost") => {
    const access = await accessTo(
      server.url("postgres", { host, user: server.user, password: server.password }),
      parameters,
    );
    await using session = await openSession(access);
    return session.encrypted;
  };
  const root = (name: string) => `&sslrootcert=${files.join(name)}.crt`;

  for (const host of ["localhost", "127.0.0.1"]) {
    for (const mode of ["require", "prefer", "allow"]) {
      assert.ok(await attempt(cluster, `sslmode=${mode}`, host), `${mode} to ${host}`);
    }
    assert.ok(await attempt(cluster, `sslmode=verify-full${root("right")}`, host), host);
    assert.ok(await attempt(cluster, `sslmode=verify-ca${root("right")}`, host));
    assert.ok(await attempt(misnamed, `sslmode=verify-ca${root("other")}`, host), "the name does not count");
    assert.ok(await attempt(misnamed, "sslmode=require", host), "nothing counts");
    const refused = [
      () => attempt(misnamed, `sslmode=verify-full${root("other")}`, host),
      () => attempt(cluster, `sslmode=verify-full${root("stranger")}`, host),
      () => attempt(cluster, `sslmode=verify-ca${root("stranger")}`, host),
      () => attempt(cluster, `sslmode=require${root("stranger")}`, host),
      () => attempt(cluster, "sslmode=verify-full", host),
      () => attempt(cluster, "sslmode=verify-full&sslrootcert=system", host),
    ];
    for (const each of refused) {
      const error = await assert.rejects(each, VarveError);
      assert.is(error.code, "TLS", error.message);
      assert.match(error.hint!, "sslrootcert");
    }
  }
  const plain = await assert.rejects(attempt(cluster, "sslmode=disable"), PostgresError);
  assert.is(plain.sqlState, "28000");

  await using bare = await startCluster({ major: 14 });
  assert.is(await attempt(bare, "sslmode=prefer"), false);
  assert.is(await attempt(bare, "sslmode=allow"), false);
  const unavailable = await assert.rejects(attempt(bare, "sslmode=require"), VarveError);
  assert.is(unavailable.code, "TLS");
  assert.match(unavailable.message, "offers no encryption");
});

test("WAL streams over TLS as it does without", async () => {
  await using cluster = await startCluster({ major: 17, tls: true, auth: "scram" });
  const access = await accessTo(cluster, "sslmode=require");
  const { xlogPos } = await identify(access);
  await writeWal(cluster, 20);
  const end = await flushedLsn(cluster);
  const received = await receiveUntil(
    openReplication({ ...access, lastRecordLsn: xlogPos, positions: nowhere }),
    end,
  );
  assert.ok(received.bytes >= 20 * 1024 * 1024);
  assert.ok(access.recorded.some(({ message }) => /Connected, encrypted/.test(message)));
  await compareWithSegments(cluster, received, 16 * 1024 * 1024);
});

test("the driver takes nothing from the environment: what counts is given to it", async () => {
  await using cluster = await startCluster({ major: 15, auth: "scram" });
  const access = await accessTo(cluster);
  const variables = {
    PGTARGETSESSIONATTRS: "any",
    PGHOST: "nowhere.invalid",
    PGPASSWORD: "bogus",
    PGSSL: "require",
  };
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  try {
    for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
    assert.is((await identify(access)).tli, 1);
    assert.is(Deno.env.get("PGTARGETSESSIONATTRS"), "any", "and leaves it as it is");
  } finally {
    for (const [name, value] of before) {
      value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
    }
  }
});

test("a major that is not supported is refused by its name", async () => {
  await using cluster = await startCluster({ major: 18 });
  const access = await accessTo(cluster);
  const { driver } = access;
  access.driver = {
    connect: async (target, signal) => {
      const connection = await driver.connect(target, signal);
      const rows = connection.rows.bind(connection);
      connection.rows = async (command) =>
        command === "SHOW server_version_num" ? [[new TextEncoder().encode("130016")]] : await rows(command);
      return connection;
    },
  };
  const options = { ...access, lastRecordLsn: lsn(1), positions: nowhere };
  const error = await failure(options, UnsupportedError);
  assert.match(error.message, "PostgreSQL 13");
});

test.run();
