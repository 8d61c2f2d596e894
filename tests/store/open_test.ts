/** Stores by URL. */
import { VarveError } from "../../src/errors.ts";
import { FilesStore } from "../../src/store/files.ts";
import { MemoryStore } from "../../src/store/memory.ts";
import { openStore, parseStoreUrl } from "../../src/store/open.ts";
import { assert, suite } from "../support/harness.ts";
import { temporaryDirectory } from "../support/temp.ts";
import { text, textOf } from "../suites/object_store_helpers.ts";

const test = suite("store/open");

test("parseStoreUrl() reads directories", () => {
  const plain = { kind: "files", fsync: true, syncReadLimit: 0 };
  assert.equal(parseStoreUrl("file:///var/lib/varve"), { ...plain, path: "/var/lib/varve" });
  assert.equal(parseStoreUrl("file:///a%20b/%C3%A4"), { ...plain, path: "/a b/ä" });
  assert.equal(parseStoreUrl("FILE:///x?fsync=off&sync-reads=65536"), {
    kind: "files",
    path: "/x",
    fsync: false,
    syncReadLimit: 65536,
  });
});

test("parseStoreUrl() reads buckets", () => {
  const plain = {
    kind: "s3",
    endpoint: undefined,
    region: undefined,
    pathStyle: undefined,
    anonymous: false,
  };
  assert.equal(parseStoreUrl("s3://bucket"), { ...plain, bucket: "bucket", prefix: "" });
  assert.equal(parseStoreUrl("s3://my.bucket-1/a/b/"), { ...plain, bucket: "my.bucket-1", prefix: "a/b" });
  const full =
    "s3://bucket/p?endpoint=http://127.0.0.1:9000&region=eu-central-1&path-style=true&anonymous=true";
  assert.equal(parseStoreUrl(full), {
    kind: "s3",
    bucket: "bucket",
    prefix: "p",
    endpoint: "http://127.0.0.1:9000",
    region: "eu-central-1",
    pathStyle: true,
    anonymous: true,
  });
  assert.equal(parseStoreUrl("memory:"), { kind: "memory" });
});

test("parseStoreUrl() refuses what it does not understand, with a hint and without repeating secrets", () => {
  for (
    const url of [
      "",
      "/var/lib/varve",
      "http://bucket",
      "file://data",
      "file:data",
      "file://host/data",
      "file:///x?fsync=maybe",
      "file:///x?sync-reads=-1",
      "file:///x?sync-reads=many",
      "file:///x?unknown=hush",
      "file:///%00",
      "file:///%zz",
      "memory:x",
      "memory:?x=hush",
      "s3://",
      "s3://B",
      "s3://bucket:9000/x",
      "s3://key:hush@bucket",
      "s3://bucket/a b",
      "s3://bucket/../x?secret-key=hush",
      "s3://bucket/a//b",
      "s3://bucket?secret-key=hush",
      "s3://bucket?endpoint=localhost:9000",
      "s3://bucket?endpoint=http://u:hush@host",
      "s3://bucket?endpoint=http://host/path",
      "s3://bucket?endpoint=http://host?x=hush",
      "s3://bucket?path-style=yes",
      "s3://bucket?region=a&region=b",
      "s3://bucket#hush",
    ]
  ) {
    const error = assert.raises<VarveError>(() => parseStoreUrl(url), VarveError);
    assert.is(error.code, "USAGE", url);
    assert.ok(error.hint !== undefined && error.hint.length > 10, url);
    assert.not(`${error.message} ${error.hint}`.includes("hush"), url);
  }
});

test("openStore() opens a directory and a memory", async () => {
  await using directory = await temporaryDirectory("open");
  const files = await openStore(`file://${directory.path}/store?fsync=off`, {});
  assert.instance(files, FilesStore);
  await files.put("a", text("x"));
  assert.is(textOf((await files.get("a")).bytes), "x");
  assert.is(files.description, `file://${directory.path}/store`);
  await files.close();
  const memory = await openStore("memory:", {});
  assert.instance(memory, MemoryStore);
  await memory.put("a", text("x"));
  assert.ok(Math.abs((await memory.head("a")).modifiedMs - Date.now()) < 60_000);
});

test("openStore() wants complete credentials and an endpoint that can be used", async () => {
  for (
    const [env, message] of [
      [{}, /there are no credentials/],
      [{ AWS_ACCESS_KEY_ID: "", AWS_SECRET_ACCESS_KEY: "" }, /there are no credentials/],
      [{ AWS_ACCESS_KEY_ID: "a" }, /AWS_SECRET_ACCESS_KEY is not set/],
      [{ AWS_SECRET_ACCESS_KEY: "hush" }, /AWS_ACCESS_KEY_ID is not set/],
      [{ MINIO_ROOT_USER: "a" }, /MINIO_ROOT_PASSWORD is not set/],
      [{ AWS_ENDPOINT_URL: "nonsense:hush" }, /AWS_ENDPOINT_URL must be/],
    ] as [Record<string, string>, RegExp][]
  ) {
    const error = await assert.rejects<VarveError>(openStore("s3://bucket", env), message);
    assert.is(error.code, "USAGE");
    assert.not(`${error.message} ${error.hint}`.includes("hush"));
  }
});

test("openStore() makes an S3 store without contacting anybody", async () => {
  const env = {
    AWS_ACCESS_KEY_ID: "access",
    AWS_SECRET_ACCESS_KEY: "hush-hush",
    AWS_SESSION_TOKEN: "hush-token",
  };
  for (
    const url of ["s3://bucket/prefix", "s3://bucket/prefix?endpoint=http://127.0.0.1:1&path-style=false"]
  ) {
    const store = await openStore(url, env);
    assert.is(store.description, "s3://bucket/prefix");
    assert.not(Deno.inspect(store, { depth: 5 }).includes("hush"));
    await store.close();
  }
  const anonymous = await openStore("s3://bucket?anonymous=true", {});
  await anonymous.close();
});

test("openStore() loads the S3 client for S3 only", async () => {
  const module = new URL("../../src/store/open.ts", import.meta.url).href;
  const script = `
    const { openStore } = await import(${JSON.stringify(module)});
    await (await openStore("memory:", {})).put("a", new Uint8Array(1));
    console.log("ready");`;
  // Without permission to look into the environment: minio-js cannot even be loaded.
  const child = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", "--deny-env", "--deny-net", "-R", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(text(script));
  await writer.close();
  const { success, stdout, stderr } = await child.output();
  assert.ok(success, textOf(stderr));
  assert.is(textOf(stdout).trim(), "ready");
});

test.run();
