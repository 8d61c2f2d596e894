/**
 * A follower in a process of its own, to be killed: `follower_process.ts SOURCE_URL STORE_DIRECTORY`.
 *
 * Prints `following` when it is connected and `caught up` when it has all there was; ends in order, with everything durable, when its standard input ends.
 *
 * @module
 */
import { postgresSource } from "../../src/deps/postgres_source.ts";
import { systemClock } from "../../src/deps/system_clock.ts";
import { follow } from "../../src/varve.ts";
import { resolveConnection } from "../../src/write/source/connection_options.ts";
import { testStore } from "./follow.ts";

const [url, directory] = Deno.args;
const store = await testStore(directory);
const connection = await resolveConnection({ url });
const following = await follow({
  store,
  clock: systemClock,
  source: { ...postgresSource, connection },
  // Small, so that a kill hits a flush often.
  checkpointDistance: 2 * 1024 * 1024,
  flushIntervalMs: 500,
  // And a compaction, or an image that is being made.
  upkeep: { runsMax: 2, layerBytes: 4 * 1024 * 1024, imageRatio: 0.1, busyShare: 0.5 },
});
// Each line once: when there is a connection, and when everything is here that the server had when it was made.
const unsubscribe = following.connection.subscribe(report);
let reported = 0;
function report(): void {
  const { isConnected, caughtUp } = following.connection.current;
  if (reported === 0 && isConnected) {
    reported = 1;
    console.log("following");
  }
  if (reported === 1 && caughtUp) {
    reported = 2;
    console.log("caught up");
  }
}
report();
following.follower.done.catch((error) => {
  console.error(error);
  Deno.exit(1);
});
for await (const _ of Deno.stdin.readable);
unsubscribe();
await following.follower.stop();
Deno.exit(0);
