/** The store in a bucket by fetch alone, against a real MinIO server. */
import { CorruptionError, UnavailableError, UnsupportedError, VarveError } from "../../src/errors.ts";
import { S3FetchStore, type S3FetchStoreOptions } from "../../src/store/s3_fetch.ts";
import { assert, suite } from "../support/harness.ts";
import { type Minio, minioOrSkip } from "../support/minio.ts";
import { TcpProxy } from "../support/tcp_proxy.ts";
import { waitFor } from "../support/wait.ts";
import { objectStoreTests } from "../suites/object_store.ts";
import { MiB, pattern, text } from "../suites/object_store_helpers.ts";

const test = suite("store/s3 by fetch", { timeoutMs: 180_000, sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

if (startMinio !== undefined) {
  let minio: Minio;
  let stores = 0;
  test.before(async () => {
    minio = await startMinio();
  });
  test.after(() => minio?.stop());

  const open = (more: Partial<S3FetchStoreOptions> = {}) => {
    const { endpoint, bucket, accessKey, secretKey } = minio;
    const store = new S3FetchStore({
      endpoint,
      bucket,
      accessKey,
      secretKey,
      prefix: `suite/${++stores}`,
      ...more,
    });
    return { store, [Symbol.asyncDispose]: () => store.close() };
  };

  objectStoreTests(test, () => Promise.resolve(open()));

  test("a wrong key is denied, nothing of it is told, and a server that is away is unavailable", async () => {
    const { store } = open({ secretKey: "another-secret-key" });
    const error = await assert.rejects(
      store.get("a"),
      (error: unknown) => error instanceof VarveError && error.code === "STORE_DENIED",
    );
    assert.not.match(JSON.stringify(error) + String(error), /another-secret/);
    await using proxy = new TcpProxy(minio.port);
    proxy.fault = () => ({ kind: "refuse" });
    await assert.rejects(open({ endpoint: proxy.endpoint }).store.get("a"), UnavailableError);
  });

  test("an answer that is cut or stands still is given up as unavailable", async () => {
    const { store } = open();
    await store.put("large", pattern(MiB));
    await using proxy = new TcpProxy(minio.port);
    const shaky = open({
      endpoint: proxy.endpoint,
      prefix: `suite/${stores}`,
      firstByteTimeoutMs: 300,
      idleTimeoutMs: 300,
    });
    for (const kind of ["cut", "stall"] as const) {
      for (const after of [0, 2000, 500_000]) {
        proxy.disconnect();
        proxy.fault = () => ({ kind, after });
        const failed = (error: unknown) =>
          error instanceof UnavailableError || error instanceof CorruptionError;
        await assert.rejects(shaky.store.getRange("large", 0, MiB), failed);
        await assert.rejects(
          (async () => {
            const { body } = await shaky.store.getStream("large");
            for await (const piece of body) assert.ok(piece.length > 0);
          })(),
          failed,
        );
      }
    }
    proxy.disconnect();
    proxy.fault = () => undefined;
    // Its time limits are short, and the machine may be busy.
    const read = await waitFor(() => shaky.store.getRange("large", 5, 100).catch(() => undefined), {
      what: "the store answers again",
    });
    assert.is(read.length, 100);
  });

  test("what a worker cannot hold is refused before it is sent", async () => {
    const { store } = open({ putLimit: 10 });
    await assert.rejects(store.put("a", pattern(11)), UnsupportedError);
    await store.put("a", text("0123456789"));
    assert.throws(() => open({ endpoint: "http://host/path" }), TypeError);
    assert.throws(() => open({ endpoint: "ftp://host" }), TypeError);
  });
}

test.run();
