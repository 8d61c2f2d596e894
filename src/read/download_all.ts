/**
 * Downloads every layer of a timeline, as a task to look at while it runs.
 *
 * Beside the read path, for those who want everything local. It goes on over failures and counts them; layers that do not
 * fit the local budget count as failed, and nothing is pushed out for them.
 *
 * @module
 */
import { sideBySide } from "../flow/side_by_side.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { LayerFiles } from "./layer_files.ts";

/** Layers under way at a time; the limit of requests to the store holds besides. */
const WIDTH = 4;

/** How a task stands. */
export type DownloadState = "running" | "completed" | "cancelled";

/** See the module's description. */
export class DownloadTask {
  readonly total: number;
  readonly totalBytes: number;
  /** Resolves when it is over, however it went. */
  readonly ended: Promise<void>;
  readonly #files: Pick<LayerFiles, "download" | "isResident">;
  readonly #cancelled = new AbortController();
  #state: DownloadState = "running";
  #done = 0;
  #doneBytes = 0;
  #failed = 0;
  #failure: unknown;

  /** Starts it. Layers that are resident already are done at once. */
  constructor(files: Pick<LayerFiles, "download" | "isResident">, layers: readonly LayerDescriptor[]) {
    this.#files = files;
    this.total = layers.length;
    this.totalBytes = layers.reduce((sum, { size }) => sum + size, 0);
    this.ended = sideBySide(layers, WIDTH, (layer) => this.#download(layer)).then(() => {
      this.#state = this.#cancelled.signal.aborted ? "cancelled" : "completed";
    });
  }

  get state(): DownloadState {
    return this.#state;
  }
  /** Layers that are resident now, and their bytes. */
  get done(): number {
    return this.#done;
  }
  get doneBytes(): number {
    return this.#doneBytes;
  }
  get failed(): number {
    return this.#failed;
  }
  /** Why the last one failed. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Begins no further download. */
  cancel(): void {
    this.#cancelled.abort(new DOMException("The download was cancelled", "AbortError"));
  }

  async #download(layer: LayerDescriptor): Promise<void> {
    const { signal } = this.#cancelled;
    if (signal.aborted) return;
    try {
      if (!this.#files.isResident(layer.name)) await this.#files.download(layer, { onlyFree: true, signal });
      this.#done++;
      this.#doneBytes += layer.size;
    } catch (error) {
      if (signal.aborted) return;
      this.#failed++;
      this.#failure = error;
    }
  }
}
