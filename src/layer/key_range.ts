/**
 * Ends and neighbours of keys: what it takes to cut the key space into ranges that touch and do not overlap.
 *
 * Upkeep and bulk reads. Keys sort as their 18 bytes do, so the key behind a key is that number plus one.
 *
 * @module
 */
import { compareKeys, decodeKey, encodeKey, type Key, KEY_SIZE, type KeySpace } from "./key.ts";

/** A range of keys. */
export interface KeyRange {
  readonly keyMin: Key;
  /** Inclusive. */
  readonly keyMax: Key;
}

/** The least key there can be. */
export const KEY_MIN: Key = { family: 0, a: 0, b: 0, c: 0, d: 0, block: 0 };
/** The greatest. */
export const KEY_MAX: Key = {
  family: 0xff,
  a: 0xffff_ffff,
  b: 0xffff_ffff,
  c: 0xffff_ffff,
  d: 0xff,
  block: 0xffff_ffff,
};

/** All keys of the families from `first` to `last`. */
export function familyRange(first: number, last: number = first): KeyRange {
  return { keyMin: { ...KEY_MIN, family: first }, keyMax: { ...KEY_MAX, family: last } };
}

/** The first key of a space, or one of its blocks. */
export function keyOf(space: KeySpace, block = 0): Key {
  const { family, a, b, c, d } = space;
  return { family, a, b, c, d, block };
}

/** The key behind a key; undefined behind the last. */
export function nextKey(key: Key): Key | undefined {
  if (key.block < 0xffff_ffff) return { ...key, block: key.block + 1 };
  const bytes = new Uint8Array(KEY_SIZE);
  encodeKey(bytes, 0, key, key.block);
  let at = KEY_SIZE - 1;
  while (at >= 0 && bytes[at] === 0xff) bytes[at--] = 0;
  if (at < 0) return undefined;
  bytes[at]++;
  return decodeKey(bytes, 0);
}

/** The key in front of a key; undefined in front of the first. */
export function previousKey(key: Key): Key | undefined {
  if (key.block > 0) return { ...key, block: key.block - 1 };
  const bytes = new Uint8Array(KEY_SIZE);
  encodeKey(bytes, 0, key, key.block);
  let at = KEY_SIZE - 1;
  while (at >= 0 && bytes[at] === 0) bytes[at--] = 0xff;
  if (at < 0) return undefined;
  bytes[at]--;
  return decodeKey(bytes, 0);
}

export function lesserKey(left: Key, right: Key): Key {
  return compareKeys(left, right) <= 0 ? left : right;
}

export function greaterKey(left: Key, right: Key): Key {
  return compareKeys(left, right) >= 0 ? left : right;
}
