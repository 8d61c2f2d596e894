/**
 * What changed between two LSNs: relations, and which of their blocks.
 *
 * Walks the layers that have values of that stretch, once, and notes every block that one of their values is for; sizes at
 * both ends say what was made, dropped, extended and cut. No page is read. A block counts as changed if a record named it,
 * even if its bytes are the same in the end.
 *
 * @module
 */
import type { Lsn } from "../lsn.ts";
import { FAMILY_RELATION, type Key, type KeySpace } from "../layer/key.ts";
import { scanLayer } from "../layer/layer_scan.ts";
import type { AttachedTimeline } from "../read/attach.ts";
import { layersOf } from "../read/page_walk.ts";

/** A fork that differs. */
export interface ForkChange {
  readonly space: KeySpace;
  /** Blocks that exist at the end and were written after the beginning. */
  readonly changed: BlockSet;
  /** Lengths at both ends; undefined: it does not exist then. */
  readonly blocksBefore: number | undefined;
  readonly blocksAfter: number | undefined;
}

export interface DiffOptions {
  /** Only this relation, all its forks. */
  readonly relation?: { readonly spc: number; readonly db: number; readonly rel: number };
  readonly signal?: AbortSignal;
}

/** A set of block numbers: one bit each. */
export class BlockSet {
  #bits = new Uint8Array(64);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(block: number): void {
    const at = block >>> 3;
    if (at >= this.#bits.length) {
      const larger = new Uint8Array(Math.max(this.#bits.length * 2, at + 1));
      larger.set(this.#bits);
      this.#bits = larger;
    }
    const bit = 1 << (block & 7);
    if ((this.#bits[at] & bit) !== 0) return;
    this.#bits[at] |= bit;
    this.#count++;
  }

  /** Leaves out blocks from `length` on. */
  cut(length: number): void {
    for (let block = length; block < this.#bits.length * 8; block++) {
      const bit = 1 << (block & 7);
      if ((this.#bits[block >>> 3] & bit) === 0) continue;
      this.#bits[block >>> 3] &= ~bit;
      this.#count--;
    }
  }

  /** Runs of neighbouring blocks, both ends included, ascending. */
  *runs(): Generator<[first: number, last: number]> {
    let first = -1;
    const end = this.#bits.length * 8;
    for (let block = 0; block <= end; block++) {
      const isIn = block < end && (this.#bits[block >>> 3] & (1 << (block & 7))) !== 0;
      if (isIn && first < 0) first = block;
      else if (!isIn && first >= 0) {
        yield [first, block - 1];
        first = -1;
      }
    }
  }
}

/**
 * What changed in `(from, to]`, in key order.
 *
 * @throws {LsnCollectedError | LsnNotReachedError} If either LSN cannot be read.
 * @throws {RangeError} If `to` is before `from`.
 */
export async function diffRelations(
  attached: AttachedTimeline,
  from: Lsn,
  to: Lsn,
  options: DiffOptions = {},
): Promise<ForkChange[]> {
  if (to < from) throw new RangeError("Cannot compare two LSNs: the second is before the first");
  const { relation, signal } = options;
  const isWanted = ({ a, b, c }: KeySpace) =>
    relation === undefined || (a === relation.spc && b === relation.db && c === relation.rel);
  const sizesAt = async (lsn: Lsn) =>
    new Map(
      (await attached.reader.listSizes(FAMILY_RELATION, lsn, { signal }))
        .filter(({ space }) => isWanted(space))
        .map(({ space, blocks }) => [nameOf(space), { space, blocks }]),
    );
  const before = await sizesAt(from);
  const after = await sizesAt(to);
  const changed = await collectBlocks(attached, from, to, options, isWanted);
  const changes: ForkChange[] = [];
  for (const name of new Set([...before.keys(), ...after.keys()])) {
    const space = (after.get(name) ?? before.get(name))!.space;
    const [blocksBefore, blocksAfter] = [before.get(name)?.blocks, after.get(name)?.blocks];
    const blocks = changed.get(name) ?? new BlockSet();
    blocks.cut(blocksAfter ?? 0);
    if (blocks.count > 0 || blocksBefore !== blocksAfter) {
      changes.push({ space, changed: blocks, blocksBefore, blocksAfter });
    }
  }
  return changes.sort(({ space: l }, { space: r }) => l.a - r.a || l.b - r.b || l.c - r.c || l.d - r.d);
}

function nameOf({ a, b, c, d }: KeySpace): string {
  return `${a}/${b}/${c}/${d}`;
}

/** Blocks with a value in `(from, to]`, by the name of their space. */
async function collectBlocks(
  attached: AttachedTimeline,
  from: Lsn,
  to: Lsn,
  { relation, signal }: DiffOptions,
  isWanted: (space: KeySpace) => boolean,
): Promise<Map<string, BlockSet>> {
  const { timeline } = attached;
  const found = new Map<string, BlockSet>();
  const setOf = (space: KeySpace) => {
    const name = nameOf(space);
    const set = found.get(name) ?? new BlockSet();
    found.set(name, set);
    return set;
  };
  const { spc = 0, db = 0, rel = 0 } = relation ?? {};
  const keyMin: Key = { family: FAMILY_RELATION, a: spc, b: db, c: rel, d: 0, block: 0 };
  const keyMax: Key = {
    family: FAMILY_RELATION,
    a: relation?.spc ?? 0xffff_ffff,
    b: relation?.db ?? 0xffff_ffff,
    c: relation?.rel ?? 0xffff_ffff,
    d: 0xff,
    block: 0xffff_ffff,
  };
  const view = timeline.view();
  for (const memory of view.memory) {
    for (const id of memory.sortedSpaces(timeline.spaces)) {
      const space = timeline.spaces.get(id);
      if (space.family !== FAMILY_RELATION || !isWanted(space)) continue;
      memory.forEachBlock(id, (block) =>
        memory.forEachVersion(id, block, ({ lsn }) => {
          if (lsn > from && lsn <= to) setOf(space).add(block);
        }));
    }
  }
  for (const { layer, source } of layersOf(attached.sources(to), keyMin, keyMax)) {
    // An image repeats what deltas say.
    if (layer.kind !== "delta" || layer.lsnEnd <= from) continue;
    const { source: file, index } = await source.opener.open(layer, signal);
    for await (const { block: decoded, first, end } of scanLayer(file, index, { keyMin, keyMax, signal })) {
      let space = -1;
      let set: BlockSet | undefined;
      for (let entry = first; entry < end; entry++) {
        const lsn = decoded.lsns[entry];
        if (lsn <= from || lsn > source.lsn) continue;
        const spaceAt = decoded.spaceOf(entry);
        if (spaceAt !== space) {
          space = spaceAt;
          const key = decoded.spaceAt(space);
          set = isWanted(key) ? setOf(key) : undefined;
        }
        set?.add(decoded.blocks[entry]);
      }
    }
  }
  return found;
}
