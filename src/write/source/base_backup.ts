/**
 * A base backup of a running server, file by file as it streams in: no copy of the cluster on disk.
 *
 * The beginning of the write path: bootstrap reads it, then the live source goes on where the backup began. It runs on a
 * connection of its own. Promises: bounded memory, every file with its announced size, the backup's end known to have been
 * reached, and whatever was opened closed when the reader stops early.
 *
 * The backup is fuzzy: files change while they are read, and what they lack is in the WAL from its start to its stop.
 *
 * Source: PostgreSQL documentation "Streaming Replication Protocol" (BASE_BACKUP); src/backend/replication/basebackup.c (14),
 * src/backend/backup/basebackup.c (15-18). 14 takes its options without brackets.
 *
 * @module
 */
import { ProtocolError } from "../../errors.ts";
import { abortReason } from "../../flow/abort.ts";
import {
  type BackupPosition,
  type BackupTablespace,
  parsePosition,
  parseTablespace,
} from "./backup_messages.ts";
import { BackupArchives } from "./backup_archives.ts";
import { CopyQueue } from "./copy_queue.ts";
import {
  checkServerMatches,
  checkServerUsable,
  readServerFacts,
  type RecordedServer,
  type ServerFacts,
  type SystemIdentity,
} from "./identify.ts";
import { openSession, quoteLiteral, type Session, type SourceAccess } from "./session.ts";
import { readTar, type TarEntry, type UntarFunction } from "./tar.ts";

/** What to back up, and how. */
export interface BaseBackupOptions extends SourceAccess {
  untar: UntarFunction;
  /** Shown in backup_label and pg_stat_progress_basebackup. Default: `varve`. */
  label?: string;
  /** `spread` begins with the next regular checkpoint, which may take minutes. Default: `fast`. */
  checkpoint?: "fast" | "spread";
  /** Let the server make a manifest, with a CRC-32C of each file. Default: false. */
  manifest?: boolean;
  /** What the server must be. Default: any. */
  expected?: RecordedServer;
  /** Called about once per MiB, and at the end. */
  onProgress?: (progress: BackupProgress) => void;
  signal?: AbortSignal;
}

/** How far a backup is. */
export interface BackupProgress {
  /** Bytes of archives received. */
  readonly bytesDone: number;
  /** The server's estimate of all of them: it may turn out more or less. */
  readonly bytesTotal: number;
}

/** A file, directory or link of the backup. */
export interface BackupEntry extends TarEntry {
  /** Null: below the data directory. Else `path` is relative to the tablespace's directory. */
  readonly tablespaceOid: number | null;
  /** Where the server has that tablespace. */
  readonly tablespacePath: string | null;
}

/** How a backup ended. */
export interface BackupEnd {
  /** Files are consistent when WAL has been replayed up to here. */
  readonly stop: BackupPosition;
  /** backup_manifest, where it was asked for. */
  readonly manifest: Uint8Array | null;
}

const PROGRESS_BYTES = 1024 * 1024;

/**
 * Starts a base backup: the server makes a checkpoint and tells where the backup starts.
 *
 * Rejects as `openSession` does, with MismatchError, UnsupportedError, PostgresError (privilege, max_wal_senders, ...),
 * or the signal's reason.
 */
export async function openBaseBackup(options: BaseBackupOptions): Promise<BaseBackup> {
  const { signal } = options;
  const session = await openSession(options, signal);
  try {
    const facts = await readServerFacts(session, signal);
    checkServerUsable(facts, session.description);
    if (options.expected) checkServerMatches(session.identity, facts, options.expected, session.description);
    const queue = new CopyQueue();
    const onAbort = () => queue.fail(abortReason(signal!));
    signal?.addEventListener("abort", onAbort, { once: true });
    queue.attach(session.copy(backupCommand(options, facts), "take a base backup", queue));
    try {
      const first = await queue.next();
      if (first.kind !== "begin") {
        throw new ProtocolError("Cannot read base backup: it ended before it began");
      }
      return new BaseBackup(
        options,
        session,
        facts,
        queue,
        () => signal?.removeEventListener("abort", onAbort),
      );
    } catch (error) {
      signal?.removeEventListener("abort", onAbort);
      throw error;
    }
  } catch (error) {
    await session.close();
    throw error;
  }
}

/** Without waiting for the archiver: the WAL that is needed comes through the slot. */
function backupCommand(options: BaseBackupOptions, facts: ServerFacts): string {
  const { label = "varve", checkpoint = "fast", manifest = false } = options;
  const isFast = checkpoint === "fast";
  if (facts.profile.replicationCommands === "v14") {
    const rest = manifest ? " MANIFEST 'yes'" : "";
    return `BASE_BACKUP LABEL ${quoteLiteral(label)} PROGRESS${
      isFast ? " FAST" : ""
    } NOWAIT TABLESPACE_MAP${rest}`;
  }
  return `BASE_BACKUP (LABEL ${quoteLiteral(label)}, PROGRESS, CHECKPOINT ${
    quoteLiteral(checkpoint)
  }, WAIT false, ` +
    `TABLESPACE_MAP, MANIFEST ${quoteLiteral(manifest ? "yes" : "no")})`;
}

/** A base backup that streams in: read {@linkcode BaseBackup.entries}, then {@linkcode BaseBackup.finish}. */
export class BaseBackup {
  readonly identity: SystemIdentity;
  readonly facts: ServerFacts;
  /** Where WAL must be replayed from: the redo position of the backup's checkpoint. */
  readonly start: BackupPosition;
  /** The data directory and the tablespaces, in the order in which their entries come. */
  readonly tablespaces: readonly BackupTablespace[];
  /** The server's estimate of all archives, in bytes. */
  readonly bytesTotal: number;
  readonly #options: BaseBackupOptions;
  readonly #session: Session;
  readonly #queue: CopyQueue;
  readonly #release: () => void;
  readonly #archives: BackupArchives;
  #bytesDone = 0;
  #bytesTold = 0;
  #state: "fresh" | "reading" | "complete" | "failed" = "fresh";

  /** Use {@linkcode openBaseBackup}. */
  constructor(
    options: BaseBackupOptions,
    session: Session,
    facts: ServerFacts,
    queue: CopyQueue,
    release: () => void,
  ) {
    this.identity = session.identity;
    this.facts = facts;
    this.start = parsePosition(queue.rows[0]);
    this.tablespaces = queue.rows.splice(0).slice(1).map(parseTablespace);
    this.bytesTotal = this.tablespaces.reduce((sum, { estimatedSize }) => sum + estimatedSize, 0);
    this.#options = options;
    this.#session = session;
    this.#queue = queue;
    this.#release = release;
    this.#archives = new BackupArchives(queue, this.tablespaces, options.manifest ?? false, (count) => {
      this.#bytesDone += count;
      this.#progress(false);
    });
  }

  get bytesDone(): number {
    return this.#bytesDone;
  }

  /**
   * Every entry of every archive, once. An entry's body is read before the next entry is asked for, or skipped.
   *
   * Rejects with UnavailableError when the connection breaks, CorruptionError when an archive is damaged, ProtocolError,
   * PostgresError, or the signal's reason.
   */
  async *entries(): AsyncGenerator<BackupEntry, void, undefined> {
    if (this.#state !== "fresh") throw new TypeError("Cannot read a base backup twice");
    this.#state = "reading";
    try {
      const isSeparate = this.facts.profile.replicationCommands === "v14";
      const archives = isSeparate ? this.#archives.separate() : this.#archives.announced();
      for await (const { tablespace, bytes } of archives) {
        const name = tablespace.oid === null ? "base.tar" : `${tablespace.oid}.tar`;
        for await (const entry of readTar(bytes, this.#options.untar, name)) {
          yield Object.assign(entry, { tablespaceOid: tablespace.oid, tablespacePath: tablespace.path });
        }
      }
      this.#progress(true);
      this.#state = "complete";
    } finally {
      // Also when the reader stops early: then the backup is of no use, and the server shall end it.
      if (this.#state !== "complete") this.#state = "failed";
      await this.close();
    }
  }

  /** Where the backup stopped. Only after all entries were read. */
  finish(): BackupEnd {
    if (this.#state !== "complete") {
      throw new TypeError("Cannot finish a base backup before all entries were read");
    }
    return { stop: parsePosition(this.#queue.rows.at(-1)), manifest: this.#archives.manifest() };
  }

  /** Ends the backup, whatever its state. Idempotent. */
  async close(): Promise<void> {
    this.#release();
    await this.#session.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #progress(isLast: boolean): void {
    if (!isLast && this.#bytesDone - this.#bytesTold < PROGRESS_BYTES) return;
    this.#bytesTold = this.#bytesDone;
    const bytesTotal = isLast ? this.#bytesDone : Math.max(this.bytesTotal, this.#bytesDone);
    this.#options.onProgress?.({ bytesDone: this.#bytesDone, bytesTotal });
  }
}
