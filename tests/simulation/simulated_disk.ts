/**
 * A machine's directory of local layers: what was committed survives, what is being written is lost when its process
 * dies, and what was removed may be back.
 *
 * @module
 */
import { CorruptionError } from "../../src/errors.ts";
import type { LocalLayerFile, LocalLayers, LocalLayerWriter } from "../../src/ports/local_layers.ts";
import { joined } from "../support/layers.ts";
import type { SimulatedProcess } from "./scheduler.ts";

/** See the module's description. One process at a time uses it. */
export class SimulatedDisk {
  readonly #files = new Map<string, Uint8Array>();
  /** Removed, but the directory has not been synced since. */
  readonly #removed = new Map<string, Uint8Array>();
  /** Committed by a disk that lies: a mutation. */
  readonly #unsynced = new Set<string>();
  syncs = true;

  /** The machine goes down with the process. */
  crash(process: SimulatedProcess): void {
    for (const [name, bytes] of this.#removed) {
      if (!this.#files.has(name) && process.random.chance(0.5)) this.#files.set(name, bytes);
    }
    for (const name of this.#unsynced) this.#files.delete(name);
    this.#removed.clear();
    this.#unsynced.clear();
  }

  /** The port, for one process. */
  layersOf(process: SimulatedProcess): LocalLayers {
    return {
      list: async () => {
        await process.later("list disk", "");
        return [...this.#files].map(([name, bytes]) => ({ name, size: bytes.length }));
      },
      open: async (name) => {
        await this.#now(process);
        const bytes = this.#files.get(name);
        return bytes === undefined ? undefined : openFile(process, name, bytes);
      },
      create: async (name) => {
        await this.#now(process);
        return this.#writer(process, name);
      },
      remove: async (name) => {
        await process.later("remove copy", name);
        const bytes = this.#files.get(name);
        if (bytes === undefined) return;
        this.#files.delete(name);
        this.#removed.set(name, bytes);
      },
    };
  }

  /** What does not wait for the disk; a process that has died does not get there. */
  #now(process: SimulatedProcess): Promise<void> {
    return process.isAlive ? Promise.resolve() : new Promise(() => {});
  }

  #writer(process: SimulatedProcess, name: string): LocalLayerWriter {
    let pieces: Uint8Array[] | undefined = [];
    return {
      write: async (chunk) => {
        await this.#now(process);
        pieces!.push(chunk.slice());
      },
      commit: async () => {
        await process.later("commit copy", name);
        this.#files.set(name, joined(pieces!));
        if (this.syncs) this.#removed.clear();
        else this.#unsynced.add(name);
        pieces = undefined;
        await process.later("committed copy", name);
      },
      abort: () => {
        pieces = undefined;
        return Promise.resolve();
      },
    };
  }
}

function openFile(process: SimulatedProcess, name: string, bytes: Uint8Array): LocalLayerFile {
  return {
    size: bytes.length,
    readRange: (offset, length) => {
      if (!process.isAlive) return new Promise(() => {});
      if (offset + length > bytes.length) {
        return Promise.reject(new CorruptionError("The copy is too short", { object: name }));
      }
      return Promise.resolve(bytes.slice(offset, offset + length));
    },
    close: () => Promise.resolve(),
  };
}
