/**
 * Port: where a restored data directory goes: a directory, or a tar stream. Types only.
 *
 * Paths are relative to the data directory, with slashes; files of user tablespaces are `pg_tblspc/<oid>/...`, and the
 * target knows where that is. Nothing is in place before `commit`: whoever looks earlier, or after a failure, finds
 * nothing that could be taken for a whole directory.
 *
 * @module
 */

/** A file that is being written, from its start to its end. */
export interface RestoreFile {
  /** Takes the next bytes; they are the caller's again when it resolves. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends the file. Exactly the bytes announced must have been written. */
  close(): Promise<void>;
}

/** See the module's description. */
export interface RestoreTarget {
  /** For messages. */
  readonly description: string;
  /** Whether several files may be open at a time; a tar stream takes one after the other. */
  readonly parallel: boolean;
  /** Makes a directory; those above it have been made. */
  directory(path: string): Promise<void>;
  /** Makes `pg_tblspc/<oid>`, the way to a user tablespace that was at `location`, and an empty directory there. */
  tablespace(oid: number, location: string): Promise<void>;
  /** Begins a file of `size` bytes. */
  file(path: string, size: number): Promise<RestoreFile>;
  /** Writes a whole file; the bytes are the caller's again when it resolves. */
  put(path: string, bytes: Uint8Array): Promise<void>;
  /** Everything has been written: makes it durable, and puts it in place. */
  commit(): Promise<void>;
  /** Removes what was written. Idempotent; does nothing after commit. */
  abort(): Promise<void>;
}
