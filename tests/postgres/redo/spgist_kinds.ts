/**
 * The cases that SP-GiST redo tells apart, as the main data of a record names them.
 *
 * @module
 */
import { getU16 } from "../../../src/bytes/little_endian.ts";
import { fullRecordTypeName } from "../../../src/postgres/wal/describe.ts";
import type { DecodedRecord } from "../../../src/postgres/wal/record.ts";

/** A block reference's case, for example `PICKSPLIT 2 new`. */
export function spgistKind(record: DecodedRecord, index: number): string {
  const name = fullRecordTypeName(record.profile, record.rmid, record.info).replace("SPGist/", "");
  if (index < 0) return name;
  const id = record.blockId[index];
  const variant = (VARIANTS[name] ?? (() => []))(record, id).map((word) => ` ${word}`).join("");
  return `${name} ${id}${variant}`;
}

const VARIANTS: Record<string, (record: DecodedRecord, id: number) => string[]> = {
  ADD_LEAF: (record, id) => {
    if (id !== 0) return [];
    const [leaf, head] = [u16At(record, 2), u16At(record, 4)];
    return [
      ...when(flagAt(record, 0), "new"),
      ...when(leaf === head, "dead"),
      ...when(leaf !== head && head !== 0, "chained"),
      ...when(flagAt(record, 1), "nulls"),
    ];
  },
  MOVE_LEAFS: (record, id) => [
    ...when(id === 1 && flagAt(record, 2), "new"),
    ...when(id < 2 && flagAt(record, 3), "dead"),
    ...when(flagAt(record, 4), "nulls"),
  ],
  ADD_NODE: (record, id) => {
    if (record.blockCount === 1) return ["in place"];
    const parent = record.bytes[record.mainOffset + 5];
    return [...when(id === 1 && flagAt(record, 4), "new"), ...when(parent === id, "parent")];
  },
  SPLIT_TUPLE: (record, id) => [
    ...when(id === 0 && flagAt(record, 5), "both"),
    ...when(id === 1 && flagAt(record, 4), "new"),
  ],
  PICKSPLIT: (record, id) => [
    ...when(
      id === 0 && flagAt(record, 6) || id === 1 && flagAt(record, 7) || id === 2 && flagAt(record, 10),
      "new",
    ),
    ...when(id === 2 && flagAt(record, 0), "root"),
    ...when(id === 2 && flagAt(record, 12), "parent"),
    ...when(flagAt(record, 11), "nulls"),
  ],
  VACUUM_LEAF: (record) =>
    ["dead", "placeholders", "moves", "links"].filter((_, field) => u16At(record, field * 2) > 0),
  VACUUM_REDIRECT: (record) => [
    ...when(u16At(record, 0) > 0, "redirections"),
    ...when(u16At(record, 2) > 0, "placeholders"),
  ],
};

function when(condition: boolean, word: string): string[] {
  return condition ? [word] : [];
}

function flagAt(record: DecodedRecord, offset: number): boolean {
  return record.bytes[record.mainOffset + offset] !== 0;
}

function u16At(record: DecodedRecord, offset: number): number {
  return getU16(record.bytes, record.mainOffset + offset);
}
