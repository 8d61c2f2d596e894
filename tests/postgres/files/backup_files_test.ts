/** Files that come with a base backup: label, tablespace map, manifest. */
import { CorruptionError, UnsupportedError } from "../../../src/errors.ts";
import { parseBackupLabel } from "../../../src/postgres/files/backup_label.ts";
import {
  formatCrc32c,
  parseBackupManifest,
  splitManifestChecksum,
} from "../../../src/postgres/files/backup_manifest.ts";
import { formatTablespaceMap, parseTablespaceMap } from "../../../src/postgres/files/tablespace_map.ts";
import { assert, suite } from "../../support/harness.ts";

const test = suite("files/backup");

const encode = (text: string) => new TextEncoder().encode(text);

const LABEL = `START WAL LOCATION: 12/FF000028 (file 0000000A00000012000000FF)
CHECKPOINT LOCATION: 12/FF000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2024-05-01 10:00:00 UTC
LABEL: START TIMELINE: 99 and more: text
START TIMELINE: 10
`;

test("parseBackupLabel() reads every line", () => {
  assert.equal(parseBackupLabel(encode(LABEL)), {
    startLsn: 0x12 * 2 ** 32 + 0xff000028,
    startSegment: "0000000A00000012000000FF",
    checkpointLsn: 0x12 * 2 ** 32 + 0xff000060,
    startTli: 10,
    method: "streamed",
    fromStandby: true,
    startTime: "2024-05-01 10:00:00 UTC",
    label: "START TIMELINE: 99 and more: text",
  });
});

test("parseBackupLabel() needs the first two lines only", () => {
  const label = parseBackupLabel(encode(LABEL.split("\n").slice(0, 2).join("\n") + "\n"));
  assert.equal([label.method, label.fromStandby, label.label, label.startTli], ["", false, "", 10]);
});

test("parseBackupLabel() refuses what PostgreSQL refuses", () => {
  const broken = [
    "",
    LABEL.replace("START WAL", "START"),
    LABEL.replace("CHECKPOINT LOCATION: 12", "CHECKPOINT LOCATION: x"),
    LABEL.replace(" (file 0000000A00000012000000FF)", ""),
    LABEL.replace("START TIMELINE: 10", "START TIMELINE: 11"),
    LABEL.replace("12/FF000028", "FFFFFFFF/0"),
  ];
  for (const text of broken) assert.raises(() => parseBackupLabel(encode(text)), CorruptionError);
  const incremental = LABEL + "INCREMENTAL FROM LSN: 0/1000028\n";
  const error = assert.raises(() => parseBackupLabel(encode(incremental)), UnsupportedError);
  assert.match(error.hint ?? "", "pg_combinebackup");
});

test("parseTablespaceMap() and formatTablespaceMap() are inverses, with strange paths too", () => {
  const map = new Map([[16384, "/srv/space"], [4294967295, " leading and\ntwo lines, a \\ and a \r"], [
    1,
    "ä",
  ]]);
  assert.equal(parseTablespaceMap(encode(formatTablespaceMap(map))), map);
  assert.equal(
    parseTablespaceMap(encode("16384 /a\r\n16385 /b\r\n")),
    new Map([[16384, "/a"], [16385, "/b"]]),
  );
  assert.equal(parseTablespaceMap(encode("")), new Map());
  for (
    const text of [
      "16384 /a",
      "16384\n",
      "16384 \n",
      "x /a\n",
      "0 /a\n",
      "4294967296 /a\n",
      "1 /a\\",
      "-1 /a\n",
    ]
  ) {
    assert.raises(() => parseTablespaceMap(encode(text)), CorruptionError, text);
  }
});

function manifest(change: (text: string) => string = (text) => text): Uint8Array {
  const head = `{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7711025841440774759,
"Files": [
{ "Path": "backup_label", "Size": 227, "Last-Modified": "2024-05-01 10:00:00 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "0A1b2c3d" },
{ "Encoded-Path": "6261FF", "Size": 0, "Last-Modified": "2024-05-01 10:00:00 GMT" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "1/2000100" }
],
`;
  return encode(change(head + `"Manifest-Checksum": "${"Ab".repeat(32)}"}\n`));
}

test("parseBackupManifest() reads files and WAL ranges", () => {
  const parsed = parseBackupManifest(manifest());
  assert.equal(parsed, {
    version: 2,
    systemIdentifier: 7711025841440774759n,
    files: [
      { path: "backup_label", size: 227, checksumAlgorithm: "CRC32C", checksum: "0a1b2c3d" },
      { path: "ba\ufffd", size: 0, checksumAlgorithm: "NONE", checksum: "" },
    ],
    walRanges: [{ tli: 1, startLsn: 0x2000028, endLsn: 2 ** 32 + 0x2000100 }],
    manifestChecksum: "ab".repeat(32),
  });
  const { hashed, checksum } = splitManifestChecksum(manifest());
  assert.ok(new TextDecoder().decode(hashed).endsWith("],\n"));
  assert.is(checksum, parsed.manifestChecksum);
});

test("parseBackupManifest() refuses what is no manifest", () => {
  const changes: [RegExp, string][] = [
    [/"Size": 227/, '"Size": -1'],
    [/"Size": 227/, '"Size": "227"'],
    [/"Path": "backup_label", /, ""],
    [/"0A1b2c3d"/, '"0A1b2c3"'],
    [/"0A1b2c3d"/, '"0A1b2c3g"'],
    [/CRC32C/, "MD5"],
    [/CRC32C/, "toString"],
    [/"6261FF"/, '"6261F"'],
    [/"Start-LSN": "0\/2000028"/, '"Start-LSN": 5'],
    [/"Timeline": 1/, '"Timeline": 1.5'],
    [/"Files": \[/, '"Files": ['.repeat(2)],
    [/"System-Identifier": \d+,/, ""],
    [/\n$/, ""],
    [/(Ab){32}/, "Ab"],
    [/\]/, ""],
  ];
  for (const [pattern, replacement] of changes) {
    const bytes = manifest((text) => text.replace(pattern, replacement));
    assert.raises(() => parseBackupManifest(bytes), CorruptionError, `${pattern}`);
  }
  assert.raises(
    () => parseBackupManifest(manifest((text) => text.replace('Version": 2', 'Version": 3'))),
    UnsupportedError,
  );
  assert.raises(() => parseBackupManifest(new Uint8Array(0)), CorruptionError);
});

test("formatCrc32c() writes the bytes as they lie in memory", () => {
  assert.is(formatCrc32c(0x12345678), "78563412");
  assert.is(formatCrc32c(0xff), "ff000000");
});

test.run();
