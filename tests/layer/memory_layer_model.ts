/** A model of the memory layer: plain arrays. And random modifications to feed both. */
import { endsChain, VALUE_FROM_ZERO, VALUE_RAW, VALUE_RECORD } from "../../src/layer/key.ts";
import { type Modification, ModificationBuilder } from "../../src/layer/modification.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { SeededRandom } from "../support/random.ts";

export interface ModelValue {
  space: number;
  block: number;
  lsn: number;
  flags: number;
}

/** What a memory layer must answer. */
export class KeySpaceModel {
  readonly #values: ModelValue[] = [];

  add(values: ModelValue[]): void {
    this.#values.push(...values);
  }

  collect(space: number, block: number, lsn: number): { lsns: number[]; ended: boolean } {
    const lsns: number[] = [];
    for (const value of this.#values.toReversed()) {
      if (value.space !== space || value.block !== block || value.lsn > lsn) continue;
      lsns.push(value.lsn);
      if (endsChain(value.flags)) return { lsns, ended: true };
    }
    return { lsns, ended: false };
  }

  /** Each LSN once, ascending. */
  lsnsOf(space: number, block: number): number[] {
    return [
      ...new Set(
        this.#values.filter((value) => value.space === space && value.block === block).map((value) =>
          value.lsn
        ),
      ),
    ];
  }
}

/** A modification of up to 40 records after `lsn`, some of whose values share key and LSN. */
export function randomModification(
  random: SeededRandom,
  lsn: number,
): { modification: Modification; values: ModelValue[] } {
  const builder = new ModificationBuilder(new Uint8Array(1000), 4);
  const values: ModelValue[] = [];
  const records = 1 + random.uint32() % 40;
  let end = lsn;
  for (let record = 0; record < records; record++) {
    end += 8 * (1 + random.uint32() % 20);
    for (let entry = random.uint32() % 4; entry > 0; entry--) {
      const value = {
        space: random.uint32() % 4,
        block: [0, 1, 127, 128, 129, 100_000][random.uint32() % 6],
        lsn: end,
        flags: [VALUE_RECORD, VALUE_RECORD, VALUE_RECORD | VALUE_FROM_ZERO, VALUE_RAW][random.uint32() % 4],
      };
      values.push(value);
      builder.addRange(value.space, value.block, value.lsn, value.flags, random.uint32() % 900, 100, 0);
    }
  }
  return { modification: builder.build(end as Lsn, 1, true, records, end - lsn), values };
}
