/**
 * A process's way to the store with something bent in it: what mutations are made of.
 *
 * @module
 */
import { openLayer } from "../../src/layer/layer_reader.ts";
import { parseLayerName } from "../../src/layer/layer_name.ts";
import type {
  CallOptions,
  ObjectBody,
  ObjectContent,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StreamOptions,
} from "../../src/ports/object_store.ts";
import { readBody } from "../../src/store/body.ts";
import type { Manifest } from "../../src/timeline/manifest.ts";
import { decodeManifest, encodeManifest } from "../../src/timeline/manifest_json.ts";
import { timelineOfManifestKey } from "../../src/timeline/object_keys.ts";
import { type Entry, memorySource, scanEntries, writeEntries } from "../support/layers.ts";

/** Passes everything on. */
export class WrappedStore implements ObjectStore {
  readonly description: string;
  readonly below: ObjectStore;

  constructor(below: ObjectStore) {
    this.below = below;
    this.description = below.description;
  }

  put(key: string, body: ObjectBody, options?: PutOptions): Promise<{ etag: string }> {
    return this.below.put(key, body, options);
  }
  get(key: string, options?: CallOptions): Promise<ObjectContent> {
    return this.below.get(key, options);
  }
  getRange(key: string, offset: number, length: number, options?: CallOptions): Promise<Uint8Array> {
    return this.below.getRange(key, offset, length, options);
  }
  getStream(
    key: string,
    options?: StreamOptions,
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    return this.below.getStream(key, options);
  }
  head(key: string, options?: CallOptions): Promise<ObjectInfo> {
    return this.below.head(key, options);
  }
  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo> {
    return this.below.list(prefix, options);
  }
  delete(key: string, options?: CallOptions): Promise<void> {
    return this.below.delete(key, options);
  }
  close(): Promise<void> {
    return this.below.close();
  }
}

/** The name of the layer that an object is; undefined for other objects. */
export function layerOfKey(key: string): string | undefined {
  const [, , folder, name] = key.split("/");
  return folder === "layers" && parseLayerName(name) !== undefined ? name : undefined;
}

/** Bends what is put. */
export class PuttingStore extends WrappedStore {
  readonly #layer?: PutLayer;
  readonly #manifest?: PutManifest;

  constructor(below: ObjectStore, { layer, manifest }: { layer?: PutLayer; manifest?: PutManifest }) {
    super(below);
    this.#layer = layer;
    this.#manifest = manifest;
  }

  override async put(key: string, body: ObjectBody, options: PutOptions = {}): Promise<{ etag: string }> {
    const bytes = await readBody(body, options.signal);
    const put = (bytes: Uint8Array, changed: PutOptions = options) => this.below.put(key, bytes, changed);
    if (this.#layer !== undefined && layerOfKey(key) !== undefined) {
      return await this.#layer(put, bytes, layerOfKey(key)!);
    }
    if (this.#manifest !== undefined && timelineOfManifestKey(key) !== undefined) {
      const next = decodeManifest(bytes, key);
      return await this.#manifest(
        (manifest, changed) => put(encodeManifest(manifest), changed),
        next,
        options,
      );
    }
    return await put(bytes);
  }
}

/** Puts a layer in another way. */
export type PutLayer = (
  put: (bytes: Uint8Array) => Promise<{ etag: string }>,
  bytes: Uint8Array,
  name: string,
) => Promise<{ etag: string }>;

/** Puts a manifest in another way. */
export type PutManifest = (
  put: (manifest: Manifest, options?: PutOptions) => Promise<{ etag: string }>,
  manifest: Manifest,
  options: PutOptions,
) => Promise<{ etag: string }>;

/** Puts layers with other entries than they should have, and manifests that fit them. */
export function withLayersRewritten(
  below: ObjectStore,
  rewrite: (entries: Entry[], kind: "delta" | "image") => Entry[],
): ObjectStore {
  const rewritten = new Map<string, { size: number; checksum: number }>();
  return new PuttingStore(below, {
    layer: async (put, bytes, name) => {
      const source = memorySource(bytes);
      const index = await openLayer(source, name);
      const { kind, lsnStart, lsnEnd, keyMin, keyMax, complete } = index.footer;
      const entries = rewrite(await scanEntries(source, index), kind);
      if (entries.length === 0) return await put(bytes);
      const { file, summary } = writeEntries(entries, { kind, lsnStart, lsnEnd, complete }, {
        keyMin,
        keyMax,
        lsnEnd,
      });
      rewritten.set(name, { size: summary.size, checksum: summary.checksum });
      return await put(file);
    },
    manifest: (put, manifest, options) =>
      put({
        ...manifest,
        layers: manifest.layers.map((layer) => ({ ...layer, ...rewritten.get(layer.name) })),
      }, options),
  });
}

/** Shows manifests without what holds history, and puts it back. */
export class BlindStore extends WrappedStore {
  readonly #field: "pins" | "branches";
  readonly #hidden = new Map<string, Manifest>();

  constructor(below: ObjectStore, field: "pins" | "branches") {
    super(below);
    this.#field = field;
  }

  override async get(key: string, options?: CallOptions): Promise<ObjectContent> {
    const { bytes, etag } = await super.get(key, options);
    if (timelineOfManifestKey(key) === undefined) return { bytes, etag };
    const manifest = decodeManifest(bytes, key);
    this.#hidden.set(key, manifest);
    return { bytes: encodeManifest({ ...manifest, [this.#field]: [] }), etag };
  }

  override async put(key: string, body: ObjectBody, options?: PutOptions): Promise<{ etag: string }> {
    const hidden = this.#hidden.get(key);
    if (hidden === undefined) return await super.put(key, body, options);
    const manifest = decodeManifest(await readBody(body, options?.signal), key);
    return await super.put(key, encodeManifest({ ...manifest, [this.#field]: hidden[this.#field] }), options);
  }
}

/** Gives the layers that a process makes other names than it believes. */
export class RenamingStore extends WrappedStore {
  readonly #rename: (name: string) => string;
  /** What this process has made, by the name that it believes. */
  readonly #names = new Map<string, string>();

  constructor(below: ObjectStore, rename: (name: string) => string) {
    super(below);
    this.#rename = rename;
  }

  #key(key: string): string {
    const name = layerOfKey(key);
    return name === undefined ? key : key.replace(name, this.#names.get(name) ?? name);
  }

  override async put(key: string, body: ObjectBody, options?: PutOptions): Promise<{ etag: string }> {
    const name = layerOfKey(key);
    if (name !== undefined) {
      this.#names.set(name, this.#rename(name));
      return await super.put(this.#key(key), body, options);
    }
    if (timelineOfManifestKey(key) === undefined) return await super.put(key, body, options);
    const manifest = decodeManifest(await readBody(body, options?.signal), key);
    const renamed = renameLayers(manifest, (name) => this.#names.get(name) ?? name);
    return await super.put(key, encodeManifest(renamed), options);
  }
  override async get(key: string, options?: CallOptions): Promise<ObjectContent> {
    const { bytes, etag } = await super.get(this.#key(key), options);
    if (timelineOfManifestKey(key) === undefined) return { bytes, etag };
    const believed = new Map([...this.#names].map(([name, real]) => [real, name]));
    const manifest = renameLayers(decodeManifest(bytes, key), (name) => believed.get(name) ?? name);
    return { bytes: encodeManifest(manifest), etag };
  }
  override getRange(key: string, offset: number, length: number, options?: CallOptions): Promise<Uint8Array> {
    return super.getRange(this.#key(key), offset, length, options);
  }
  override getStream(
    key: string,
    options?: StreamOptions,
  ): Promise<{ size: number; body: ReadableStream<Uint8Array> }> {
    return super.getStream(this.#key(key), options);
  }
}

function renameLayers(manifest: Manifest, rename: (name: string) => string): Manifest {
  const renamed = <T extends { name: string }>(lines: readonly T[]) =>
    lines.map((line) => ({ ...line, name: rename(line.name) }));
  return { ...manifest, layers: renamed(manifest.layers), removed: renamed(manifest.removed) };
}
