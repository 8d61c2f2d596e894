/**
 * Port: a base backup as a tree of files, however it is stored. Types only.
 *
 * @module
 */

/** One entry of the tree. Paths are relative to the backup, with slashes. */
export interface BackupDirectoryEntry {
  path: string;
  type: "file" | "directory";
  /** Bytes; 0 for directories. */
  size: number;
  /** Directories that are links (tablespaces): where they lead. */
  linkTarget?: string;
}

export interface BackupDirectory {
  /** For messages. */
  readonly description: string;
  /** All entries, directories before what is in them, links to directories followed. */
  entries(signal?: AbortSignal): AsyncIterable<BackupDirectoryEntry>;
  /** The content of a file in pieces. */
  read(path: string, signal?: AbortSignal): AsyncIterable<Uint8Array>;
}
