/**
 * Damaged input: whatever bytes come, effects, SLRU redo and the parsers of files throw CorruptionError or
 * UnsupportedError or do their work; nothing else, and never for long.
 */
import { crc32c } from "../../../src/bytes/crc32c.ts";
import { setU32 } from "../../../src/bytes/little_endian.ts";
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import type { Lsn } from "../../../src/lsn.ts";
import {
  ClusterState,
  decodeClusterState,
  encodeClusterState,
} from "../../../src/postgres/effects/cluster_state.ts";
import type { EffectSink } from "../../../src/postgres/effects/effect_sink.ts";
import { applyEffects } from "../../../src/postgres/effects/effects.ts";
import { parseBackupLabel } from "../../../src/postgres/files/backup_label.ts";
import { parseBackupManifest } from "../../../src/postgres/files/backup_manifest.ts";
import { parseControlFile } from "../../../src/postgres/files/control_file.ts";
import { parseRelationMap } from "../../../src/postgres/files/relmap.ts";
import {
  encodeReplicationOrigins,
  parseReplicationOrigins,
} from "../../../src/postgres/files/replication_origins.ts";
import { parseTablespaceMap } from "../../../src/postgres/files/tablespace_map.ts";
import { decodeTwoPhaseFile } from "../../../src/postgres/files/two_phase.ts";
import { type SlruKind, slruMaxPage } from "../../../src/postgres/page/slru.ts";
import { redoSlruPage } from "../../../src/postgres/redo/slru.ts";
import { ALL_PROFILES } from "../../../src/postgres/versions/all.ts";
import { pg17 } from "../../../src/postgres/versions/pg17.ts";
import { DecodedRecord } from "../../../src/postgres/wal/record.ts";
import { RM_MULTIXACT_ID, RM_XACT_ID } from "../../../src/postgres/wal/rmgr.ts";
import { assert, suite } from "../../support/harness.ts";
import { type SeededRandom, seededRandom } from "../../support/random.ts";
import { Bytes, makeRecord, recordBytes } from "./record_builder.ts";

const test = suite("effects/mutations");

/** A sink that checks what it may be told: numbers that can be keys. */
class CheckingSink {
  calls = 0;
  problem = "";
  readonly sink: EffectSink = new Proxy({} as EffectSink, {
    get: (_target, name) => (...values: unknown[]) => {
      this.calls++;
      // Times may be anything; they are rounded beyond 285 years from 2000.
      for (const value of name === "transactionEnd" || name === "restorePoint" ? [] : values) {
        if (typeof value === "number" && !Number.isSafeInteger(value)) {
          this.problem = `${String(name)} got ${value}`;
        }
      }
      if (name === "touchSlruPage" || name === "zeroSlruPage") {
        const [kind, pageno] = values as [SlruKind, number];
        if (pageno < 0 || pageno > slruMaxPage(kind)) {
          this.problem = `${String(name)} got page ${pageno} of kind ${kind}`;
        }
      }
    },
  });
}

/** Runs it; true when it threw one of the two errors that may come. Another error ends the test. */
function refuses(run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch (error) {
    if (error instanceof CorruptionError || error instanceof UnsupportedError) return true;
    throw error;
  }
}

/** Small numbers and great ones: what counts, ids and offsets look like, and what they must not. */
function randomMain(random: SeededRandom): Uint8Array {
  const words = random.int(0, 30);
  const main = new Bytes();
  for (let index = 0; index < words; index++) {
    main.u32(random.weighted([
      [5, random.int(0, 8)],
      [2, random.uint32()],
      [2, random.int(0, 100_000)],
      [1, 0xffff_ffff - random.int(0, 5)],
      [1, 1 << random.int(0, 31) >>> 0],
    ]));
  }
  const bytes = main.done();
  return bytes.subarray(0, Math.max(0, bytes.length - random.int(0, 4)));
}

test("applyEffects() survives 100,000 random records of every manager and major", () => {
  const random = seededRandom("effects/mutations records");
  const checking = new CheckingSink();
  let refused = 0;
  let state = new ClusterState();
  for (let round = 0; round < 100_000; round++) {
    if (round % 1000 === 0) state = new ClusterState();
    state.trackCommitTimestamp = random.chance(0.5);
    const record = makeRecord(random.pick(ALL_PROFILES), {
      rmid: random.weighted([[30, random.int(0, 21)], [10, RM_XACT_ID], [5, RM_MULTIXACT_ID], [
        1,
        random.int(0, 255),
      ]]),
      info: random.int(0, 15) << 4,
      xid: random.int(0, 5000),
      originId: random.chance(0.2) ? random.int(0, 0xffff) : 0,
      main: randomMain(random),
    });
    if (refuses(() => applyEffects(record, state, checking.sink))) refused++;
    if (checking.problem !== "") assert.unreachable(`round ${round}: ${checking.problem}`);
  }
  console.log(`${refused} of 100,000 refused, ${checking.calls} effects`);
  assert.ok(refused > 25_000 && refused < 90_000 && checking.calls > 10_000);
});

test("redoSlruPage() survives 100,000 random records, and stays on its page", () => {
  const random = seededRandom("effects/mutations redo");
  // The page lies between two others; none of those may change.
  const arena = new Uint8Array(3 * 8192).fill(0xa5);
  const page = arena.subarray(8192, 2 * 8192);
  let done = 0;
  for (let round = 0; round < 100_000; round++) {
    const isXact = random.chance(0.5);
    const kind: SlruKind = isXact ? random.pick([0, 3]) : random.pick([1, 2]);
    const record = makeRecord(random.pick(ALL_PROFILES), {
      rmid: isXact ? RM_XACT_ID : RM_MULTIXACT_ID,
      info: isXact ? random.pick([0x00, 0x20, 0x30, 0x40, 0x80, 0xa0, 0xb0, 0xc0]) : 0x20,
      xid: random.uint32(),
      main: randomMain(random),
    });
    const pageno = random.pick([0, 1, slruMaxPage(kind)]);
    if (!refuses(() => redoSlruPage(page, kind, pageno, record))) done++;
  }
  assert.ok(done > 10_000, `${done} replayed`);
  assert.ok(arena.subarray(0, 8192).every((byte) => byte === 0xa5));
  assert.ok(arena.subarray(2 * 8192).every((byte) => byte === 0xa5));
});

test("a commit record cut off anywhere, or with any bit turned, is refused or read", () => {
  const main = new Bytes().u64(800_000_000_000_000).u32(0x1bf).u32(5, 1663).u32(2, 101, 102).u32(
    1,
    1663,
    5,
    16_384,
  );
  main.u32(1).zeros(12).u32(1).zeros(16).u32(77).text("gid").u8(0).u64(5).u64(6);
  const whole = recordBytes({ rmid: RM_XACT_ID, info: 0xb0, xid: 100, originId: 1, main });
  const record = new DecodedRecord(pg17);
  const checking = new CheckingSink();
  const apply = (bytes: Uint8Array) =>
    refuses(() => {
      record.decode(bytes, 0, 1000 as Lsn);
      applyEffects(record, new ClusterState(), checking.sink);
    });
  assert.not(apply(whole));
  // Lengths in the header follow, so that what is missing is for the record's own parser to notice.
  const mainLength = main.done().length;
  for (let length = 0; length < mainLength; length++) {
    const cut = recordBytes({
      rmid: RM_XACT_ID,
      info: 0xb0,
      xid: 100,
      originId: 1,
      main: main.done().subarray(0, length),
    });
    assert.ok(apply(cut), `cut to ${length} bytes`);
  }
  let refused = 0;
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const turned = whole.slice();
    turned[bit >> 3] ^= 1 << (bit & 7);
    if (apply(turned)) refused++;
  }
  assert.is(checking.problem, "");
  assert.ok(refused > 0);
});

/** A control file of 17 with a right CRC. */
function controlFile(): Uint8Array {
  const bytes = new Uint8Array(8192);
  const fields: [number, number][] = [[8, 1700], [12, 202406281], [16, 1], [40, 100], [48, 1], [64, 800], [
    204,
    8,
  ], [216, 8192]];
  for (const [offset, value] of [...fields, [220, 131072], [224, 8192], [228, 16777216]]) {
    setU32(bytes, offset, value);
  }
  setU32(bytes, 288, crc32c(bytes, 0, 288));
  return bytes;
}

function relationMap(): Uint8Array {
  const bytes = new Uint8Array(524);
  for (const [offset, value] of [[0, 0x592717], [4, 2], [8, 1262], [12, 1262], [16, 1259], [20, 16_384]]) {
    setU32(bytes, offset, value);
  }
  setU32(bytes, 520, crc32c(bytes, 0, 520));
  return bytes;
}

function twoPhaseFile(): Uint8Array {
  const content = new Bytes().u32(0x57f94534, 92, 700, 5).u64(8e14).u32(10, 2).zeros(20).u8(0, 0).u16(4).u64(
    0,
  ).u64(0);
  const bytes = content.text("gid").u8(0).zeros(4).u32(701, 702).zeros(4).done();
  setU32(bytes, 88, crc32c(bytes, 0, 88));
  return bytes;
}

const text = (value: string) => new TextEncoder().encode(value);

/** Every parser of a file with something that it reads, and how to make the CRC right again, so that the rest is met. */
const PARSERS: {
  name: string;
  valid: Uint8Array;
  parse: (bytes: Uint8Array) => unknown;
  repair?: (bytes: Uint8Array) => void;
}[] = [
  {
    name: "parseControlFile()",
    valid: controlFile(),
    parse: (bytes) => ClusterState.fromControlFile(parseControlFile(bytes, pg17)),
    repair: (bytes) => setU32(bytes, 288, crc32c(bytes, 0, 288)),
  },
  {
    name: "parseRelationMap()",
    valid: relationMap(),
    parse: (bytes) => parseRelationMap(bytes, pg17),
    repair: (bytes) => setU32(bytes, 520, crc32c(bytes, 0, 520)),
  },
  {
    name: "decodeTwoPhaseFile()",
    valid: twoPhaseFile(),
    parse: (bytes) => decodeTwoPhaseFile(bytes, pg17),
    repair: (bytes) => setU32(bytes, 88, crc32c(bytes, 0, 88)),
  },
  {
    name: "parseReplicationOrigins()",
    valid: encodeReplicationOrigins(new Map([[1, 5n], [2, 0xffff_ffff_ffff_ffffn]])),
    parse: parseReplicationOrigins,
    repair: (bytes) => setU32(bytes, 36, crc32c(bytes, 0, 36)),
  },
  { name: "decodeClusterState()", valid: encodeClusterState(new ClusterState()), parse: decodeClusterState },
  {
    name: "parseBackupLabel()",
    valid: text(
      "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\nSTART TIMELINE: 1\n",
    ),
    parse: parseBackupLabel,
  },
  { name: "parseTablespaceMap()", valid: text("16384 /a\\\nb\n16385 /c\n"), parse: parseTablespaceMap },
  {
    name: "parseBackupManifest()",
    valid: text(
      `{ "PostgreSQL-Backup-Manifest-Version": 1,\n"Files": [\n{ "Path": "a", "Size": 1, "Checksum-Algorithm": "CRC32C", "Checksum": "00000000" }\n],\n` +
        `"WAL-Ranges": [\n{ "Timeline": 1, "Start-LSN": "0/1", "End-LSN": "0/2" }\n],\n"Manifest-Checksum": "${
          "00".repeat(32)
        }"}\n`,
    ),
    parse: parseBackupManifest,
  },
];

for (const { name, valid, parse, repair } of PARSERS) {
  test(`${name} refuses or reads files cut off anywhere and 20,000 random mutations`, () => {
    const random = seededRandom(`effects/mutations ${name}`);
    parse(valid);
    let refused = 0;
    for (let length = 0; length < valid.length; length++) {
      if (refuses(() => parse(valid.slice(0, length)))) refused++;
    }
    assert.ok(refused > 0);
    const used = Math.min(valid.length, 300);
    for (let round = 0; round < 20_000; round++) {
      const bytes = valid.slice();
      for (let count = random.int(1, 4); count > 0; count--) {
        bytes[random.int(0, used - 1)] = random.weighted([[3, random.int(0, 255)], [1, 0], [1, 0xff]]);
      }
      repair?.(bytes);
      if (refuses(() => parse(bytes))) refused++;
    }
    assert.ok(refused > 100, `${refused} refused`);
  });
}

test.run();
