/** The store in a bucket, against a real MinIO server. */
import { MinioStore, type MinioStoreOptions } from "../../src/store/minio.ts";
import { suite } from "../support/harness.ts";
import { type Minio, minioOrSkip } from "../support/minio.ts";
import { objectStoreTests } from "../suites/object_store.ts";

const test = suite("store/minio", { sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

if (startMinio !== undefined) {
  let minio: Minio;
  let stores = 0;
  test.before(async () => {
    minio = await startMinio();
  });
  test.after(() => minio.stop());

  const options = (prefix: string): MinioStoreOptions => ({
    endpoint: minio.endpoint,
    bucket: minio.bucket,
    prefix,
    accessKey: minio.accessKey,
    secretKey: minio.secretKey,
    partSize: 5 << 20,
    singlePutLimit: 8 << 20,
  });

  objectStoreTests(test, () => {
    const store = new MinioStore(options(`suite/${++stores}`));
    return Promise.resolve({ store, [Symbol.asyncDispose]: () => store.close() });
  });
}

test.run();
