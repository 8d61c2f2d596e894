/**
 * The grammar of keys, checked at the door of every store: what passes here can neither escape a directory nor need
 * escaping in a URL.
 *
 * @module
 */

/** Longest key, store prefix included, that S3 accepts. */
export const LONGEST_KEY = 1024;

/** Longest component: file systems take 255, and the directory store adds a mark. */
const LONGEST_COMPONENT = 240;

const KEY = /^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/;
const PREFIX = /^(?:[A-Za-z0-9._-]+\/)*[A-Za-z0-9._-]*$/;

/** Throws TypeError unless `key` is one: `[A-Za-z0-9._-]` components between single slashes, none `.` or `..`. */
export function checkKey(key: string): void {
  if (!KEY.test(key)) {
    throw new TypeError(
      `Cannot use ${
        JSON.stringify(key)
      } as a key: expected components of letters, digits, ".", "_" and "-" between single slashes`,
    );
  }
  checkComponents(key, key.split("/"));
}

/** Throws TypeError unless `prefix` can begin a key. The empty one does. */
export function checkPrefix(prefix: string): void {
  if (!PREFIX.test(prefix)) {
    throw new TypeError(
      `Cannot list ${
        JSON.stringify(prefix)
      }: expected the beginning of a key (letters, digits, ".", "_", "-" and single slashes)`,
    );
  }
  checkComponents(prefix, prefix.split("/"));
}

function checkComponents(text: string, components: string[]): void {
  if (text.length > LONGEST_KEY) {
    throw new TypeError(`Cannot use a key of ${text.length} characters: expected at most ${LONGEST_KEY}`);
  }
  for (const component of components) {
    if (component === "." || component === "..") {
      throw new TypeError(`Cannot use ${JSON.stringify(text)} as a key: "${component}" is no component`);
    }
    if (component.length > LONGEST_COMPONENT) {
      throw new TypeError(
        `Cannot use a key with a component of ${component.length} characters: expected at most ${LONGEST_COMPONENT}`,
      );
    }
  }
}

/** Throws RangeError unless both are non-negative safe integers. */
export function checkRange(offset: number, length: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0 && Number.isSafeInteger(length) && length >= 0) return;
  throw new RangeError(
    `Cannot read a range: offset and length must be non-negative integers, got ${offset} and ${length}`,
  );
}
