/**
 * Follows a PostgreSQL server into a directory, from a base backup on, and goes on where it left off when run again:
 * `deno run -A examples/01_follow_a_primary.ts postgres://USER:PASSWORD@HOST DIRECTORY [UNTIL_LSN]`
 *
 * Ends at the LSN, or with Ctrl-C; what it has taken in is in the directory then.
 */
import { follow, formatLsn, parseLsn, resolveConnection, systemClock } from "../mod.ts";
import { postgresSource } from "../src/deps/postgres_source.ts";
import { FilesStore } from "../src/store/files.ts";

const [url, directory, until] = Deno.args;
const store = await FilesStore.open({ path: directory });

const following = await follow({
  store,
  clock: systemClock,
  source: { ...postgresSource, connection: await resolveConnection({ url }) },
  until: until === undefined ? undefined : parseLsn(until),
  onBackupProgress: ({ bytesDone, bytesTotal }) =>
    console.log(`base backup: ${bytesDone} of ~${bytesTotal} bytes`),
  events: ({ level, topic, message }) => console.log(`${level} ${topic}: ${message}`),
});

const { timeline, follower } = following;
console.log(`following from ${formatLsn(timeline.lastRecordLsn)}`);
Deno.addSignalListener("SIGINT", () => void follower.stop());
await follower.done;
console.log(
  `durable up to ${formatLsn(timeline.remoteConsistentLsn)}: ${timeline.recordCount} records, ` +
    `${timeline.layers.count} layers, ${timeline.layers.totalBytes} bytes`,
);
await following.close();
await store.close();
Deno.exit(0);
