import { ConnectionOptions, resolveConnection } from "../../../src/write/source/connection_options.ts";
import { findPassword } from "../../../src/write/source/password_file.ts";
import { assert, suite } from "../../support/harness.ts";

const test = suite("write/source/connection_options");

const from = (url?: string, env: Record<string, string> = {}, files: Record<string, string> = {}) =>
  resolveConnection({
    url,
    env,
    readTextFile: (path) =>
      path in files ? Promise.resolve(files[path]) : Promise.reject(new Error(`no file ${path}`)),
  });

test("resolveConnection() takes a URL apart", async () => {
  const options = await from(
    "postgresql://us%40er:p%3Aa%2Fss@db.example:6000/app?sslmode=require&application_name=mine&connect_timeout=3",
  );
  assert.equal(
    [options.host, options.port, options.user, options.database, options.sslMode, options.applicationName],
    ["db.example", 6000, "us@er", "app", "require", "mine"],
  );
  assert.is(options.connectTimeoutMs, 3000);
  const [target] = options.targets({ replication: "true" });
  assert.is(target.password, "p:a/ss");
  assert.equal(target.parameters, { application_name: "mine", replication: "true" });
});

test("resolveConnection() falls back to libpq's environment, then to libpq's defaults", async () => {
  const env = {
    PGHOST: "envhost",
    PGPORT: "7000",
    PGUSER: "envuser",
    PGPASSWORD: "envpass",
    PGSSLMODE: "disable",
    PGAPPNAME: "envapp",
    PGCONNECT_TIMEOUT: "4",
    PGOPTIONS: "-c statement_timeout=0",
    HOME: "/home/x",
  };
  const options = await from(undefined, env);
  assert.equal(
    [
      options.host,
      options.port,
      options.user,
      options.sslMode,
      options.applicationName,
      options.connectTimeoutMs,
    ],
    ["envhost", 7000, "envuser", "disable", "envapp", 4000],
  );
  const [target] = options.targets({});
  assert.equal([target.password, target.database], ["envpass", "envuser"]);
  assert.is(target.parameters.options, "-c statement_timeout=0");
  const mixed = await from("postgres://other@urlhost?sslmode=prefer", env);
  assert.equal([mixed.host, mixed.port, mixed.user, mixed.sslMode], ["urlhost", 7000, "other", "prefer"]);
  const bare = await from("postgres://u@/");
  assert.equal([bare.host, bare.port, bare.sslMode, bare.applicationName], [
    "localhost",
    5432,
    "prefer",
    "varve",
  ]);
  assert.is(bare.connectTimeoutMs, 10_000);
  assert.is((await from("postgres://u@[::1]:5433/")).host, "::1");
  assert.is((await from("postgres://u@/db?host=/var/run/postgresql")).host, "/var/run/postgresql");
  assert.is((await from("postgres://u@%2Fvar%2Frun/db")).host, "/var/run");
});

test("resolveConnection() maps every sslmode to what is to be verified, as libpq does", async () => {
  const files = { "/ca": "PEM", "/crt": "CRT", "/key": "KEY" };
  const tls = async (query: string) =>
    (await from(`postgres://u@h/?${query}`, {}, files)).targets({}).map(({ tls }) =>
      tls && [tls.verify, tls.optional]
    );
  assert.equal(await tls("sslmode=disable"), [undefined]);
  assert.equal(await tls("sslmode=allow"), [undefined, ["none", false]]);
  assert.equal(await tls("sslmode=prefer"), [["none", true], undefined]);
  assert.equal(await tls("sslmode=require"), [["none", false]]);
  assert.equal(await tls("sslmode=require&sslrootcert=/ca"), [["chain", false]]);
  assert.equal(await tls("sslmode=verify-ca&sslrootcert=/ca"), [["chain", false]]);
  assert.equal(await tls("sslmode=verify-full&sslrootcert=/ca"), [["chain-and-host", false]]);
  assert.equal(await tls("sslmode=verify-full&sslrootcert=system"), [["chain-and-host", false]]);
  const full = await from(
    "postgres://u@h/?sslmode=verify-full&sslrootcert=/ca&sslcert=/crt&sslkey=/key",
    {},
    files,
  );
  const [{ tls: given }] = full.targets({});
  assert.equal([given!.authority, given!.certificate, given!.key], ["PEM", "CRT", "KEY"]);
  const system = await from("postgres://u@h/?sslmode=verify-full&sslrootcert=system");
  assert.is(system.targets({})[0].tls!.authority, undefined);
});

test("resolveConnection() refuses what it does not understand, and never repeats the password", async () => {
  const refused: [string | undefined, RegExp][] = [
    [undefined, /without a user/],
    ["mysql://u:secret@h/", /postgres:\/\//],
    ["postgres://u:sec%zzret@h/", /percent-encoded/],
    ["postgres://u:secret@h:99999/", /port "99999"/],
    ["postgres://u:secret@h:x/", /percent-encoded/],
    ["postgres://u:secret@h/?sslmode", /percent-encoded/],
    ["postgres://u:secret@h/?port=0", /port "0"/],
    ["postgres://u:secret@a,b/", /several hosts/],
    ["postgres://u:secret@h/?sslmode=maybe", /sslmode "maybe"/],
    ["postgres://u:secret@h/?sslmode=require&sslrootcert=system", /verify-full/],
    ["postgres://u:secret@h/?channel_binding=require", /channel_binding/],
    ["postgres://u:secret@h/?target_session_attrs=read-write", /target_session_attrs/],
    ["postgres://u:secret@h/?wat=1", /unknown parameter "wat"/],
    ["postgres://u:secret@h/?connect_timeout=soon", /connect_timeout "soon"/],
  ];
  for (const [url, pattern] of refused) {
    const error = await assert.rejects(from(url), TypeError);
    assert.match(error.message, pattern);
    assert.not.match(error.message, /secret|zzret/);
  }
  await assert.rejects(
    resolveConnection({ url: "postgres://u@h/?sslmode=verify-ca&sslrootcert=/ca" }),
    /no file reader/,
  );
});

test("ConnectionOptions shows no secret, however it is looked at", () => {
  const options = new ConnectionOptions({
    host: "h",
    port: 1,
    user: "u:x",
    password: "hunter2",
    key: "hunter2",
    serverOptions: "hunter2",
  });
  assert.is(options.description, "postgres://u%3Ax@h:1?sslmode=prefer");
  const shown = [
    JSON.stringify(options),
    String(options),
    Deno.inspect(options, { depth: 9 }),
    options.description,
  ];
  assert.not.match(shown.join("\n"), "hunter2");
});

test("findPassword() reads libpq's password file", async () => {
  const file = [
    "# comment",
    "h:5432:replication:u:first",
    "*:*:*:wild:a\\:b\\\\c",
    "h:1:*:\\*:star",
    "localhost:5432:*:socket:local",
    "broken:line",
    "h:5432:*:u:never",
  ].join("\r\n");
  const look = (host: string, port: number, user: string) =>
    findPassword(file, { host, port, database: "replication", user });
  assert.is(look("h", 5432, "u"), "first");
  assert.is(look("x", 9, "wild"), "a:b\\c");
  assert.is(look("h", 1, "*"), "star");
  assert.is(look("h", 1, "other"), undefined);
  assert.is(look("/var/run", 5432, "socket"), "local");
  const options = await from("postgres://wild@x/?passfile=/p", {}, { "/p": file });
  assert.is(options.targets({})[0].password, "a:b\\c");
  const explicit = await from("postgres://wild:given@x/", { PGPASSFILE: "/p" }, { "/p": file });
  assert.is(explicit.targets({})[0].password, "given");
});

test.run();
