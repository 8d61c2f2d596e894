/**
 * The archives of a base backup, taken out of the copy that carries them.
 *
 * Between a base backup's messages and the tar reader. PostgreSQL 14 sends each archive in a copy of its own, in the order of
 * the list of tablespaces, without the empty blocks at its end; later ones send all in one copy, each announced
 * (src/backend/replication/basebackup.c of 14, src/backend/backup/basebackup_copy.c of 15-18).
 *
 * @module
 */
import { ProtocolError } from "../../errors.ts";
import { archiveOid, type BackupTablespace, parseBackupMessage } from "./backup_messages.ts";
import type { CopyQueue } from "./copy_queue.ts";

/** One tar archive: the data directory's, or a tablespace's. */
export interface BackupArchive {
  readonly tablespace: BackupTablespace;
  readonly bytes: ReadableStream<Uint8Array>;
}

/** A manifest has about 200 bytes for each file; more than this is no manifest. */
const MANIFEST_BYTES_MAX = 512 * 1024 * 1024;
/** Two empty blocks, which PostgreSQL 14 leaves out. */
const TAR_END = new Uint8Array(1024);

/** Reads one backup's archives, in one of two ways. An archive is read to its end before the next one is asked for. */
export class BackupArchives {
  readonly #queue: CopyQueue;
  readonly #tablespaces: readonly BackupTablespace[];
  readonly #withManifest: boolean;
  /** Told of every stretch of an archive. */
  readonly #onBytes: (count: number) => void;
  #manifest: Uint8Array[] | null = null;
  #manifestBytes = 0;

  constructor(
    queue: CopyQueue,
    tablespaces: readonly BackupTablespace[],
    withManifest: boolean,
    onBytes: (count: number) => void,
  ) {
    this.#queue = queue;
    this.#tablespaces = tablespaces;
    this.#withManifest = withManifest;
    this.#onBytes = onBytes;
  }

  /** One copy for each archive, in the order of the tablespaces, and one for the manifest. */
  async *separate(): AsyncGenerator<BackupArchive, void, undefined> {
    const waiting = [...this.#tablespaces];
    for (let isOpen = true; isOpen;) {
      const tablespace = waiting.shift();
      if (tablespace !== undefined) {
        const reader = async () => {
          const event = await this.#queue.next();
          if (event.kind === "data") return this.#taken(event.message);
          return event.kind === "end" ? null : fail(event.kind);
        };
        yield { tablespace, bytes: pieces(reader, TAR_END) };
      } else if (this.#withManifest && this.#manifest === null) {
        this.#manifest = [];
        for (let event = await this.#queue.next(); event.kind !== "end"; event = await this.#queue.next()) {
          if (event.kind !== "data") fail(event.kind);
          else this.#keepManifest(event.message);
        }
      } else {
        fail("another copy");
      }
      const event = await this.#queue.next();
      isOpen = event.kind === "begin";
      if (!isOpen && (event.kind !== "done" || waiting.length > 0)) fail(event.kind);
    }
  }

  /** All archives in one copy, each announced. */
  async *announced(): AsyncGenerator<BackupArchive, void, undefined> {
    const waiting = new Set(this.#tablespaces);
    let announced = await this.#nextAnnouncement();
    while (announced !== null) {
      const oid = archiveOid(announced.name);
      const tablespace = this.#tablespaces.find((each) => each.oid === oid);
      if (tablespace === undefined || !waiting.delete(tablespace)) fail(`archive ${announced.name}`);
      let following: { name: string } | null = null;
      const reader = async () => {
        const message = await this.#nextMessage();
        if (message instanceof Uint8Array) return this.#taken(message);
        following = message;
        return null;
      };
      yield { tablespace, bytes: pieces(reader) };
      announced = following;
    }
    if (waiting.size > 0) fail("the end");
    if ((await this.#queue.next()).kind !== "done") fail("another copy");
  }

  async #nextAnnouncement(): Promise<{ name: string } | null> {
    const message = await this.#nextMessage();
    return message instanceof Uint8Array ? fail("data without an archive") : message;
  }

  /** Data of the current archive, the announcement of the next one, or null at the end of the copy. */
  async #nextMessage(): Promise<Uint8Array | { name: string } | null> {
    for (;;) {
      const event = await this.#queue.next();
      if (event.kind === "end") return null;
      if (event.kind !== "data") fail(event.kind);
      const message = parseBackupMessage(event.message);
      if (message.kind === "manifest") this.#manifest = [];
      else if (message.kind === "archive") return message;
      else if (message.kind === "data" && this.#manifest === null) return message.data;
      else if (message.kind === "data") this.#keepManifest(message.data);
    }
  }

  #taken(bytes: Uint8Array): Uint8Array {
    this.#onBytes(bytes.length);
    return bytes;
  }

  #keepManifest(bytes: Uint8Array): void {
    this.#manifestBytes += bytes.length;
    if (this.#manifestBytes > MANIFEST_BYTES_MAX) fail("a manifest beyond all measure");
    this.#manifest!.push(bytes);
  }

  /** backup_manifest, once all was read; null where there is none. */
  manifest(): Uint8Array | null {
    if (this.#manifest === null) return null;
    const whole = new Uint8Array(this.#manifestBytes);
    let at = 0;
    for (const piece of this.#manifest) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }
}

function fail(got: string): never {
  throw new ProtocolError(`Cannot read base backup: the server sent ${got} where it should not`);
}

/** A stream of what `read` gives, until it gives null. */
function pieces(read: () => Promise<Uint8Array | null>, last?: Uint8Array): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      const piece = await read();
      if (piece !== null) return controller.enqueue(piece);
      if (last !== undefined) controller.enqueue(last);
      controller.close();
    },
  }, { highWaterMark: 0 });
}
