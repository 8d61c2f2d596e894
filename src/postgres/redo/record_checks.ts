/**
 * Checks that redo makes on a record before it reads the record's parts.
 *
 * Read path, inside replay. The record's cursor promises only that its parts lie inside the record; that a part is as
 * long as the opcode needs is checked here, once per use, and anything else is a {@linkcode CorruptionError}.
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";
import type { DecodedRecord } from "../wal/record.ts";
import { rmgrName } from "../wal/rmgr.ts";

/** The error for a record that does not hold what its opcode promises, or does not fit its page. */
export function corruptRecord(
  record: DecodedRecord,
  what: string,
  expected?: string | number,
  got?: string | number,
): CorruptionError {
  return new CorruptionError(
    `Cannot replay ${rmgrName(record.rmid)} record with info 0x${record.opInfo.toString(16)}: ${what}`,
    { lsn: record.endLsn, expected, got },
  );
}

/**
 * Where the main data starts, after checking that it has at least `length` bytes.
 *
 * @throws {CorruptionError} If it is shorter.
 */
export function checkedMain(record: DecodedRecord, length: number): number {
  if (record.mainLength < length) {
    throw corruptRecord(record, "main data is too short", `at least ${length}`, record.mainLength);
  }
  return record.mainOffset;
}

/**
 * Where the data of the block reference at position `index` starts, after checking that it has at least `length` bytes.
 *
 * @throws {CorruptionError} If it is shorter.
 */
export function checkedData(record: DecodedRecord, index: number, length: number): number {
  if (record.dataLength[index] < length) {
    throw corruptRecord(
      record,
      `data of block reference ${record.blockId[index]} is too short`,
      `at least ${length}`,
      record.dataLength[index],
    );
  }
  return record.dataOffset[index];
}

/**
 * The id of the block reference at position `index`, which redo switches on.
 *
 * @throws {CorruptionError} If the record has no such reference.
 */
export function checkedBlockId(record: DecodedRecord, index: number): number {
  if (index < 0 || index >= record.blockCount) {
    throw corruptRecord(record, "no such block reference", `0..${record.blockCount - 1}`, index);
  }
  return record.blockId[index];
}

/** The error for a block reference that the opcode never has. */
export function unexpectedBlock(record: DecodedRecord, id: number): CorruptionError {
  return corruptRecord(record, `unexpected block reference ${id}`);
}

/**
 * Block number of the reference with this id.
 *
 * @throws {CorruptionError} If the record has none.
 */
export function blockNumberOf(record: DecodedRecord, id: number): number {
  const index = record.findBlock(id);
  if (index < 0) throw corruptRecord(record, `block reference ${id} is missing`);
  return record.blockNumber[index];
}
