/** The store in a bucket, against a real MinIO server. */
import { systemClock } from "../../src/deps/system_clock.ts";
import { NotFoundError, PreconditionFailedError, UnavailableError, VarveError } from "../../src/errors.ts";
import { MinioStore, type MinioStoreOptions } from "../../src/store/minio.ts";
import { openStore } from "../../src/store/open.ts";
import { probeConditionalWrites } from "../../src/store/probe.ts";
import { assert, suite } from "../support/harness.ts";
import { type Minio, minioOrSkip } from "../support/minio.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";
import { waitFor } from "../support/wait.ts";
import { objectStoreTests } from "../suites/object_store.ts";
import {
  collect,
  keysOf,
  MiB,
  pattern,
  pieces,
  sameBytes,
  text,
  textOf,
  winners,
} from "../suites/object_store_helpers.ts";

const test = suite("store/minio", { sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

if (startMinio !== undefined) {
  let minio: Minio;
  let stores = 0;
  test.before(async () => {
    minio = await startMinio();
  });
  test.after(() => minio?.stop());

  const openTestStore = (more: Partial<MinioStoreOptions> = {}) => {
    const store = new MinioStore({
      endpoint: minio.endpoint,
      bucket: minio.bucket,
      prefix: `suite/${++stores}`,
      accessKey: minio.accessKey,
      secretKey: minio.secretKey,
      partSize: 5 * MiB, // so that tests of a few MiB use parts
      singlePutLimit: 8 * MiB,
      ...more,
    });
    return { store, [Symbol.asyncDispose]: () => store.close() };
  };
  const ifAbsent = { condition: { ifAbsent: true as const } };

  /** Every kind of request. */
  const calls = (store: MinioStore) => [
    () => store.get("a"),
    () => store.getRange("a", 0, 1),
    () => store.getStream("a"),
    () => store.head("a"),
    () => store.put("a", text("x")),
    () => store.put("a", pattern(3 * MiB)),
    () => store.put("a", pattern(9 * MiB)),
    () => keysOf(store, ""),
  ];

  objectStoreTests(test, () => Promise.resolve(openTestStore()));

  test("a stream that is read to its end leaves its connection for the next request, one that is left does not", async () => {
    await using opened = openTestStore();
    await opened.store.put("large", pattern(8 * MiB));
    await using proxy = new TcpProxy(minio.port);
    const store = new MinioStore({
      endpoint: proxy.endpoint,
      bucket: minio.bucket,
      prefix: `suite/${stores}`,
      accessKey: minio.accessKey,
      secretKey: minio.secretKey,
    });
    const range = { offset: MiB, length: 4 * MiB };
    for (let round = 0; round < 5; round++) {
      const { body } = await store.getStream("large", { range });
      sameBytes(await collect(body), pattern(8 * MiB).subarray(MiB, 5 * MiB), `${round}`);
    }
    assert.is(proxy.connections, 1);
    for (let round = 0; round < 3; round++) {
      const reader = (await store.getStream("large", { range })).body.getReader();
      assert.not.ok((await reader.read()).done);
      await reader.cancel();
    }
    await store.head("large");
    assert.is(proxy.connections, 4);
    await store.close();
  });

  test("put() of a large body under a condition has exactly one winner", async () => {
    await using opened = openTestStore();
    const { store } = opened;
    const first = [1, 2, 3, 4].map((seed) => pattern(9 * MiB, seed));
    const won = await winners(first.map((body) => store.put("large", pieces(body), ifAbsent)));
    assert.is(won.length, 1);
    sameBytes((await store.get("large")).bytes, first[won[0].index], "the winner's");
    const condition = { ifMatch: won[0].value.etag };
    const second = [5, 6, 7, 8].map((seed) => pattern(9 * MiB, seed));
    const next = await winners(second.map((body) => store.put("large", pieces(body), { condition })));
    assert.is(next.length, 1);
    sameBytes((await store.get("large")).bytes, second[next[0].index], "the next winner's");
  });

  test("writers of one key in parts do not mix their parts", async () => {
    await using opened = openTestStore();
    const bodies = [1, 2, 3, 4].map((seed) => pattern(11 * MiB, seed));
    await Promise.all(bodies.map((body) => opened.store.put("same", body)));
    const { bytes } = await opened.store.get("same");
    const whose = bodies.find((body) => body[5] === bytes[5] && body[6 * MiB] === bytes[6 * MiB]);
    assert.ok(whose !== undefined);
    sameBytes(bytes, whose, "one writer's");
  });

  test("put() that fails on its way leaves no parts in the bucket", async () => {
    await using opened = openTestStore({ prefix: "incomplete" });
    const broken = {
      size: 20 * MiB,
      async *open() {
        for (let i = 0; i < 12; i++) yield await Promise.resolve(pattern(MiB));
        throw new VarveError("TEST", "the body broke");
      },
    };
    await assert.rejects(opened.store.put("x", broken), "the body broke");
    await assert.rejects(opened.store.put("x", broken, ifAbsent), "the body broke");
    const client = minio.client();
    const incomplete = async () => {
      const ids = [];
      for await (const upload of client.listIncompleteUploads(minio.bucket, "incomplete/x", true)) {
        ids.push(upload);
      }
      return ids.length;
    };
    assert.is(await incomplete(), 0);
    await client.initiateNewMultipartUpload(minio.bucket, "incomplete/x", {});
    assert.is(await incomplete(), 1, "the listing would have shown them");
  });

  test("wrong credentials are STORE_DENIED and show no secret", async () => {
    const secretKey = "not-the-secret-key-of-anyone";
    await using wrongSecret = openTestStore({ secretKey });
    await using wrongUser = openTestStore({ accessKey: "nobody-we-know", secretKey });
    await using anonymous = openTestStore({ accessKey: undefined, secretKey: undefined });
    for (const { store } of [wrongSecret, wrongUser, anonymous]) {
      for (const call of [...calls(store), () => store.delete("a")]) {
        const error = await assert.rejects<VarveError>(call, VarveError);
        assert.is(error.code, "STORE_DENIED", error.message);
        assert.match(error.hint!, /AWS_ACCESS_KEY_ID/);
        for (const secret of [secretKey, "nobody-we-know", "Signature=", "Credential="]) {
          assert.not(Deno.inspect(error, { depth: 10, showHidden: true }).includes(secret), secret);
        }
      }
    }
  });

  test("a bucket that does not exist is told as such", async () => {
    await using opened = openTestStore({ bucket: "no-such-bucket" });
    for (const call of [...calls(opened.store), () => opened.store.delete("a")]) {
      const error = await assert.rejects<NotFoundError>(call, NotFoundError);
      assert.match(error.hint ?? "", /bucket/, error.message);
    }
  });

  test("a store sees nothing outside of its prefix", async () => {
    await using one = openTestStore({ prefix: "tenant" });
    await using two = openTestStore({ prefix: "tenant-two" });
    await using root = openTestStore({ prefix: "" });
    await one.store.put("a", text("one"));
    await two.store.put("a", text("two"));
    assert.equal(await keysOf(one.store, ""), ["a"]);
    assert.equal(await keysOf(root.store, "tenant"), ["tenant-two/a", "tenant/a"]);
    assert.is(textOf((await root.store.get("tenant/a")).bytes), "one");
    assert.is(two.store.description, `s3://${minio.bucket}/tenant-two`);
  });

  test("a server that hangs is UnavailableError after the limit, and works again later", async () => {
    await using patient = openTestStore();
    await using opened = openTestStore({
      firstByteTimeoutMs: 250,
      idleTimeoutMs: 250,
      prefix: `suite/${stores}`,
    });
    const { store } = opened;
    await patient.store.put("a", text("x"));
    minio.pause();
    try {
      for (const call of calls(store)) {
        const startedMs = performance.now();
        const error = await assert.rejects<UnavailableError>(call, UnavailableError);
        assert.is(error.code, "TIMEOUT", error.message);
        assert.ok(performance.now() - startedMs < 30_000);
      }
    } finally {
      minio.resume();
    }
    await patient.store.put("a", text("again"));
    // Its limits are short, and the server has much to catch up with.
    const { bytes } = await waitFor(() => store.get("a").catch(() => undefined), { what: "it works again" });
    assert.is(textOf(bytes), "again");
  });

  test("a signal ends a request to a server that hangs", async () => {
    await using opened = openTestStore();
    const { store } = opened;
    await store.put("a", text("x"));
    minio.pause();
    try {
      const controller = new AbortController();
      const options = { signal: controller.signal };
      const waiting = [
        store.get("a", options),
        store.getRange("a", 0, 1, options),
        store.getStream("a", options),
        store.head("a", options),
        store.put("b", text("x"), options),
        store.put("b", pattern(9 * MiB), options),
        store.delete("b", options),
        store.list("", options)[Symbol.asyncIterator]().next(),
      ].map((call) => call.then(() => assert.unreachable(), (error) => error));
      await systemClock.sleep(20); // under way
      const reason = new Error("enough");
      controller.abort(reason);
      minio.resume(); // an upload that has begun is aborted at the server before its error is told
      for (const error of await Promise.all(waiting)) assert.is(error, reason);
    } finally {
      minio.resume();
    }
    assert.is(textOf((await store.get("a")).bytes), "x");
  });

  test("a server that is down is UnavailableError with a hint, and works again later", async () => {
    await using opened = openTestStore();
    const { store } = opened;
    await store.put("a", text("x"));
    await minio.kill();
    try {
      for (const call of calls(store)) {
        const error = await assert.rejects<UnavailableError>(call, UnavailableError);
        assert.match(error.hint ?? "", /endpoint/, error.message);
      }
    } finally {
      await minio.start();
    }
    assert.is(textOf((await store.get("a")).bytes), "x");
  });

  test("probeConditionalWrites() accepts it and leaves nothing", async () => {
    await using opened = openTestStore();
    await probeConditionalWrites(opened.store, "p/", systemClock);
    assert.equal(await keysOf(opened.store, ""), []);
  });

  test("openStore() finds it by URL and environment", async () => {
    const store = await openStore(minio.url, minio.env);
    await store.put("by-url/a", text("x"));
    assert.equal(await keysOf(store, "by-url/"), ["by-url/a"]);
    await store.close();
    const url = `s3://${minio.bucket}/by-url?path-style=true`;
    const env = {
      MINIO_ROOT_USER: minio.accessKey,
      MINIO_ROOT_PASSWORD: minio.secretKey,
      AWS_ENDPOINT_URL: minio.endpoint,
    };
    const again = await openStore(url, env);
    assert.is(textOf((await again.get("a")).bytes), "x");
    await assert.rejects(again.put("a", text("y"), ifAbsent), PreconditionFailedError);
    await again.close();
  });
}

test.run();
