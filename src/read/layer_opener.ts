/**
 * Layers opened for walking them whole: their index once, and a source past the caches of single reads.
 *
 * Read path, beside fetch: bulk reads and upkeep pass through layers once and must not push out of the caches what readers
 * come back for.
 *
 * @module
 */
import type { BlockCodecs } from "../bytes/block_codec.ts";
import { CorruptionError } from "../errors.ts";
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import type { MergeInput } from "../layer/layer_merge.ts";
import { DEFAULT_TAIL_BYTES, type LayerIndex, openLayer } from "../layer/layer_reader.ts";
import type { LayerFileSource } from "./layer_files.ts";

/** An entry of the index has some 26 bytes, and stands for a block of some 24 KiB. */
const BYTES_PER_INDEX_BYTE = 768;
const TAIL_BYTES_MAX = 1024 * 1024;

/** See the module's description. For one piece of work: indexes are kept as long as it is. */
export class LayerOpener {
  readonly #sourceOf: (layer: LayerDescriptor) => LayerFileSource;
  readonly #codecs: BlockCodecs;
  readonly #indexes = new Map<string, LayerIndex>();
  readonly #sources = new Map<string, LayerFileSource>();

  /**
   * @param sourceOf Where a layer's bytes come from, say `files.source` of an attached timeline.
   * @param codecs What blocks may be compressed with.
   */
  constructor(sourceOf: (layer: LayerDescriptor) => LayerFileSource, codecs: BlockCodecs) {
    this.#sourceOf = sourceOf;
    this.#codecs = codecs;
  }

  /**
   * A layer, ready to be walked.
   *
   * @throws {CorruptionError} If its index is damaged, in the store too. @throws {NotFoundError} If it is gone.
   */
  async open(layer: LayerDescriptor, signal?: AbortSignal): Promise<MergeInput> {
    const source = this.#source(layer);
    let index = this.#indexes.get(layer.name);
    if (index === undefined) {
      const tailBytes = tailOf(layer);
      const options = { codecs: this.#codecs, expectedChecksum: layer.checksum, tailBytes, signal };
      try {
        index = await openLayer(source, layer.name, options);
      } catch (error) {
        if (!(error instanceof CorruptionError) || !(await source.discardCopy())) throw error;
        index = await openLayer(source, layer.name, options);
      }
      this.#indexes.set(layer.name, index);
    }
    return { source, index };
  }

  /** Lets go of local copies that were read, one of which has turned out to be damaged; false if none was read. */
  async discardCopies(): Promise<boolean> {
    const discarded = await Promise.all([...this.#sources.values()].map((source) => source.discardCopy()));
    return discarded.includes(true);
  }

  /** Drops the indexes of layers that are not asked for again. */
  keepOnly(names: ReadonlySet<string>): void {
    for (const kept of [this.#indexes, this.#sources]) {
      for (const name of kept.keys()) if (!names.has(name)) kept.delete(name);
    }
  }

  #source(layer: LayerDescriptor): LayerFileSource {
    let source = this.#sources.get(layer.name);
    if (source === undefined) this.#sources.set(layer.name, source = this.#sourceOf(layer));
    return source;
  }
}

/** A footer and the index of a layer with blocks of the usual size, so that one read brings both. */
function tailOf({ size }: LayerDescriptor): number {
  return Math.max(DEFAULT_TAIL_BYTES, Math.min(TAIL_BYTES_MAX, Math.ceil(size / BYTES_PER_INDEX_BYTE)));
}
