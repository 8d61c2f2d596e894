/**
 * A memory layer's entries sorted by key and LSN, without comparing any.
 *
 * Write path, inside flush. Entries come in the order of WAL, each linked to the one before of its key. Following the
 * links of key after key waits for one cache miss after another; here every pass but one goes straight through memory,
 * and the loads of the one that does not are independent of each other.
 *
 * @module
 */

/** Blocks with entries, by space. */
export interface BlocksInOrder {
  /** For each space, in the order asked for: how many of `blocks` are its. */
  readonly blockCounts: Int32Array;
  /** Ascending in each space. */
  readonly blocks: Uint32Array;
  /** The newest entry of each. */
  readonly newest: Int32Array;
}

/** All entries, by space, block and LSN. */
export interface KeyOrder extends BlocksInOrder {
  /** Numbers of entries; of those with one key and LSN, the one that came last is the last. */
  readonly order: Int32Array;
  /** Where the entries of each block begin in `order`; one more than there are blocks. */
  readonly starts: Int32Array;
}

/**
 * Sorts `count` entries.
 *
 * @param entries `words` per entry, the first of them the entry before of the same key, or -1.
 */
export function keyOrder(entries: Int32Array, words: number, count: number, found: BlocksInOrder): KeyOrder {
  // Keys are numbered as they are met.
  const keyOf = new Int32Array(count);
  const sizes = new Int32Array(found.blocks.length);
  let keys = 0;
  for (let entry = 0, at = 0; entry < count; entry++, at += words) {
    const previous = entries[at];
    const key = previous < 0 ? keys++ : keyOf[previous];
    keyOf[entry] = key;
    sizes[key]++;
  }
  const { newest } = found;
  const starts = new Int32Array(newest.length + 1);
  const next = sizes;
  let start = 0;
  for (let index = 0; index < newest.length; index++) {
    const key = keyOf[newest[index]];
    starts[index] = start;
    start += sizes[key];
    next[key] = starts[index];
  }
  starts[newest.length] = start;
  const order = new Int32Array(count);
  for (let entry = 0; entry < count; entry++) order[next[keyOf[entry]]++] = entry;
  return { ...found, order, starts };
}
