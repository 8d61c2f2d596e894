/**
 * Local copies in memory that a test may damage, lose or refuse; handles know when they are closed.
 *
 * @module
 */
import { CorruptionError } from "../../src/errors.ts";
import type { LocalLayerFile, LocalLayers, LocalLayerWriter } from "../../src/ports/local_layers.ts";

/** See the module's description. */
export class MemoryLocalLayers implements LocalLayers {
  readonly files = new Map<string, Uint8Array>();
  /** Copies that are being written. */
  readonly temporary = new Set<object>();
  openHandles = 0;
  opens = 0;
  /** Runs before every call; what it throws is the answer. */
  before: (method: "list" | "open" | "create" | "write" | "commit" | "remove" | "read", name: string) =>
    | void
    | Promise<void> = () => {};

  async list(): Promise<{ name: string; size: number }[]> {
    await this.before("list", "");
    return [...this.files].map(([name, bytes]) => ({ name, size: bytes.length }));
  }

  async open(name: string): Promise<LocalLayerFile | undefined> {
    await this.before("open", name);
    const bytes = this.files.get(name);
    if (bytes === undefined) return undefined;
    this.opens++;
    this.openHandles++;
    let isOpen = true;
    return {
      size: bytes.length,
      readRange: async (offset, length) => {
        if (!isOpen) throw new TypeError("Bad file descriptor");
        await this.before("read", name);
        if (!isOpen) throw new TypeError("Bad file descriptor");
        if (offset + length > bytes.length) {
          throw new CorruptionError("The copy is too short", { object: name });
        }
        return bytes.slice(offset, offset + length);
      },
      close: () => {
        if (!isOpen) return Promise.reject(new TypeError("Closed twice"));
        isOpen = false;
        this.openHandles--;
        return Promise.resolve();
      },
    };
  }

  async create(name: string): Promise<LocalLayerWriter> {
    await this.before("create", name);
    const pieces: number[] = [];
    const token = {};
    this.temporary.add(token);
    return {
      write: async (chunk) => {
        await this.before("write", name);
        for (const byte of chunk) pieces.push(byte);
      },
      commit: async () => {
        await this.before("commit", name);
        this.files.set(name, Uint8Array.from(pieces));
        this.temporary.delete(token);
      },
      abort: () => {
        this.temporary.delete(token);
        return Promise.resolve();
      },
    };
  }

  async remove(name: string): Promise<void> {
    await this.before("remove", name);
    this.files.delete(name);
  }
}
