import { MismatchError, ProtocolError, UnsupportedError } from "../../../src/errors.ts";
import { lsn } from "../../../src/lsn.ts";
import { parseTimelineHistory } from "../../../src/postgres/files/timeline_history.ts";
import {
  archiveOid,
  parseBackupMessage,
  parsePosition,
  parseTablespace,
} from "../../../src/write/source/backup_messages.ts";
import {
  checkServerMatches,
  checkServerUsable,
  parseBytes,
  parseIdentifySystem,
  parseMilliseconds,
  parseServerFacts,
} from "../../../src/write/source/identify.ts";
import { parseReplicationMessage } from "../../../src/write/source/replication_messages.ts";
import { nextOn } from "../../../src/write/source/timeline_plan.ts";
import { assert, suite } from "../../support/harness.ts";
import { row } from "./scripted_server.ts";

const test = suite("write/source/identify");

test("parseIdentifySystem() gives a typed value or a ProtocolError", () => {
  assert.equal(parseIdentifySystem([row("18446744073709551615", "4294967295", "16/B374D848", null)]), {
    systemId: 2n ** 64n - 1n,
    tli: 4294967295,
    xlogPos: 0x16_b374_d848 as never,
    dbName: null,
  });
  assert.is(parseIdentifySystem([row("1", "1", "0/0", "app")]).dbName, "app");
  const wrong = [
    [],
    [row("1", "1", "0/0", null), row("1", "1", "0/0", null)],
    [row()],
    [row("18446744073709551616", "1", "0/0", null)],
    [row("x", "1", "0/0", null)],
    [row(null, "1", "0/0", null)],
    [row("1", "0", "0/0", null)],
    [row("1", "4294967296", "0/0", null)],
    [row("1", "1", "0-0", null)],
    [row("1", "1", "FFFFFFFF/0", null)],
    [row("1", "1", null, null)],
  ];
  for (const rows of wrong) assert.raises(() => parseIdentifySystem(rows), ProtocolError);
});

const SETTINGS: [string, string][] = [
  ["server_version_num", "150018"],
  ["wal_segment_size", "64MB"],
  ["block_size", "8192"],
  ["wal_block_size", "8192"],
  ["data_checksums", "off"],
  ["wal_level", "logical"],
  ["full_page_writes", "off"],
  ["wal_log_hints", "on"],
  ["in_hot_standby", "on"],
  ["wal_sender_timeout", "1500ms"],
];

test("parseServerFacts() reads settings as SHOW tells them", () => {
  const facts = parseServerFacts(new Map(SETTINGS));
  assert.is(facts.profile.major, 15);
  assert.equal(
    [
      facts.walSegmentSize,
      facts.dataChecksums,
      facts.walLogHints,
      facts.inRecovery,
      facts.walSenderTimeoutMs,
    ],
    [64 * 2 ** 20, false, true, true, 1500],
  );
  for (const [name] of SETTINGS) {
    assert.raises(() => parseServerFacts(new Map([...SETTINGS, [name, ""]])), ProtocolError, name);
  }
  assert.raises(
    () => parseServerFacts(new Map([...SETTINGS, ["server_version_num", "130004"]])),
    UnsupportedError,
  );
  assert.equal(["8kB", "1GB", "5", "1XB", "-1", "constructor"].map(parseBytes), [
    8192,
    2 ** 30,
    5,
    undefined,
    undefined,
    undefined,
  ]);
  assert.equal(["0", "1min", "2h", "3d", "7s"].map(parseMilliseconds), [
    0,
    60_000,
    7_200_000,
    259_200_000,
    7000,
  ]);
});

test("checkServerUsable() and checkServerMatches() name what differs", () => {
  const facts = parseServerFacts(new Map(SETTINGS));
  checkServerUsable(facts, "here");
  assert.raises(() => checkServerUsable({ ...facts, blockSize: 16384 }, "here"), UnsupportedError);
  assert.raises(() => checkServerUsable({ ...facts, walBlockSize: 16384 }, "here"), UnsupportedError);
  assert.raises(() => checkServerUsable({ ...facts, walSegmentSize: 3 * 2 ** 20 }, "here"), UnsupportedError);
  const minimal = assert.raises<MismatchError>(
    () => checkServerUsable({ ...facts, walLevel: "minimal" }, "here"),
    MismatchError,
  );
  assert.match(minimal.hint!, "wal_level = replica");
  const identity = { systemId: 5n, tli: 1, xlogPos: lsn(1), dbName: null };
  const recorded = { systemId: 5n, major: 15, walSegmentSize: 64 * 2 ** 20, blockSize: 8192 };
  checkServerMatches(identity, facts, recorded, "here");
  for (const change of [{ systemId: 6n }, { major: 16 }, { walSegmentSize: 2 ** 24 }, { blockSize: 4096 }]) {
    const error = assert.raises<MismatchError>(
      () => checkServerMatches(identity, facts, { ...recorded, ...change }, "here"),
      MismatchError,
    );
    assert.match(error.message, `expected ${Object.values(change)[0]}, got`);
  }
});

test("nextOn() stays on the history, and refuses what has diverged", () => {
  const history = parseTimelineHistory("1\t0/3000000\ta\n2\t0/5000000\tb\n4\t0/5000000\tc\n", 7);
  assert.is(nextOn(history, 1, lsn(0x2ff_ffff), "here"), 1);
  assert.is(nextOn(history, 1, lsn(0x3000000), "here"), 2);
  assert.is(nextOn(history, 2, lsn(0x5000000), "here"), 7, "through a timeline without WAL of its own");
  assert.is(nextOn(history, 7, lsn(0x9000000), "here"), 7);
  assert.raises(() => nextOn(history, 1, lsn(0x3000001), "here"), MismatchError);
  assert.raises(() => nextOn(history, 3, lsn(0x3000000), "here"), MismatchError);
});

test("parseReplicationMessage() reads heads of messages", () => {
  const message = new Uint8Array(30);
  message[0] = 0x77;
  const view = new DataView(message.buffer);
  view.setBigUint64(1, 0x16_0000_0028n);
  view.setBigUint64(9, 0x17_0000_0000n);
  view.setBigInt64(17, -1500n);
  assert.equal(parseReplicationMessage(message), {
    kind: "wal",
    startLsn: 0x16_0000_0028 as never,
    walEnd: 0x17_0000_0000 as never,
    sentAtMs: 946_684_800_000 - 1.5,
  });
  const keepalive = message.slice(0, 18);
  keepalive[0] = 0x6b;
  keepalive[17] = 1;
  const read = parseReplicationMessage(keepalive);
  assert.ok(read.kind === "keepalive" && read.replyRequested && read.walEnd === 0x16_0000_0028 as never);
});

test("base backup messages and rows are read, or refused", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  assert.equal(parseBackupMessage(bytes("nbase.tar\0\0")), { kind: "archive", name: "base.tar", path: "" });
  assert.equal(parseBackupMessage(bytes("n16384.tar\0/spc\0")), {
    kind: "archive",
    name: "16384.tar",
    path: "/spc",
  });
  assert.is(parseBackupMessage(bytes("m")).kind, "manifest");
  assert.is(parseBackupMessage(bytes("p12345678")).kind, "progress");
  const data = parseBackupMessage(bytes("dxyz"));
  assert.ok(data.kind === "data" && data.data.length === 3);
  for (const wrong of ["", "x", "nbase.tar", "n\0\0\0"]) {
    assert.raises(() => parseBackupMessage(bytes(wrong)), ProtocolError);
  }
  assert.equal(["base.tar", "16384.tar"].map(archiveOid), [null, 16384]);
  for (const wrong of ["x.tar", "../1.tar", "99999999999.tar", "base.tar.gz"]) {
    assert.raises(() => archiveOid(wrong), ProtocolError);
  }
  assert.equal(parsePosition(row("0/2000028", "3")), { lsn: lsn(0x2000028), tli: 3 });
  for (const wrong of [undefined, row("x", "1"), row("0/0", "0"), row("0/0")]) {
    assert.raises(() => parsePosition(wrong), ProtocolError);
  }
  assert.equal(parseTablespace(row("16384", "/spc", "12")), {
    oid: 16384,
    path: "/spc",
    estimatedSize: 12288,
  });
  assert.equal(parseTablespace(row(null, null, null)), { oid: null, path: null, estimatedSize: 0 });
  for (
    const wrong of [
      row("1", null, "1"),
      row(null, "/x", "1"),
      row("x", "/x", "1"),
      row("1", "/x"),
      row("1", "/x", "-1"),
    ]
  ) {
    assert.raises(() => parseTablespace(wrong), ProtocolError);
  }
});

test.run();
