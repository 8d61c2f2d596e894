/**
 * The newest value of each key of a family: what listing relations, databases or files of a moment needs.
 *
 * Read path, inside fetch. Sources may be added in any order; the greatest LSN wins, and of equal ones the first.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import type { FloorSegment } from "../layer/image_floors.ts";
import { compareSpaces, type KeySpace, VALUE_DROPPED, VALUE_KIND_MASK } from "../layer/key.ts";
import type { DecodedBlock } from "../layer/layer_block.ts";
import type { MemoryLayer } from "../layer/memory_layer.ts";

interface Newest {
  space: KeySpace;
  block: number;
  lsn: Lsn;
  flags: number;
  bytes: Uint8Array;
}

/** The newest value of a key. */
export interface NewestValue {
  space: KeySpace;
  block: number;
  bytes: Uint8Array;
  /** The key was dropped by then; sizes keep their high-water mark. */
  dropped: boolean;
}

/** See the module's description. */
export class NewestValues {
  readonly #newest = new Map<string, Newest>();

  /** Takes the versions of a space in a memory layer that are at or below `lsn`. */
  addMemory(memory: MemoryLayer, id: number, space: KeySpace, lsn: Lsn): void {
    memory.forEachBlock(id, (block) => {
      memory.forEachVersion(id, block, (entry) => {
        if (entry.lsn > lsn) return;
        this.#offer(space, block, entry.lsn, entry.flags, entry.bytes, entry.offset, entry.length);
      });
    });
  }

  /**
   * Takes the entries of a family in a block of a layer file that are at or below `lsn`.
   *
   * @param floors Of the family's keys, ascending. What an image lacks is gone: entries below its floor do not count.
   */
  addBlock(decoded: DecodedBlock, family: number, lsn: Lsn, floors: readonly FloorSegment[]): void {
    let segment = 0;
    for (let entry = 0; entry < decoded.count; entry++) {
      if (decoded.lsns[entry] > lsn) continue;
      const space = decoded.spaceAt(decoded.spaceOf(entry));
      if (space.family !== family) continue;
      while (segment + 1 < floors.length && isBehind(space, decoded.blocks[entry], floors[segment])) {
        segment++;
      }
      if (decoded.lsns[entry] < floors[segment].floor) continue;
      this.#offer(
        space,
        decoded.blocks[entry],
        decoded.lsns[entry] as Lsn,
        decoded.flags[entry],
        decoded.bytes,
        decoded.valueOffsets[entry],
        decoded.valueLengths[entry],
      );
    }
  }

  /** What was found, in key order; bytes are copies. */
  sorted(): NewestValue[] {
    return [...this.#newest.values()]
      .sort((left, right) => compareSpaces(left.space, right.space) || left.block - right.block)
      .map(({ space, block, bytes, flags }) => ({
        space,
        block,
        bytes,
        dropped: (flags & VALUE_KIND_MASK) === VALUE_DROPPED,
      }));
  }

  #offer(
    space: KeySpace,
    block: number,
    lsn: Lsn,
    flags: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const key = `${space.a}/${space.b}/${space.c}/${space.d}/${block}`;
    const known = this.#newest.get(key);
    if (known !== undefined && known.lsn >= lsn) return;
    this.#newest.set(key, { space, block, lsn, flags, bytes: bytes.slice(offset, offset + length) });
  }
}

/** Whether a key lies behind a segment's last one. */
function isBehind(space: KeySpace, block: number, { keyMax }: FloorSegment): boolean {
  return (compareSpaces(space, keyMax) || block - keyMax.block) > 0;
}
