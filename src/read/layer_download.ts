/**
 * One whole layer from the store into a local copy.
 *
 * Read path, inside fetch, and downloads on request. A copy appears under its name only when every byte of it has been
 * checked: the size against the manifest's, each block against the index's checksum, the index against the footer's, the
 * footer against the manifest's. It is written under a temporary name, synced, renamed and the directory synced, by the
 * port; whatever goes wrong leaves no file behind. A body that stands still is given up and asked for again.
 *
 * @module
 */
import { crc32c } from "../bytes/crc32c.ts";
import { CorruptionError, UnavailableError } from "../errors.ts";
import { raceAbort, withTimeout } from "../flow/abort.ts";
import { Backoff } from "../flow/backoff.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import {
  checksumError,
  decodeFooter,
  decodeHeader,
  FOOTER_LENGTH,
  HEADER_LENGTH,
} from "../layer/layer_format.ts";
import { type LayerIndex, type LayerSource, openLayer } from "../layer/layer_reader.ts";
import type { Clock } from "../ports/clock.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { keeping } from "./local_copy.ts";

export interface LayerDownloadOptions {
  layer: LayerDescriptor;
  /** The object. */
  key: string;
  store: ObjectStore;
  local: LocalLayers;
  /** Reads ranges of the object: the index comes first. */
  ranges: LayerSource;
  /** Without it there are no time limits, and nothing is tried again. */
  clock?: Clock;
  /** Milliseconds without a byte after which the body counts as stuck. Default 30 000. */
  stallMs?: number;
  /** Attempts while the store is unavailable. Default 3. */
  attempts?: number;
  /** Told of bytes as they come. */
  onBytes?(count: number): void;
  signal: AbortSignal;
}

const DEFAULT_STALL_MS = 30_000;
const DEFAULT_ATTEMPTS = 3;

/**
 * See the module's description.
 *
 * @throws {CorruptionError} If the object is not the layer that the manifest names. @throws {NotFoundError} If it is gone.
 * @throws {UnavailableError} If the store does not answer. @throws {NotKept} If the local disk refuses.
 */
export async function downloadLayer(options: LayerDownloadOptions): Promise<void> {
  const { clock, signal, attempts = DEFAULT_ATTEMPTS } = options;
  const backoff = clock && new Backoff(clock, { maxMs: 5_000 });
  for (let attempt = 1;; attempt++) {
    try {
      return await downloadOnce(options);
    } catch (error) {
      const mayWork = error instanceof UnavailableError && attempt < attempts && !signal.aborted;
      if (!mayWork || backoff === undefined) throw error;
      await backoff.wait(signal);
    }
  }
}

async function downloadOnce(options: LayerDownloadOptions): Promise<void> {
  const { layer, key, store, local, ranges, onBytes, signal } = options;
  const index = await openLayer(ranges, layer.name, { expectedChecksum: layer.checksum, signal });
  const own = new AbortController();
  const abort = () => own.abort(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    const { size, body } = await inTime(store.getStream(key, { signal: own.signal }), options);
    if (size !== layer.size) {
      await body.cancel();
      throw new CorruptionError("Cannot download a layer: its size differs from the manifest's", {
        object: key,
        expected: layer.size,
        got: size,
      });
    }
    const reader = body.getReader();
    const writer = await keeping(local.create(layer.name)).catch(async (error) => {
      await reader.cancel().catch(() => {});
      throw error;
    });
    try {
      const check = new ByteCheck(index, layer, key);
      for (;;) {
        const { done, value } = await inTime(reader.read(), options);
        if (done) break;
        signal.throwIfAborted();
        onBytes?.(value.length);
        check.push(value);
        await keeping(writer.write(value));
      }
      check.end();
      await keeping(writer.commit());
    } catch (error) {
      // What went wrong first is what counts.
      own.abort(error);
      await reader.cancel().catch(() => {});
      await writer.abort().catch(() => {});
      throw error;
    }
  } catch (error) {
    own.abort(error);
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Waits for one step, as long as a step may take. */
async function inTime<T>(step: Promise<T>, options: LayerDownloadOptions): Promise<T> {
  const { clock, stallMs = DEFAULT_STALL_MS, layer, signal } = options;
  if (clock === undefined) return await raceAbort(step, signal);
  using limit = withTimeout(clock, stallMs, `download layer ${layer.name}`, signal);
  return await raceAbort(step, limit.signal);
}

/** Checks a layer's bytes as they come by, against an index that has been verified. */
class ByteCheck {
  readonly #index: LayerIndex;
  readonly #layer: LayerDescriptor;
  readonly #key: string;
  readonly #header = new Uint8Array(HEADER_LENGTH);
  readonly #footer = new Uint8Array(FOOTER_LENGTH);
  /** Position in the file. */
  #at = 0;
  /** The part at hand: -1 header, then blocks, then the index, then the footer. */
  #part = -1;
  #partEnd = HEADER_LENGTH;
  #crc = 0;

  constructor(index: LayerIndex, layer: LayerDescriptor, key: string) {
    this.#index = index;
    this.#layer = layer;
    this.#key = key;
  }

  push(bytes: Uint8Array): void {
    if (this.#at + bytes.length > this.#layer.size) {
      throw this.#wrongSize(`at least ${this.#at + bytes.length}`);
    }
    for (let from = 0; from < bytes.length;) {
      const end = Math.min(bytes.length, from + this.#partEnd - this.#at);
      this.#take(bytes, from, end);
      this.#at += end - from;
      from = end;
      if (this.#at === this.#partEnd) this.#next();
    }
  }

  /** @throws {CorruptionError} If bytes are missing. */
  end(): void {
    if (this.#at !== this.#layer.size) throw this.#wrongSize(this.#at);
  }

  #take(bytes: Uint8Array, from: number, end: number): void {
    const { blockCount } = this.#index;
    if (this.#part < 0) this.#header.set(bytes.subarray(from, end), this.#at);
    else if (this.#part <= blockCount) this.#crc = crc32c(bytes, from, end, this.#crc);
    else this.#footer.set(bytes.subarray(from, end), this.#at - (this.#layer.size - FOOTER_LENGTH));
  }

  /** A part is whole: checks it and goes to the next. */
  #next(): void {
    const { blockCount, footer } = this.#index;
    const part = this.#part++;
    if (part < 0) decodeHeader(this.#header, this.#key);
    else if (part < blockCount) this.#expect(`block ${part}`, this.#index.checksum(part));
    else if (part === blockCount) this.#expect("index", footer.indexCrc);
    else {
      const { checksum } = decodeFooter(this.#footer, this.#layer.size, this.#key);
      if (checksum !== footer.checksum) this.#refuse("the footer", footer.checksum, checksum);
    }
    this.#crc = 0;
    const next = this.#part;
    if (next < blockCount) this.#partEnd = this.#index.blockOffset(next + 1);
    else this.#partEnd = this.#layer.size - (next === blockCount ? FOOTER_LENGTH : 0);
  }

  #expect(what: string, expected: number): void {
    if (this.#crc !== expected) this.#refuse(what, expected, this.#crc);
  }

  #refuse(what: string, expected: number, got: number): never {
    throw checksumError(`${what}, downloading`, this.#key, this.#at, expected, got);
  }

  #wrongSize(got: string | number): CorruptionError {
    const { size } = this.#layer;
    return new CorruptionError("Cannot download a layer: its length differs from the manifest's", {
      object: this.#key,
      expected: size,
      got,
    });
  }
}
