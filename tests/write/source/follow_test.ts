import {
  MismatchError,
  PostgresError,
  ProtocolError,
  UnavailableError,
  VarveError,
  WalLostError,
} from "../../../src/errors.ts";
import { type Lsn, lsn } from "../../../src/lsn.ts";
import type { VarveEvent } from "../../../src/ports/events.ts";
import {
  followReplication,
  openReplication,
  type ReplicationOptions,
} from "../../../src/write/source/replication.ts";
import { ConnectionStatusWatch } from "../../../src/write/source/status.ts";
import { assert, suite } from "../../support/harness.ts";
import { ManualClock, settle } from "../../support/manual_clock.ts";
import { row, ScriptedServer, serverError, transportFailure } from "./scripted_server.ts";

const test = suite("write/source/follow");

const START = 0x5000028;

/** A scripted server and a stream of it that is read along. */
function follow(options: Partial<ReplicationOptions> & { open?: typeof followReplication } = {}) {
  const server = new ScriptedServer();
  const clock = new ManualClock();
  const state = { processed: START as Lsn, durable: START as Lsn };
  const status = new ConnectionStatusWatch();
  const events: VarveEvent[] = [];
  const connections: number[] = [];
  const start = () => {
    const stream = (options.open ?? followReplication)({
      driver: server,
      connection: server.options,
      clock,
      status,
      events: (event) => void events.push(event),
      onConnections: (change) => void connections.push(change),
      lastRecordLsn: lsn(START),
      positions: { processed: () => state.processed, durable: () => state.durable },
      ...options,
    });
    const reader = stream.getReader();
    reader.closed.catch(() => {}); // tests look at it when they expect it
    return { reader, failure: () => assert.rejects(reader.closed) as Promise<Error> };
  };
  return { server, clock, state, status, events, connections, start };
}

/** Enough turns for a whole session to be opened. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await settle();
}

const RETRY = (events: VarveEvent[]) =>
  events.filter(({ topic }) => topic === "source.retry").map(({ fields }) =>
    Math.round(fields!.waitMs as number)
  );

test("followReplication() retries after 100 ms, growing by half to 15 s", async () => {
  const { server, clock, events, start } = follow();
  for (let i = 0; i < 20; i++) server.scripts.push({ refuse: transportFailure("connect", "refused") });
  const { reader } = start();
  await turns();
  for (let i = 0; i < 20; i++) {
    await clock.advance(15_000);
    await turns();
  }
  assert.equal(RETRY(events).slice(0, 6), [100, 150, 225, 338, 506, 759]);
  assert.is(RETRY(events)[12], 12_975);
  assert.ok(RETRY(events).slice(13, 20).every((waitMs) => waitMs === 15_000));
  assert.ok(
    events.every(({ topic, error }) => topic !== "source.retry" || error instanceof UnavailableError),
  );
  assert.match(server.copy.command, "START_REPLICATION PHYSICAL 0/5000028 TIMELINE 1");
  await reader.cancel();
  assert.is(server.open, 0);
});

test("followReplication() counts the pause from the start of the attempt, and begins anew once WAL was processed", async () => {
  const { server, clock, state, events, start } = follow();
  server.scripts.push({ refuse: transportFailure("connect", "refused") }, {
    refuse: transportFailure("connect", "no"),
  });
  const { reader } = start();
  await turns();
  await clock.advance(100);
  await turns();
  await clock.advance(150);
  await turns();
  assert.is(server.copies.length, 1);
  // Connected for a while without anything processed: the pause goes on growing, but it is over already.
  await clock.advance(3000);
  server.copy.receiver.done(transportFailure("closed", "gone"));
  await turns();
  assert.equal(RETRY(events), [100, 150, 0]);
  await clock.advance(0);
  await turns();
  server.copy.receiver.done(transportFailure("closed", "gone at once"));
  await turns();
  assert.equal(RETRY(events), [100, 150, 0, 338]);
  await clock.advance(338);
  await turns();
  server.copy.wal(START, 80);
  state.processed = lsn(START + 80);
  server.copy.receiver.done(transportFailure("closed", "gone"));
  await turns();
  assert.equal(RETRY(events), [100, 150, 0, 338, 100]);
  await clock.advance(100);
  await turns();
  assert.match(server.copy.command, "PHYSICAL 0/5000078 ", "exactly where it was");
  await reader.cancel();
  assert.is(server.open, 0);
});

test("followReplication() gives up for what waiting does not heal, and closes everything", async () => {
  const cases: [Record<string, Error>, new (...args: never[]) => Error][] = [
    [{ IDENTIFY_SYSTEM: serverError("28P01", "no") }, PostgresError],
    [{ "SHOW wal_level": serverError("42501", "no") }, PostgresError],
    [{ IDENTIFY_SYSTEM: serverError("53300", "max_wal_senders (currently 0)") }, MismatchError],
    [{ IDENTIFY_SYSTEM: transportFailure("tls", "certificate") }, VarveError],
  ];
  for (const [answers, expected] of cases) {
    const { server, start, connections } = follow();
    server.scripts.push({ answers });
    const error = await start().failure();
    assert.instance(error, expected);
    assert.not.instance(error, UnavailableError);
    assert.is(server.open, 0);
    assert.is(connections.reduce((sum, change) => sum + change, 0), 0);
  }
  for (const code of ["57P01", "57P03", "53300", "08006", "55006"]) {
    const { server, start, clock } = follow();
    server.scripts.push({ answers: { "SHOW wal_level": serverError(code, "for now") } });
    const { reader } = start();
    await turns();
    await clock.advance(100);
    await turns();
    assert.is(server.copies.length, 1, `${code} is tried again`);
    await reader.cancel();
  }
  const removed = follow();
  const { failure } = removed.start();
  await turns();
  removed.server.copy.receiver.done(serverError("58P01", "requested WAL segment has already been removed"));
  assert.instance(await failure(), WalLostError);
});

test("a gap, an overlap, an unknown message and a wrong length end the stream", async () => {
  const cases: [string, (server: ScriptedServer) => void][] = [
    ["expected it to go on at 0/5000028, got 0/5000030", ({ copy }) => copy.wal(START + 8, 100)],
    ["expected it to go on at 0/500008C, got 0/5000028", ({ copy }) => {
      copy.wal(START, 100);
      copy.wal(START, 100);
    }],
    ["expected w or k, got byte 88", ({ copy }) => copy.receiver.data(new Uint8Array([88, 1, 2]))],
    ["got an empty one", ({ copy }) => copy.receiver.data(new Uint8Array(0))],
    ["expected 25 bytes, got 3", ({ copy }) => copy.receiver.data(new Uint8Array([0x77, 1, 2]))],
    ["expected 18 bytes, got 19", ({ copy }) => {
      const message = new Uint8Array(19);
      message[0] = 0x6b;
      copy.receiver.data(message);
    }],
    ["beyond 2^53", ({ copy }) => copy.receiver.data(new Uint8Array(30).fill(0x77))],
  ];
  for (const [text, act] of cases) {
    const { server, start } = follow();
    const { failure } = start();
    await turns();
    act(server);
    const error = await failure();
    assert.instance(error, ProtocolError);
    assert.match(error.message, text);
    await turns();
    assert.is(server.open, 0);
  }
});

test("status goes out every second and on request, whether or not anybody reads", async () => {
  const { server, clock, state, start } = follow({ queueBytes: 1000 });
  const { reader } = start();
  await turns();
  const sent = () => server.copy.written.map((message) => positionsOf(message));
  assert.equal(sent(), [[START, START, START]], "at the beginning");
  server.copy.wal(START, 4000);
  assert.ok(server.copy.isPaused, "the queue is full");
  await clock.advance(1000);
  assert.equal(sent().at(-1), [START + 4000, START, START]);
  state.durable = lsn(START + 1000);
  await clock.advance(1000);
  assert.equal(sent().at(-1), [START + 4000, START + 1000, START + 1000]);
  assert.is(server.copy.written.length, 3);
  server.copy.keepalive(START + 4000, false);
  assert.is(server.copy.written.length, 3);
  await clock.advance(200);
  server.copy.keepalive(START + 4000, true);
  assert.is(server.copy.written.length, 4, "asked, answered");
  server.copy.keepalive(START + 4000, true);
  server.copy.keepalive(START + 4000, true);
  assert.is(server.copy.written.length, 4, "asked again at once: nothing new to say");
  state.durable = lsn(START + 2000);
  server.copy.keepalive(START + 4000, true);
  assert.is(server.copy.written.length, 5, "but news is told at once");
  await reader.read();
  await turns();
  assert.not(server.copy.isPaused, "room again");
  await reader.cancel();
  assert.equal(sent().at(-1), [START + 4000, START + 2000, START + 2000], "and a last one with the goodbye");
});

/** Written, flushed, applied of a standby status message. */
function positionsOf(message: Uint8Array): number[] {
  assert.is(message[0], 0x72);
  const view = new DataView(message.buffer);
  return [1, 9, 17].map((at) => Number(view.getBigUint64(at)));
}

test("a third of wal_sender_timeout is the longest interval between status messages", async () => {
  const { server, clock, start } = follow();
  server.scripts.push({ answers: { "SHOW wal_sender_timeout": [row("900ms")] } });
  const { reader } = start();
  await turns();
  await clock.advance(900);
  assert.is(server.copy.written.length, 4);
  await reader.cancel();
});

test("silence is asked about, and given up on after the time limit", async () => {
  const { server, clock, start } = follow({ open: openReplication, receiveTimeoutMs: 10_000 });
  const { failure } = start();
  await turns();
  await clock.advance(5000);
  assert.ok(server.copy.written.every((message) => message[33] === 0));
  await clock.advance(2000);
  assert.is(server.copy.written.at(-1)![33], 1, "a reply is requested");
  server.copy.keepalive(START);
  await clock.advance(9000);
  await clock.advance(2000);
  const error = await failure() as UnavailableError;
  assert.instance(error, UnavailableError);
  assert.is(error.code, "TIMEOUT");
  assert.is(server.open, 0);
});

test("connecting has a time limit of its own", async () => {
  const { server, clock, start } = follow({ open: openReplication });
  server.scripts.push({ hang: true });
  const { failure } = start();
  await turns();
  await clock.advance(9999);
  await clock.advance(1);
  const error = await failure() as UnavailableError;
  assert.is(error.code, "TIMEOUT");
  assert.match(error.message, "connect to postgres://u@db.invalid:5432?sslmode=disable");
});

test("a server that shuts down gets answers at a bounded rate, and one wish for a flush", async () => {
  const wanted: Lsn[] = [];
  const { server, clock, state, start } = follow({
    open: openReplication,
    onFlushWanted: (position) => void wanted.push(position),
  });
  const { reader } = start();
  await turns();
  server.copy.wal(START, 400);
  let answered = 0;
  for (let i = 0; i < 100; i++) {
    const before = server.copy.written.length;
    server.copy.keepalive(START + 400, true); // asks again after each answer, as WalSndDone() does
    answered += server.copy.written.length - before;
    await clock.advance(10);
  }
  assert.ok(answered <= 12, `${answered} answers in a second`);
  assert.equal(wanted, [START + 400]);
  state.durable = lsn(START + 400);
  await clock.advance(100);
  assert.equal(positionsOf(server.copy.written.at(-1)!), [START + 400, START + 400, START + 400]);
  await reader.cancel();
});

test("a Neon safekeeper is asked for nothing but WAL, and gets its own feedback", async () => {
  const { server, state, start } = follow({ feedback: "neon", slot: "unused" });
  server.scripts.push({
    answers: {
      IDENTIFY_SYSTEM: [row("1", "1", "0/5000000", null)],
      "SHOW block_size": serverError("42601", "no"),
    },
  });
  const { reader } = start();
  await turns();
  assert.equal(server.commands, ["IDENTIFY_SYSTEM"]);
  assert.is(server.copy.command, "START_REPLICATION PHYSICAL 0/5000028");
  server.copy.wal(START, 100);
  state.processed = state.durable = lsn(START + 100);
  server.copy.keepalive(START + 100, true);
  assert.is(server.copy.written.at(-1)![0], 0x7a); // z
  await reader.cancel();
});

test("the end of a timeline leads to the next one on a new connection", async () => {
  const { server, start, events } = follow({ tli: 1 });
  const history = new TextEncoder().encode("1\t0/5000128\tpromoted\n");
  const onTwo = {
    IDENTIFY_SYSTEM: [row("7000000000000000001", "2", "0/6000000", null)],
    "TIMELINE_HISTORY 2": [[new TextEncoder().encode("00000002.history"), history]],
  };
  server.scripts.push({ answers: onTwo }, { answers: onTwo });
  const { reader } = start();
  await turns();
  assert.match(server.copy.command, "TIMELINE 1");
  server.copy.wal(START, 0x100);
  server.copy.receiver.end();
  assert.ok(server.copy.isFinished, "our half of the end");
  server.copy.receiver.row(row("2", "0/5000128"));
  server.copy.receiver.done(null);
  await turns();
  assert.match(server.copy.command, "PHYSICAL 0/5000128 TIMELINE 2");
  server.copy.wal(0x5000128, 8);
  assert.is((await reader.read()).value!.tli, 1);
  assert.is((await reader.read()).value!.tli, 2);
  assert.equal(RETRY(events), [], "without a pause");
  await reader.cancel();

  const wrong = follow({ open: openReplication });
  const { failure } = wrong.start();
  await turns();
  wrong.server.copy.receiver.end();
  wrong.server.copy.receiver.row(row("2", "0/4000000"));
  wrong.server.copy.receiver.done(null);
  assert.instance(await failure(), ProtocolError);
});

test("ConnectionStatus follows the connection as it goes", async () => {
  const { server, clock, state, status, start, connections, events } = follow();
  const seen: boolean[] = [];
  status.subscribe(({ isConnected }) => void seen.push(isConnected));
  assert.not(status.current.isConnected);
  server.scripts.push({ answers: { IDENTIFY_SYSTEM: [row("1", "1", "0/5000028", null)] } });
  const { reader } = start();
  await turns();
  const now = clock.now();
  assert.equal(status.current, {
    isConnected: true,
    hasProcessedWal: false,
    latestConnectionUpdate: now,
    latestWalUpdate: now,
    streamingLsn: null,
    commitLsn: START,
    caughtUp: true,
    lastReceivedMessageLsn: null,
    lastReceivedMessageTime: null,
  });
  await clock.advance(500);
  server.copy.keepalive(START + 0x1000);
  assert.is(status.current.commitLsn, START + 0x1000);
  assert.is(status.current.latestConnectionUpdate, now + 500);
  assert.is(status.current.latestWalUpdate, now);
  await clock.advance(100);
  server.copy.wal(START, 96, START + 0x2000);
  assert.equal(
    [status.current.streamingLsn, status.current.commitLsn, status.current.latestWalUpdate],
    [START + 96, START + 0x2000, now + 600],
  );
  assert.is(status.current.lastReceivedMessageLsn, START + 96);
  assert.not(status.current.hasProcessedWal, "received is not processed");
  state.processed = lsn(START + 48);
  server.copy.keepalive(START + 0x2000, true);
  assert.ok(status.current.hasProcessedWal);
  assert.is(
    status.current.lastReceivedMessageLsn,
    START + 48,
    "a question is answered with what was processed",
  );
  await reader.cancel();
  assert.not(status.current.isConnected);
  assert.ok(status.current.hasProcessedWal, "the last state stays to be seen");
  await turns();
  assert.equal(connections, [1, -1]);
  assert.is(seen.at(-1), false);
  const topics = events.map(({ topic }) => topic.slice("source.".length));
  assert.equal(topics, ["connected", "streaming", "caught_up", "disconnected"]);
});

test.run();
