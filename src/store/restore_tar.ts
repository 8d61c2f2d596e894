/**
 * A tar stream as the target of a restore: for pipes, `varve restore --as tar - | ssh host tar x`.
 *
 * Entries come one after the other, with back-pressure. User tablespaces are directories inside of `pg_tblspc`, not links:
 * a tar stream has one root. A stream that breaks off has no end mark, and lacks pg_control, which comes last: nothing
 * starts on what was unpacked of it.
 *
 * A header (POSIX ustar, IEEE 1003.1):
 * ```
 * offset width name
 *      0   100 name          100 8 mode   108 8 uid   116 8 gid      numbers are octal text, zero-terminated
 *    124    12 size          136 12 mtime 148 8 checksum: sum of all bytes, this field as spaces
 *    156     1 typeflag      '0' file, '5' directory
 *    257     6 magic "ustar" 263 2 version "00"
 * ```
 *
 * @module
 */
import type { RestoreFile, RestoreTarget } from "../ports/restore_target.ts";

const BLOCK = 512;
const NAME_BYTES = 100;

export interface RestoreTarOptions {
  /** Takes the stream's next bytes; they may be used again when it resolves. */
  write(bytes: Uint8Array): Promise<void>;
  /** Time of all entries, seconds since 1970. */
  mtime: number;
  owner?: { readonly uid: number; readonly gid: number };
}

/** Opens a tar stream for a restore. */
export function restoreTar(options: RestoreTarOptions): RestoreTarget {
  const padding = (size: number) => new Uint8Array((BLOCK - size % BLOCK) % BLOCK);
  const file = async (path: string, size: number): Promise<RestoreFile> => {
    await options.write(header(path, size, "0", options));
    let written = 0;
    return {
      async write(bytes) {
        written += bytes.length;
        await options.write(bytes);
      },
      async close() {
        if (written !== size) {
          throw new TypeError(`Cannot end ${path}: expected ${size} bytes, got ${written}`);
        }
        if (size % BLOCK !== 0) await options.write(padding(size));
      },
    };
  };
  const directory = async (path: string) => await options.write(header(`${path}/`, 0, "5", options));
  return {
    description: "a tar stream",
    parallel: false,
    directory,
    tablespace: (oid) => directory(`pg_tblspc/${oid}`),
    file,
    async put(path, bytes) {
      const opened = await file(path, bytes.length);
      if (bytes.length > 0) await opened.write(bytes);
      await opened.close();
    },
    async commit() {
      await options.write(new Uint8Array(2 * BLOCK));
    },
    abort: () => Promise.resolve(),
  };
}

function header(
  name: string,
  size: number,
  type: "0" | "5",
  { mtime, owner }: RestoreTarOptions,
): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  const encoded = new TextEncoder().encode(name);
  if (encoded.length > NAME_BYTES) {
    throw new RangeError(
      `Cannot put "${name}" into a tar stream: its name is longer than ${NAME_BYTES} bytes`,
    );
  }
  bytes.set(encoded);
  const octal = (value: number, at: number, width: number) => {
    bytes.set(new TextEncoder().encode(value.toString(8).padStart(width - 1, "0")), at);
  };
  octal(type === "5" ? 0o700 : 0o600, 100, 8);
  octal(owner?.uid ?? 0, 108, 8);
  octal(owner?.gid ?? 0, 116, 8);
  octal(size, 124, 12);
  octal(mtime, 136, 12);
  bytes.fill(0x20, 148, 156);
  bytes[156] = type.charCodeAt(0);
  bytes.set(new TextEncoder().encode("ustar\x0000"), 257);
  octal(bytes.reduce((sum, byte) => sum + byte, 0), 148, 7);
  return bytes;
}
