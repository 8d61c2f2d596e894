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
export async function bendHintImage(
  store: ObjectStore,
  clock: Clock,
  rel: number,
  timeline = "main",
): Promise<Bent> {
  const { manifest } = (await readManifest(store, timeline))!;
  for (const layer of manifest.layers.toReversed()) {
    const key = layerKey(timeline, layer.name);
    const source = memorySource((await store.get(key)).bytes);
    const index = await openLayer(source, layer.name, { codecs: PORTABLE_CODECS });
    if (index.footer.kind !== "delta") continue;
    const entries = await scanEntries(source, index);
    const bent = bendOne(entries, rel);
    if (bent === undefined) continue;
    const { lsnStart, lsnEnd, keyMin, keyMax } = index.footer;
    const { file, summary } = writeEntries(entries, { kind: "delta", lsnStart }, { lsnEnd, keyMin, keyMax });
    await store.put(key, file);
    await updateManifest(store, clock, timeline, (current) => ({
      layers: current.layers.map((each) =>
        each.name === layer.name ? { ...each, size: summary.size, checksum: summary.checksum } : each
      ),
    }));
    return bent;
  }
  throw new Error(`No layer has an image of relation ${rel} that was logged for a hint bit`);
}

function bendOne(entries: Entry[], rel: number): Bent | undefined {
  for (const { key, lsn, flags, value } of entries.toReversed()) {
    const wanted = VALUE_FULL_PAGE_IMAGE | VALUE_IMAGE_OF_HINT;
    if ((flags & (VALUE_KIND_MASK | VALUE_IMAGE_OF_HINT | VALUE_COMPRESSION_MASK)) !== wanted) continue;
    if (key.family !== FAMILY_RELATION || key.c !== rel || key.d !== 0) continue;
    const [holeAt, holeLength] = [getU16(value, 0), getU16(value, 2)];
    const page = new Page();
    restoreImageBytes(value, HOLE_BYTES, value.length - HOLE_BYTES, 0, holeAt, holeLength, page, {}, lsn);
    if (page.itemFlags(1) !== LP_NORMAL) continue;
    // Behind a row header without null bitmap.
    const offset = page.itemOffset(1) + 24;
    value[HOLE_BYTES + (offset < holeAt ? offset : offset - holeLength)] ^= 0x5a;
    return { key, lsn, offset };
  }
  return undefined;
}
