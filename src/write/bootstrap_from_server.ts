/**
 * Write path, before the stream: a timeline made from a base backup of a running server.
 *
 * Slot first (so that no WAL is lost from here on), then the backup streamed into image layers, then, as the last thing,
 * the manifest: until that is written the timeline does not exist, and a bootstrap that breaks off leaves nothing but
 * orphans. Two that run at once: one manifest wins, the other gets {@linkcode FencedError}.
 *
 * @module
 */
import type { BlockCodec } from "../bytes/block_codec.ts";
import { SpaceTable } from "../layer/space_table.ts";
import { formatLsn } from "../lsn.ts";
import type { EventSink } from "../ports/events.ts";
import type { LocalLayers } from "../ports/local_layers.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { manifestLayer } from "../timeline/manifest.ts";
import { ManifestWriter } from "../timeline/manifest_store.ts";
import { BootstrapImporter, type BootstrapResult } from "./bootstrap.ts";
import { ImageBuffer } from "./image_buffer.ts";
import { type BackupEntry, type BackupProgress, openBaseBackup } from "./source/base_backup.ts";
import { checkServerUsable, readServerFacts } from "./source/identify.ts";
import { openSession, type SourceAccess } from "./source/session.ts";
import { checkSlotIsFree, ensureSlot } from "./source/slot.ts";
import type { UntarFunction } from "./source/tar.ts";

export interface ServerBootstrapOptions extends SourceAccess {
  untar: UntarFunction;
  store: ObjectStore;
  timeline: string;
  /** Made before the backup, so that the server keeps WAL from its start on; undefined: none. */
  slot?: string;
  local?: LocalLayers;
  codec?: BlockCodec;
  /** `spread` waits for the next regular checkpoint. Default `fast`. */
  checkpoint?: "fast" | "spread";
  onProgress?(progress: BackupProgress): void;
  signal?: AbortSignal;
}

/** Makes the timeline; durable when it resolves, with a writer's claim on it. */
export async function bootstrapFromServer(options: ServerBootstrapOptions): Promise<ManifestWriter> {
  const { store, timeline, slot, local, codec, clock, events, signal } = options;
  if (slot !== undefined) await reserveWal(options, slot);
  await using backup = await openBaseBackup({ ...options, label: `varve ${timeline}` });
  const { start, facts, identity } = backup;
  events?.({
    level: "info",
    topic: "bootstrap.started",
    message: `Taking a base backup of about ${Math.round(backup.bytesTotal / 2 ** 20)} MiB from LSN ${
      formatLsn(start.lsn)
    }`,
    fields: { lsn: formatLsn(start.lsn), bytes: backup.bytesTotal },
  });
  const spaces = new SpaceTable();
  const buffer = new ImageBuffer({
    timeline,
    spaces,
    lsn: start.lsn,
    epoch: 1,
    store,
    local,
    codec,
    clock,
    signal,
  });
  const importer = new BootstrapImporter(facts.profile, spaces, buffer);
  for (const { oid, path } of backup.tablespaces) {
    if (oid !== null) importer.addTablespace(oid, path ?? "");
  }
  for await (const entry of backup.entries()) await takeIn(importer, entry);
  const { stop } = backup.finish();
  const result = await importer.finish((state) => state.tli = start.tli);
  const manifest = await ManifestWriter.create(store, clock, {
    timeline,
    facts: {
      systemId: String(identity.systemId),
      major: facts.profile.major,
      walSegmentSize: facts.walSegmentSize,
      blockSize: facts.blockSize,
      dataChecksums: result.control.dataChecksumVersion > 0,
      walLogHints: result.control.walLogHints,
    },
    tli: start.tli,
    startLsn: start.lsn,
    consistentLsn: stop.lsn,
    diskConsistentLsn: start.lsn,
    layers: buffer.descriptors.map(manifestLayer),
  }, signal);
  tellSkipped(result, events);
  events?.({
    level: "info",
    topic: "bootstrap.done",
    message: `Took in ${result.files} files, ${result.pages} pages; reads are right from LSN ${
      formatLsn(stop.lsn)
    } on`,
    fields: {
      files: result.files,
      pages: result.pages,
      bytes: result.bytes,
      consistentLsn: formatLsn(stop.lsn),
    },
  });
  return manifest;
}

async function reserveWal(options: ServerBootstrapOptions, slot: string): Promise<void> {
  const { signal } = options;
  const session = await openSession(options, signal);
  try {
    const facts = await readServerFacts(session, signal);
    checkServerUsable(facts, session.description);
    const { created } = await ensureSlot(session, facts, slot, signal);
    // Before the base backup, which may take hours.
    if (!created) await checkSlotIsFree(session, slot, signal);
  } finally {
    await session.close();
  }
}

async function takeIn(importer: BootstrapImporter, entry: BackupEntry): Promise<void> {
  const path = entry.tablespaceOid === null ? entry.path : `pg_tblspc/${entry.tablespaceOid}/${entry.path}`;
  if (entry.type === "directory") importer.addDirectory(path);
  if (entry.type !== "file" || !isKept(path)) return;
  importer.beginFile(path, entry.size);
  for await (const chunk of entry.body) {
    importer.data(chunk);
    await importer.drain();
  }
  importer.endFile();
}

/** Says which files are not part of the timeline although they are none of a running server. */
export function tellSkipped({ skipped }: BootstrapResult, events?: EventSink): void {
  for (const path of skipped) {
    events?.({
      level: "warn",
      topic: "bootstrap.skipped",
      message: `Left out "${path}": it is none of PostgreSQL's files, and too long to be kept whole`,
    });
  }
}

/** Files that describe the backup, or that belong to a running server, are not part of the cluster's state. */
export function isKept(path: string): boolean {
  return !/^(?:pg_wal\/|pg_stat\/|pg_stat_tmp\/|pg_replslot\/|pg_dynshmem\/|pg_notify\/|pg_serial\/|pg_snapshots\/|pg_subtrans\/)/
    .test(path) &&
    !/^(?:backup_label|backup_manifest|tablespace_map|postmaster\.(?:pid|opts))(?:\.old)?$/.test(path) &&
    !/(?:^|\/)(?:pgsql_tmp|t[0-9]+_[1-9][0-9]*|pg_internal\.init)/.test(path);
}
