/**
 * The demo: `deno task demo [SECONDS]`.
 *
 * Starts a real PostgreSQL 17, follows it into a directory while a workload of so many seconds (20) runs, remembers what
 * the server shows at five moments, and then reads those pages of the past back and proves each. It needs nothing but
 * Deno, leaves nothing behind, and fails with exit code 1 if a single page differs.
 *
 * @module
 */
import {
  attachReader,
  follow,
  type Following,
  formatLsn,
  resolveConnection,
  systemClock,
} from "../../mod.ts";
import { serveHttp } from "../../src/deps/http_server.ts";
import { postgresSource } from "../../src/deps/postgres_source.ts";
import { createStatusApp } from "../../src/status/app.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { VarveMetrics } from "../../src/status/metrics.ts";
import { FilesStore } from "../../src/store/files.ts";
import { type Cluster, startCluster } from "../../tests/support/postgres.ts";
import { temporaryDirectory } from "../../tests/support/temp.ts";
import { type Moment, rememberMoment } from "./moments.ts";
import { proveMoment } from "./prove.ts";
import { count, LiveLine, mib, say, waitForEnter } from "./terminal.ts";
import { EVENTS, openShop, runChapter } from "./workload.ts";

const MOMENTS = 5;
const CLIENTS = 3;
/** Small, so that history is in many layers before the demo is over. */
const CHECKPOINT_DISTANCE = 16 * 1024 * 1024;

/** Takes a base backup and goes on from there; all of it can be watched on the status page. */
async function startFollowing(cluster: Cluster, store: FilesStore, board: StatusBoard): Promise<Following> {
  const metrics = new VarveMetrics(board);
  const http = await serveHttp(createStatusApp({ board, metrics }).fetch);
  say("status", `${http.url}/ for as long as this runs`);
  const connection = await resolveConnection({ url: cluster.replicationUrl });
  const line = new LiveLine("backup");
  const started = performance.now();
  let bytes = 0;
  const following = await follow({
    store,
    clock: systemClock,
    source: { ...postgresSource, connection },
    checkpointDistance: CHECKPOINT_DISTANCE,
    events: metrics.onEvent,
    onConnections: metrics.onConnections,
    onBackupProgress(progress) {
      board.onBackupProgress(progress);
      bytes = progress.bytesDone;
      line.update(`${mib(bytes)} of about ${mib(progress.bytesTotal)}, ${rate(bytes, started)}`);
    },
  });
  board.add(following, connection.description);
  line.finish(`${mib(bytes)} through the replication protocol, ${rate(bytes, started)}`);
  return following;
}

/** Work, and moments in between. */
async function liveThrough(cluster: Cluster, following: Following, seconds: number): Promise<Moment[]> {
  const sql = cluster.sql();
  const { timeline } = following;
  const line = new LiveLine("follow");
  const started = performance.now();
  const describe = () =>
    `LSN ${formatLsn(timeline.lastRecordLsn)}, ${mib(timeline.walBytes)} of WAL, ` +
    `${count(timeline.recordCount, "record")}, ${count(timeline.layers.count, "layer")}, ` +
    rate(timeline.walBytes, started);
  const ticking = setInterval(() => line.update(describe()), 250);
  const moments: Moment[] = [];
  try {
    for (let index = 0; index < MOMENTS; index++) {
      const transactions = await runChapter(sql, seconds / MOMENTS, CLIENTS);
      const moment = await rememberMoment(sql);
      moments.push(moment);
      const { what, statements } = EVENTS[index] ?? { what: "the end", statements: ["CHECKPOINT"] };
      for (const statement of statements) await sql.unsafe(statement);
      new LiveLine(`moment ${index + 1}`).finish(
        `LSN ${formatLsn(moment.lsn)}: ${count(moment.pages.length, "page")} of ` +
          `${count(moment.relations, "relation")} remembered, ${
            count(transactions, "transaction")
          }; then: ${what}`,
      );
    }
    // The last moment's LSN is the server's end of WAL no more: the checkpoint lies behind it.
    await timeline.waitForRecord(moments[MOMENTS - 1].lsn, AbortSignal.timeout(30_000));
  } finally {
    clearInterval(ticking);
  }
  await following.flusher.flushAll();
  line.finish(describe());
  return moments;
}

/** Reads everything back with a fresh reader, from the store alone. Returns how many pages differ. */
async function lookBack(store: FilesStore, moments: Moment[]): Promise<number> {
  const attached = await attachReader({ store, clock: systemClock });
  const today = attached.timeline.lastRecordLsn;
  const { layers } = attached.timeline;
  say(
    "reader",
    `attached: ${count(layers.count, "layer")}, ${mib(layers.totalBytes)} in ${store.description}`,
  );
  const readMs: number[] = [];
  let differences = 0;
  for (const [index, moment] of moments.entries()) {
    const proof = await proveMoment(attached.reader, moment, today);
    readMs.push(...proof.readMs);
    differences += proof.differences.length;
    const equal = [...proof.equal].map(([name, pages]) => `${pages} ${name}`).join(" + ");
    say(
      `moment ${index + 1}`,
      `LSN ${formatLsn(moment.lsn)}: ${equal} pages equal, ${proof.differences.length} differ; ` +
        `${proof.changedSince} of them look different today`,
    );
    for (const difference of proof.differences) say("", difference);
  }
  await attached.close();
  readMs.sort((a, b) => a - b);
  const median = readMs[readMs.length >> 1].toFixed(2);
  say(
    "result",
    `${count(readMs.length, "page")} of the past read, ${median} ms each (median); ${differences} differ`,
  );
  return differences;
}

function rate(bytes: number, startedMs: number): string {
  return `${mib(bytes / Math.max(0.001, (performance.now() - startedMs) / 1000))}/s`;
}

async function main(): Promise<number> {
  const seconds = Number(Deno.args[0] ?? 20);
  if (!(seconds > 0 && seconds <= 3600)) {
    say("usage", "deno task demo [SECONDS of workload, up to 3600; default 20]");
    return 2;
  }
  say("varve", "demo: follow a real PostgreSQL, read its past, prove every page");
  say("server", "starting PostgreSQL 17; the first time its 20 MB are fetched ...");
  // Nothing moves pages but what the demo does, so that moments are quiet.
  await using cluster = await startCluster({
    major: 17,
    settings: { autovacuum: "off", max_wal_size: "4GB" },
  });
  await openShop(cluster.sql());
  const [{ version }] = await cluster.sql()`SELECT current_setting('server_version') AS version`;
  say("server", `PostgreSQL ${version} at ${cluster.host}:${cluster.port}, in ${cluster.dataDir}`);
  await using directory = await temporaryDirectory("demo");
  // A server is stopped for us whatever happens; the store is ours to remove.
  Deno.addSignalListener("SIGINT", () => void directory.remove().finally(() => Deno.exit(130)));
  const store = await FilesStore.open({ path: directory.path });
  const board = new StatusBoard({ clock: systemClock, store });
  const following = await startFollowing(cluster, store, board);
  const moments = await liveThrough(cluster, following, seconds);
  const differences = await lookBack(store, moments);
  await waitForEnter("Enter ends the demo; the status page is up until then. ");
  await following.follower.stop();
  await following.close();
  await store.close();
  return differences === 0 ? 0 : 1;
}

Deno.exit(await main());
