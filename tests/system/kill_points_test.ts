/**
 * Processes killed at random points of flush, upload, compaction, collection and branching, over a directory and over
 * MinIO: reopened, every page is right, and a collection leaves no orphan.
 *
 * `VARVE_KILLS` and `VARVE_MINIO_KILLS` say how many; `deno task soak:kill` kills 200 and 50.
 *
 * @module
 */
import { assert, suite } from "../support/harness.ts";
import { KillRig } from "../support/kill_rig.ts";
import { minioOrSkip } from "../support/minio.ts";
import { seededRandom } from "../support/random.ts";
import { temporaryDirectory } from "../support/temp.ts";

const test = suite("system/kill points", { timeoutMs: 1_800_000, sanitize: false });

const KILLS = Number(Deno.env.get("VARVE_KILLS") ?? 60);
const MINIO_KILLS = Number(Deno.env.get("VARVE_MINIO_KILLS") ?? 12);
const startMinio = await minioOrSkip((reason) => test.skip(reason));

function report({ kills }: KillRig, count: number): void {
  console.log([...kills].sort().map(([point, count]) => `${point} ${count}`).join(", "));
  assert.is([...kills.values()].reduce((sum, each) => sum + each, 0), count);
}

test(`killed ${KILLS} times over a directory, no page is lost and no object left over`, async () => {
  await using directory = await temporaryDirectory("kill-points");
  const random = seededRandom("kill points");
  await using rig = await KillRig.open({
    store: directory.join("store"),
    directory: directory.path,
    random,
  });
  await rig.kill(KILLS);
  report(rig, KILLS);
});

if (startMinio !== undefined) {
  test(`killed ${MINIO_KILLS} times over MinIO, no page is lost and no object left over`, async () => {
    await using directory = await temporaryDirectory("kill-points");
    await using minio = await startMinio();
    const random = seededRandom("kill points over MinIO");
    await using rig = await KillRig.open({
      store: minio.url,
      env: minio.env,
      directory: directory.path,
      random,
    });
    await rig.kill(MINIO_KILLS);
    report(rig, MINIO_KILLS);
  });
}

test.run();
