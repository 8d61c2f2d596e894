import { assert, suite } from "./harness.ts";
import { exists } from "./cache.ts";
import { minioOrSkip } from "./minio.ts";
import { isAlive } from "./processes.ts";

const test = suite("support/minio", { sanitize: false });
const startMinio = await minioOrSkip((reason) => test.skip(reason));

if (startMinio !== undefined) {
  for (const drives of [1, 4]) {
    test(`startMinio() serves a bucket on ${drives} drives, keeps it over a kill, and leaves nothing behind`, async () => {
      const minio = await startMinio({ drives });
      const pid = minio.pid!;
      try {
        const client = minio.client();
        await client.putObject(minio.bucket, "folder/object", "content");
        await minio.restart();
        assert.not(isAlive(pid));
        const body = await client.getObject(minio.bucket, "folder/object");
        let text = "";
        for await (const chunk of body) text += chunk;
        assert.is(text, "content");
        const refused = client.putObject(minio.bucket, "folder/object", "other", undefined, {
          "If-None-Match": "*",
        });
        await assert.rejects(refused, (error) => (error as { code?: string }).code === "PreconditionFailed");
      } finally {
        await minio.stop();
      }
      assert.not(await exists(minio.rootDir));
    });
  }
}

test.run();
