/**
 * A layer file that is being generated goes to the store, by way of a local copy where there is a disk.
 *
 * Write path, shared by flush and bootstrap. When it resolves, the object is durable in the store and the local copy, if
 * there is a place for one, on disk. A failure leaves no local file behind; an object that it may leave is an orphan,
 * named by no manifest.
 *
 * @module
 */
import type { LayerDescriptor } from "../layer/layer_descriptor.ts";
import { formatLayerName, type LayerName } from "../layer/layer_name.ts";
import type { LayerSummary } from "../layer/layer_writer.ts";
import type { FaultPoints } from "../ports/fault_points.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectBody, ObjectStore } from "../ports/object_store.ts";
import { layerKey } from "../timeline/object_keys.ts";

/** Bytes read at a time from a local copy on its way to the store. */
const UPLOAD_CHUNK_BYTES = 1024 * 1024;

/** A layer file in the making: its chunks, and at the end what is known of it. Ended early by `return`. */
export type LayerFile = Iterator<Uint8Array, LayerSummary> | AsyncIterator<Uint8Array, LayerSummary>;

export interface StoreLayerOptions {
  timeline: string;
  /** What the file will be called; its ranges are known before its bytes are. */
  identity: LayerName;
  /** Generates the file; called again when an upload starts over, and must yield the same bytes. */
  generate(): LayerFile;
  store: ObjectStore;
  local?: LocalLayers;
  /** Default 0. */
  level?: number;
  /** Told when the local copy is durable, before the store has the object. */
  onLocal?(): void;
  faults?: FaultPoints;
  signal?: AbortSignal;
}

/** See the module's description. */
export async function storeLayer(options: StoreLayerOptions): Promise<LayerDescriptor> {
  const { identity, local, faults } = options;
  const name = formatLayerName(identity);
  const summary = local === undefined
    ? await putGenerated(name, options)
    : await putByLocalCopy(name, local, options);
  if (faults !== undefined) await faults("layer-after-upload");
  return {
    name,
    kind: summary.kind,
    keyMin: summary.keyMin,
    keyMax: summary.keyMax,
    lsnStart: summary.lsnStart,
    lsnEnd: summary.lsnEnd,
    size: summary.size,
    checksum: summary.checksum,
    complete: summary.complete,
    level: options.level ?? 0,
    epoch: identity.epoch,
  };
}

/** Straight to the store; the size is known only at the end. */
async function putGenerated(name: string, options: StoreLayerOptions): Promise<LayerSummary> {
  const { timeline, generate, store, faults, signal } = options;
  if (faults !== undefined) await faults("layer-before-upload");
  let summary: LayerSummary | undefined;
  async function* body(): AsyncGenerator<Uint8Array> {
    const file = generate();
    try {
      for (;;) {
        const step = await file.next();
        if (step.done === true) {
          summary = step.value;
          return;
        }
        yield step.value;
      }
    } finally {
      await file.return?.();
    }
  }
  await store.put(layerKey(timeline, name), { open: body }, { signal });
  return summary!;
}

async function putByLocalCopy(
  name: string,
  local: LocalLayers,
  options: StoreLayerOptions,
): Promise<LayerSummary> {
  const { timeline, generate, store, faults, signal } = options;
  const writer = await local.create(name);
  const file = generate();
  let summary: LayerSummary;
  try {
    for (;;) {
      signal?.throwIfAborted();
      const step = await file.next();
      if (step.done === true) {
        summary = step.value;
        break;
      }
      await writer.write(step.value);
    }
    await writer.commit();
  } catch (error) {
    await writer.abort();
    throw error;
  } finally {
    await file.return?.();
  }
  options.onLocal?.();
  if (faults !== undefined) {
    await faults("layer-after-local");
    await faults("layer-before-upload");
  }
  await store.put(layerKey(timeline, name), localBody(local, name, summary.size), { signal });
  return summary;
}

/** A local copy as the body of an object. */
export function localBody(local: LocalLayers, name: string, size: number): ObjectBody {
  return { size, open: () => readLocal(local, name, size) };
}

async function* readLocal(local: LocalLayers, name: string, size: number): AsyncGenerator<Uint8Array> {
  const file = await local.open(name);
  if (file === undefined) throw new TypeError(`Cannot upload layer ${name}: its local copy has gone`);
  try {
    for (let offset = 0; offset < size; offset += UPLOAD_CHUNK_BYTES) {
      yield await file.readRange(offset, Math.min(UPLOAD_CHUNK_BYTES, size - offset));
    }
  } finally {
    await file.close();
  }
}
