/** What the board says of timelines, and when it calls the process ready. */
import { FencedError, UnavailableError, VarveError } from "../../src/errors.ts";
import { lsn } from "../../src/lsn.ts";
import { StatusBoard } from "../../src/status/board.ts";
import { snapshotLayers, snapshotTimeline } from "../../src/status/snapshot.ts";
import { VERSION } from "../../src/status/version.ts";
import { ROOT } from "../rules/source_files.ts";
import { newLayerFilesCounters } from "../../src/read/fetch_counters.ts";
import { assert, suite } from "../support/harness.ts";
import { ManualClock, settle } from "../support/manual_clock.ts";
import { END_LSN, setSize, someFollowing, someTimeline } from "./status_support.ts";

const test = suite("status/board");

async function codes(board: StatusBoard): Promise<string[]> {
  return (await board.reasonsNotReady()).map((reason) => reason.code);
}

test("VERSION is the package's", () => {
  assert.is(VERSION, JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`)).version);
});

test("snapshotTimeline() shows an attached timeline alone: positions, sizes, layers", () => {
  const board = new StatusBoard({ clock: new ManualClock() });
  board.add({ timeline: someTimeline() });
  const snapshot = snapshotTimeline(board.timeline("main"));
  assert.is(snapshot.state, "attached");
  assert.is(snapshot.startLsn, "0/1000000");
  assert.is(snapshot.consistentLsn, "0/1000100");
  assert.is(snapshot.lastRecordLsn, "0/2000000");
  assert.is(snapshot.remoteConsistentLsn, "0/2000000");
  assert.is(snapshot.currentPhysicalSizeBytes, 1500);
  assert.is(snapshot.residentPhysicalSizeBytes, 0);
  assert.equal(snapshot.layers, { count: 2, delta: 1, image: 1, resident: 0, remote: 2 });
  assert.is(snapshot.logicalSizeBytes, null);
  assert.is(snapshot.source, null);
  assert.equal(snapshotLayers(board.timeline("main"), 0, 10), [
    {
      name: "layer-delta",
      kind: "delta",
      lsnStart: "0/1FFF000",
      lsnEnd: "0/2000000",
      sizeBytes: 500,
      location: "remote",
      lastAccess: null,
    },
    {
      name: "layer-image",
      kind: "image",
      lsnStart: "0/1000000",
      lsnEnd: "0/1000001",
      sizeBytes: 1000,
      location: "remote",
      lastAccess: null,
    },
  ]);
});

test("snapshotTimeline() tells resident layers from remote ones", () => {
  const board = new StatusBoard({ clock: new ManualClock() });
  const counters = { ...newLayerFilesCounters(), downloads: 1, downloadedBytes: 1000 };
  board.add({
    timeline: someTimeline(),
    files: {
      residentBytes: 1000,
      residentCount: 1,
      isResident: (name) => name === "layer-image",
      counters,
    },
  });
  const watched = board.timeline("main");
  assert.is(snapshotTimeline(watched).residentPhysicalSizeBytes, 1000);
  assert.is(snapshotTimeline(watched).currentPhysicalSizeBytes, 1500);
  assert.is(snapshotTimeline(watched).layers.remote, 1);
  assert.equal(snapshotLayers(watched, 0, 10).map((layer) => layer.location), ["remote", "resident"]);
  assert.equal(snapshotLayers(watched, 1, 10).map((layer) => layer.name), ["layer-image"]);
});

test("logicalSizeBytes adds up main forks of relations, not at every look if that takes long", async () => {
  const clock = new ManualClock();
  let readings = 0;
  // Adding up takes 10 ms: every second reading of the clock is behind it.
  clock.monotonicMs = () => clock.now() + (readings++ % 2) * 10;
  const board = new StatusBoard({ clock });
  const { parts, timeline } = someFollowing();
  setSize(timeline, { c: 1 }, 10);
  setSize(timeline, { c: 2, b: 7 }, 5);
  setSize(timeline, { c: 1, d: 1 }, 3);
  setSize(timeline, { family: 2, c: 0 }, 32);
  setSize(timeline, { c: 4 }, -1);
  board.add(parts);
  const watched = board.timeline("main");
  assert.is(watched.logicalSizeBytes, 15 * 8192);
  Object.defineProperty(timeline, "lastRecordLsn", { value: END_LSN + 8 });
  setSize(timeline, { c: 9 }, 1);
  assert.is(watched.logicalSizeBytes, 15 * 8192);
  readings = 0;
  await clock.advance(211);
  assert.is(watched.logicalSizeBytes, 16 * 8192);
});

test("reasonsNotReady() goes from starting over connecting and catching up to ready", async () => {
  const clock = new ManualClock();
  const board = new StatusBoard({ clock });
  assert.equal(await codes(board), ["STARTING"]);
  board.onBackupProgress({ bytesDone: 0, bytesTotal: 100 });
  await clock.advance(2000);
  board.onBackupProgress({ bytesDone: 40, bytesTotal: 100 });
  const { backup } = await board.snapshot();
  assert.equal(backup, { bytesDone: 40, bytesTotal: 100, bytesPerSecond: 20, secondsLeft: 3 });
  const { parts, connection } = someFollowing();
  board.add(parts, "postgres://varve:hunter2@db:5432");
  assert.is((await board.snapshot()).backup, null);
  assert.equal(await codes(board), ["NOT_CONNECTED"]);
  connection.connected(clock.now(), END_LSN);
  connection.identified(clock.now(), lsn(END_LSN + 1000));
  await settle();
  assert.equal(await codes(board), ["CATCHING_UP"]);
  assert.is((await board.snapshot()).source!.lagBytes, 1000);
  connection.walReceived(clock.now(), END_LSN, 1000, lsn(END_LSN + 1000));
  await settle();
  const ready = await board.snapshot();
  assert.is(ready.isReady, true);
  assert.equal(ready.reasons, []);
  assert.is(ready.source!.caughtUp, true);
  assert.is(ready.source!.streamingLsn, "0/20003E8");
  assert.is(ready.source!.description, "postgres://varve:***@db:5432");
  connection.disconnected();
  assert.equal(await codes(board), ["NOT_CONNECTED"]);
});

test("lagSeconds grows with WAL that is not taken in, and without a connection", async () => {
  const clock = new ManualClock();
  const board = new StatusBoard({ clock, readyLagSeconds: 10 });
  const { parts, connection } = someFollowing();
  board.add(parts);
  assert.is(board.timeline("main").lagSeconds, null);
  connection.connected(clock.now(), END_LSN);
  connection.identified(clock.now(), END_LSN);
  connection.streaming(END_LSN);
  await clock.advance(4000);
  assert.is(board.timeline("main").lagSeconds, 0);
  connection.keepaliveReceived(clock.now(), lsn(END_LSN + 8));
  await clock.advance(5000);
  assert.is(board.timeline("main").lagSeconds, 5);
  assert.equal(await codes(board), []);
  await clock.advance(6000);
  assert.equal(await codes(board), ["LAGGING"]);
  connection.disconnected();
  await clock.advance(9000);
  assert.is(board.timeline("main").lagSeconds, 20);
});

test("reasonsNotReady() says how following ended", async () => {
  const outcomes: [unknown, string, string][] = [
    [undefined, "ended", "ENDED"],
    [new DOMException("Following was broken off", "AbortError"), "ended", "ENDED"],
    [new FencedError("Cannot commit: another writer"), "fenced", "FENCED"],
    [new VarveError("WAL_LOST", "Cannot go on", { hint: "Start anew." }), "failed", "WAL_LOST"],
  ];
  for (const [error, state, code] of outcomes) {
    const board = new StatusBoard({ clock: new ManualClock() });
    const { parts, end, fail } = someFollowing();
    board.add(parts);
    if (error === undefined) end();
    else fail(error);
    await settle();
    assert.equal(await codes(board), [code]);
    assert.is(snapshotTimeline(board.timeline("main")).state, state);
  }
});

test("a follower that had failed before it was added shows so at the first look", async () => {
  const board = new StatusBoard({ clock: new ManualClock() });
  const { parts, fail } = someFollowing();
  fail(new FencedError("Cannot commit: another writer"));
  await settle();
  board.add(parts);
  assert.equal(await codes(board), ["FENCED"]);
});

test("the store is asked at most every five seconds, and given up after three", async () => {
  const clock = new ManualClock();
  const asked: string[] = [];
  let answer: () => Promise<never> | Promise<unknown> = () => Promise.resolve({});
  const store = {
    description: "s3://bucket?secret_key=hunter2",
    head(key: string, options?: { signal?: AbortSignal }) {
      asked.push(key);
      return Promise.race([
        answer() as Promise<never>,
        new Promise<never>((_, reject) =>
          options?.signal?.addEventListener("abort", () => reject(options.signal!.reason))
        ),
      ]);
    },
  };
  const board = new StatusBoard({ clock, store });
  board.add({ timeline: someTimeline() });
  assert.equal(await codes(board), []);
  assert.equal(await codes(board), []);
  assert.equal(asked, ["timelines/main/manifest.json"]);
  answer = () => Promise.reject(new UnavailableError("Cannot reach http://varve:hunter2@store"));
  await clock.advance(5000);
  const [reason] = await board.reasonsNotReady();
  assert.is(reason.code, "STORE_UNAVAILABLE");
  assert.not(JSON.stringify(await board.snapshot()).includes("hunter2"));
  answer = () => new Promise(() => {});
  await clock.advance(5000);
  const stuck = codes(board);
  await settle();
  await clock.advance(3000);
  assert.equal(await stuck, ["STORE_UNAVAILABLE"]);
  assert.is(asked.length, 3);
});

test.run();
