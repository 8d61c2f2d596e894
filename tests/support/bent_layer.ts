/**
 * A stored layer with one byte of a page image bent, checksums and all put right again: what only judging the pages finds.
 *
 * @module
 */
import { getU16 } from "../../src/bytes/little_endian.ts";
import { PORTABLE_CODECS } from "../../src/bytes/portable_codecs.ts";
import {
  FAMILY_RELATION,
  type Key,
  VALUE_COMPRESSION_MASK,
  VALUE_FULL_PAGE_IMAGE,
  VALUE_IMAGE_OF_HINT,
  VALUE_KIND_MASK,
  VALUE_RAW,
} from "../../src/layer/key.ts";
import { openLayer } from "../../src/layer/layer_reader.ts";
import type { Lsn } from "../../src/lsn.ts";
import type { Clock } from "../../src/ports/clock.ts";
import type { ObjectStore } from "../../src/ports/object_store.ts";
import { LP_NORMAL, Page } from "../../src/postgres/page/page.ts";
import { restoreImageBytes } from "../../src/postgres/wal/block_image.ts";
import { readManifest, updateManifest } from "../../src/timeline/manifest_store.ts";
import { layerKey } from "../../src/timeline/object_keys.ts";
import { type Entry, memorySource, scanEntries, writeEntries } from "./layers.ts";

/** What was bent. */
export interface Bent {
  key: Key;
  lsn: Lsn;
  /** Byte in the page. */
  offset: number;
}

/** Bytes of the hole's place before the image. */
const HOLE_BYTES = 4;

/**
 * Bends the newest image of relation `rel` that was logged for a hint bit: a byte of its first row's data.
 *
 * @throws {Error} If the store has none.
 */
export function bendHintImage(store: ObjectStore, clock: Clock, rel: number): Promise<Bent> {
  return bendLayer(store, clock, "delta", (entries) => bendImage(entries, rel));
}

/**
 * Bends a page of relation `rel` that an image layer has: a byte of its first row's data.
 *
 * @throws {Error} If no image layer has one.
 */
export function bendLayerPage(store: ObjectStore, clock: Clock, rel: number): Promise<Bent> {
  return bendLayer(store, clock, "image", (entries) => bendPage(entries, rel));
}

async function bendLayer(
  store: ObjectStore,
  clock: Clock,
  kind: "delta" | "image",
  bend: (entries: Entry[]) => Bent | undefined,
): Promise<Bent> {
  const timeline = "main";
  const { manifest } = (await readManifest(store, timeline))!;
  for (const layer of manifest.layers.toReversed()) {
    const key = layerKey(timeline, layer.name);
    const source = memorySource((await store.get(key)).bytes);
    const index = await openLayer(source, layer.name, { codecs: PORTABLE_CODECS });
    // Of the base backup, pages may be torn; those that compaction made are complete.
    if (index.footer.kind !== kind || (kind === "image" && !index.footer.complete)) continue;
    const entries = await scanEntries(source, index);
    const bent = bend(entries);
    if (bent === undefined) continue;
    const { lsnStart, lsnEnd, keyMin, keyMax, complete } = index.footer;
    const range = { keyMin, keyMax, ...(kind === "delta" ? { lsnEnd } : {}) };
    const { file, summary } = writeEntries(entries, { kind, lsnStart, complete }, range);
    await store.put(key, file);
    await updateManifest(store, clock, timeline, (current) => ({
      layers: current.layers.map((each) =>
        each.name === layer.name ? { ...each, size: summary.size, checksum: summary.checksum } : each
      ),
    }));
    return bent;
  }
  throw new Error("No layer has what is to be bent");
}

function bendImage(entries: Entry[], rel: number): Bent | undefined {
  const wanted = VALUE_FULL_PAGE_IMAGE | VALUE_IMAGE_OF_HINT;
  for (const { key, lsn, flags, value } of entries.toReversed()) {
    if ((flags & (VALUE_KIND_MASK | VALUE_IMAGE_OF_HINT | VALUE_COMPRESSION_MASK)) !== wanted) continue;
    if (key.family !== FAMILY_RELATION || key.c !== rel || key.d !== 0) continue;
    const [holeAt, holeLength] = [getU16(value, 0), getU16(value, 2)];
    const page = new Page();
    restoreImageBytes(value, HOLE_BYTES, value.length - HOLE_BYTES, 0, holeAt, holeLength, page, {}, lsn);
    const offset = rowData(page);
    if (offset === undefined) continue;
    value[HOLE_BYTES + (offset < holeAt ? offset : offset - holeLength)] ^= 0x5a;
    return { key, lsn, offset };
  }
  return undefined;
}

function bendPage(entries: Entry[], rel: number): Bent | undefined {
  for (const { key, lsn, flags, value } of entries) {
    if (key.family !== FAMILY_RELATION || key.c !== rel || key.d !== 0) continue;
    const offset = (flags & VALUE_KIND_MASK) === VALUE_RAW && value.length > 0
      ? rowData(Page.from(value))
      : undefined;
    if (offset === undefined) continue;
    value[offset] ^= 0x5a;
    return { key, lsn, offset };
  }
  return undefined;
}

/** Where the first row's data is: behind a header without null bitmap. */
function rowData(page: Page): number | undefined {
  return page.itemFlags(1) === LP_NORMAL ? page.itemOffset(1) + 24 : undefined;
}
