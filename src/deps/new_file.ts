/**
 * A file that is made and written from its beginning on, without holding up the thread meanwhile.
 *
 * For stores that write layers of hundreds of megabytes beside everything else. Deno's `node:fs` writes and syncs on the
 * calling thread, its own files do not; elsewhere `node:fs` does well. Errors have the codes of the file system on all.
 *
 * @module
 */
import { open } from "node:fs/promises";

/** See the module's description. One write at a time, and one sync, which may run beside a write. */
export interface NewFile {
  /** Appends all of `bytes`, which must stay as they are until it resolves. */
  write(bytes: Uint8Array): Promise<void>;
  /** What was written is durable. */
  datasync(): Promise<void>;
  /** The same, and the file's times. */
  sync(): Promise<void>;
  /** Sets the time of modification, seconds. */
  setModified(seconds: number): Promise<void>;
  close(): Promise<void>;
}

/** Makes a file that must not exist yet. */
export async function createNewFile(path: string): Promise<NewFile> {
  return typeof Deno === "object" ? await denoFile(path) : await nodeFile(path);
}

async function denoFile(path: string): Promise<NewFile> {
  const file = await Deno.open(path, { write: true, createNew: true });
  // What is asked of one file waits its turn; a sync through another one does not hold up writing.
  let synced: Deno.FsFile | undefined;
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await file.write(at === 0 ? bytes : bytes.subarray(at));
    },
    async datasync() {
      synced ??= await Deno.open(path, { write: true });
      await synced.syncData();
    },
    sync: () => file.sync(),
    setModified: (seconds) => file.utime(seconds, seconds),
    close() {
      synced?.close();
      file.close();
      return Promise.resolve();
    },
  };
}

async function nodeFile(path: string): Promise<NewFile> {
  const handle = await open(path, "wx");
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.length;) {
        at += (await handle.write(bytes, at, bytes.length - at, null)).bytesWritten;
      }
    },
    datasync: () => handle.datasync(),
    sync: () => handle.sync(),
    setModified: (seconds) => handle.utimes(seconds, seconds),
    close: () => handle.close(),
  };
}
