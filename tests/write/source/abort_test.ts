import { postgresSource } from "../../../src/deps/postgres_source.ts";
import { lsn } from "../../../src/lsn.ts";
import { openBaseBackup } from "../../../src/write/source/base_backup.ts";
import { followReplication, openReplication } from "../../../src/write/source/replication.ts";
import type { WalChunk } from "../../../src/write/source/wal_source.ts";
import { assert, suite } from "../../support/harness.ts";
import { startCluster } from "../../support/postgres.ts";
import { seededRandom } from "../../support/random.ts";
import { waitFor } from "../../support/wait.ts";
import { accessTo, identify, walSenders, writeWal } from "./source_support.ts";

// With Deno's own check for sockets and timers that are left.
const test = suite("write/source/abort");

test("openReplication() and followReplication() leave no connection after an abort at any moment", async () => {
  const random = seededRandom("write/source/replication abort");
  await using cluster = await startCluster({
    major: 18,
    settings: { wal_keep_size: "1GB", autovacuum: "off" },
  });
  await writeWal(cluster, 20);
  const access = await accessTo(cluster);
  const { xlogPos } = await identify(access);
  const options = { ...access, positions: { processed: () => xlogPos, durable: () => xlogPos } };
  let live = 0;
  for (let round = 0; round < 60; round++) {
    const abort = new AbortController();
    const reason = new Error(`abort ${round}`);
    const open = round % 2 === 0 ? openReplication : followReplication;
    const stream: ReadableStream<WalChunk> = open({
      ...options,
      lastRecordLsn: lsn(0x1000000 + 40),
      slot: round % 3 === 0 ? "varve" : undefined,
      onConnections: (change) => void (live += change),
      signal: abort.signal,
    });
    const reader = stream.getReader();
    const moment = random.int(0, 25);
    const timer = setTimeout(() => abort.abort(reason), moment);
    if (round % 5 === 4) {
      await reader.read().catch(() => {});
      clearTimeout(timer);
      await reader.cancel("enough").catch((error) => assert.is(error, reason)); // aborted before
    } else {
      let thrown: unknown;
      try {
        while (!(await reader.read()).done);
      } catch (error) {
        thrown = error;
      }
      assert.is(thrown, reason, `round ${round}, ${moment} ms`);
    }
  }
  await waitFor(() => live === 0, { what: "the gauge is back at zero" });
  await waitFor(async () => await walSenders(cluster) === 0, { what: "no walsender is left" });
  const already = new AbortController();
  already.abort(new Error("before"));
  await assert.rejects(
    openReplication({ ...options, lastRecordLsn: xlogPos, signal: already.signal }).getReader().read(),
    "before",
  );
});

test("openBaseBackup() leaves no connection after an abort at any moment", async () => {
  const random = seededRandom("write/source/abort of a backup");
  for (const major of [14, 17] as const) {
    await using cluster = await startCluster({ major });
    const access = await accessTo(cluster);
    for (let round = 0; round < 20; round++) {
      const abort = new AbortController();
      const reason = new Error(`abort ${round}`);
      const timer = setTimeout(() => abort.abort(reason), random.int(0, 60));
      let thrown: unknown;
      try {
        await using backup = await openBaseBackup({
          ...access,
          untar: postgresSource.untar,
          signal: abort.signal,
        });
        for await (const { body } of backup.entries()) for await (const _ of body);
        backup.finish();
      } catch (error) {
        thrown = error;
      }
      clearTimeout(timer);
      assert.ok(thrown === reason || (thrown === undefined), `round ${round}: ${thrown}`);
    }
    await waitFor(async () => await walSenders(cluster) === 0, { what: "no walsender is left" });
  }
});

test.run();
