/**
 * Lets a server at rest go on at a later transaction id, as pg_resetwal does: the shutdown checkpoint that it begins from
 * is changed where it stands, in WAL and in pg_control.
 *
 * @module
 */
import { walRecordCrc } from "../../src/bytes/crc32c.ts";
import { setU32, setU64 } from "../../src/bytes/little_endian.ts";
import { XLOG_BLCKSZ } from "../../src/lsn.ts";
import {
  CONTROL_FILE_PATH,
  parseControlFile,
  patchControlFile,
} from "../../src/postgres/files/control_file.ts";
import {
  SLRU_PAGES_PER_SEGMENT,
  SLRU_XACT,
  slruPageOf,
  slruSegmentOf,
  slruSegmentPath,
} from "../../src/postgres/page/slru.ts";
import { profileOfMajor } from "../../src/postgres/versions/all.ts";
import { segmentFileName, segmentNumber } from "../../src/postgres/wal/segment.ts";
import type { Cluster } from "./postgres.ts";

/** Header of a record, and of main data shorter than 256 bytes. */
const CHECKPOINT_AT = 24 + 2;
const SIZE_OF_CHECKPOINT = 88;
/** `nextXid` in a CheckPoint. */
const NEXT_XID_AT = 24;

/** The transactions in between never ran; all of them must lie on the pages of the first segment of pg_xact. */
export async function setNextXid(cluster: Cluster, nextXid: number): Promise<void> {
  const profile = profileOfMajor(cluster.major);
  const controlPath = `${cluster.dataDir}/${CONTROL_FILE_PATH}`;
  const control = await Deno.readFile(controlPath);
  const { checkPoint, checkPointCopy, walSegmentSize } = parseControlFile(control, profile);

  const segment = segmentFileName(1, segmentNumber(checkPoint, walSegmentSize), walSegmentSize);
  const walPath = `${cluster.dataDir}/pg_wal/${segment}`;
  const wal = await Deno.readFile(walPath);
  const at = checkPoint % walSegmentSize;
  const length = CHECKPOINT_AT + SIZE_OF_CHECKPOINT;
  if (at % XLOG_BLCKSZ + length > XLOG_BLCKSZ) {
    throw new Error("Cannot change the checkpoint: its record goes on on another page");
  }
  const record = new Uint8Array((length + 7) & ~7);
  record.set(wal.subarray(at, at + length));
  setU64(record, CHECKPOINT_AT + NEXT_XID_AT, nextXid);
  setU32(record, 20, walRecordCrc(record, new Int32Array(record.buffer), 0, length));
  wal.set(record.subarray(0, length), at);
  await Deno.writeFile(walPath, wal);

  const changed = patchControlFile(control, { checkPointCopy: { ...checkPointCopy, nextXid } }, profile);
  await Deno.writeFile(controlPath, changed);

  const page = slruPageOf(SLRU_XACT, nextXid - 1);
  if (page >= SLRU_PAGES_PER_SEGMENT) throw new RangeError(`Cannot go on at transaction ${nextXid}: too far`);
  const xactPath = `${cluster.dataDir}/${slruSegmentPath(SLRU_XACT, slruSegmentOf(page))}`;
  await Deno.truncate(xactPath, (page + 1) * 8192);
}
