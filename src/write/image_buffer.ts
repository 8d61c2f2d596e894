/**
 * Values at one LSN on their way into image layers: collected, sorted, written as layers of bounded size.
 *
 * Write path, bootstrap only. A base backup delivers files in directory order, a layer wants keys in order: the buffer
 * holds some hundred MiB, sorts what it has and makes a layer of it, so that memory stays bounded and no temporary copy of
 * the cluster exists. The layers are *partial*: ranges may overlap, and absence of a key in one proves nothing.
 *
 * @module
 */
import { collectSoon } from "../bytes/arena.ts";
import type { BlockCodec } from "../bytes/block_codec.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { type LayerSummary, LayerWriter } from "../layer/layer_writer.ts";
import type { SpaceTable } from "../layer/space_table.ts";
import type { Lsn } from "../lsn.ts";
import type { Clock } from "../ports/clock.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { storeLayer } from "./store_layer.ts";

export interface ImageBufferOptions {
  timeline: string;
  spaces: SpaceTable;
  /** LSN of all values. */
  lsn: Lsn;
  epoch: number;
  store: ObjectStore;
  clock: Clock;
  local?: LocalLayers;
  codec?: BlockCodec;
  /** Bytes of values in one layer, and of the memory that each takes. Default 128 MiB. */
  layerBytes?: number;
  signal?: AbortSignal;
}

const DEFAULT_LAYER_BYTES = 128 * 1024 * 1024;
/**
 * Just above 32 MiB, beyond which the C library always maps memory of its own: it costs nothing until it is touched, and
 * goes back to the system when the base backup is over, while shorter pieces would stay with the process for good.
 */
const CHUNK_BYTES = 33 * 1024 * 1024;
/** Less garbage than this can wait. */
const COLLECT_BYTES_MIN = 16 * 1024 * 1024;
/** Memory of a value besides its bytes: pages of zeros have none, and a cluster may have millions of them. */
const VALUE_OVERHEAD_BYTES = 64;

interface Value {
  space: number;
  block: number;
  flags: number;
  chunk: Uint8Array;
  offset: number;
  length: number;
}

/** See the module's description. */
export class ImageBuffer {
  readonly #options: ImageBufferOptions;
  readonly #layerBytes: number;
  readonly descriptors: LayerDescriptor[] = [];
  #values: Value[] = [];
  #bytes = 0;
  #chunk = new Uint8Array(0);
  #chunkUsed = 0;

  constructor(options: ImageBufferOptions) {
    this.#options = options;
    this.#layerBytes = options.layerBytes ?? DEFAULT_LAYER_BYTES;
  }

  /** Whether it is time for {@linkcode write}. */
  get isFull(): boolean {
    return this.#bytes >= this.#layerBytes;
  }

  /** Adds a value; its bytes are copied. A key may be added once. */
  add(
    space: number,
    block: number,
    flags: number,
    bytes: Uint8Array,
    offset = 0,
    length: number = bytes.length,
  ): void {
    if (length > this.#chunk.length - this.#chunkUsed) {
      this.#chunk = new Uint8Array(Math.max(CHUNK_BYTES, length));
      this.#chunkUsed = 0;
    }
    this.#chunk.set(
      offset === 0 && length === bytes.length ? bytes : bytes.subarray(offset, offset + length),
      this.#chunkUsed,
    );
    this.#values.push({ space, block, flags, chunk: this.#chunk, offset: this.#chunkUsed, length });
    this.#chunkUsed += length;
    this.#bytes += length + VALUE_OVERHEAD_BYTES;
  }

  /** Makes a layer of what is there, durable in the store when it resolves. */
  async write(): Promise<void> {
    if (this.#values.length === 0) return;
    const { timeline, spaces, lsn, epoch, store, local, clock, signal } = this.#options;
    const values = this.#values.sort((left, right) =>
      left.space === right.space ? left.block - right.block : spaces.compare(left.space, right.space)
    );
    const first = values[0];
    const last = values[values.length - 1];
    this.descriptors.push(
      await storeLayer({
        timeline,
        identity: {
          kind: "image",
          keyMin: { ...spaces.get(first.space), block: first.block },
          keyMax: { ...spaces.get(last.space), block: last.block },
          lsnStart: lsn,
          lsnEnd: lsn + 1 as Lsn,
          epoch,
          unique: Math.floor(clock.random() * 0x1_0000_0000),
        },
        generate: () => this.#file(values),
        store,
        local,
        signal,
      }),
    );
    const bytes = this.#bytes;
    this.#values = [];
    this.#bytes = 0;
    this.#chunk = new Uint8Array(0);
    this.#chunkUsed = 0;
    if (bytes >= COLLECT_BYTES_MIN) collectSoon();
  }

  *#file(values: readonly Value[]): Generator<Uint8Array, LayerSummary> {
    const { spaces, lsn, codec } = this.#options;
    const writer = new LayerWriter({ kind: "image", lsnStart: lsn, codec });
    let space = -1;
    for (let index = 0; index < values.length; index++) {
      const value = values[index];
      if (value.space !== space) {
        space = value.space;
        writer.beginSpace(spaces.get(space));
      }
      writer.addBlock(value.block, lsn, value.flags, value.chunk, value.offset, value.length);
      if ((index & 63) === 0) yield* writer.take();
    }
    const summary = writer.finish();
    yield* writer.take();
    return summary;
  }
}
