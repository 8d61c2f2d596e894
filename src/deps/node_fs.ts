/**
 * The file system, as `node:` built-ins give it on Deno, Bun and Node: what the directory store is made of.
 *
 * @module
 */
export { chownSync, closeSync, openSync, readSync, writeSync } from "node:fs";
export {
  chown,
  lchown,
  link,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readlink,
  rename,
  rm,
  stat,
  symlink,
  unlink,
} from "node:fs/promises";
export { dirname, resolve } from "node:path";
export type { FileHandle } from "node:fs/promises";
