/**
 * The file system, as `node:` built-ins give it on Deno, Bun and Node: what the directory store is made of.
 *
 * @module
 */
export { readSync } from "node:fs";
export { link, lstat, mkdir, open, readdir, readlink, rename, rm, stat, unlink } from "node:fs/promises";
export { resolve } from "node:path";
export type { FileHandle } from "node:fs/promises";
