/**
 * Looks over a data directory that nothing runs on: every page's header, checksum and LSN, as written.
 *
 * For `varve restore --verify`, and for any directory of a stopped server. Free space maps are looked at as others.
 *
 * @module
 */
import { CorruptionError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import type { BackupDirectory } from "../ports/backup_directory.ts";
import { CONTROL_FILE_PATH, parseControlFile } from "../postgres/files/control_file.ts";
import { parseRelationPath } from "../postgres/files/relation_path.ts";
import { pageChecksum } from "../postgres/page/checksum.ts";
import { BLCKSZ, Page } from "../postgres/page/page.ts";
import { profileOfMajor } from "../postgres/versions/all.ts";
import { checkPage } from "./page_check.ts";
import { RELATION_SEGMENT_BLOCKS } from "./plan.ts";

/** Problems told in words; more are only counted. */
const PROBLEMS_KEPT = 20;

export interface VerifyDirectoryOptions {
  /** No page may be from after it. */
  lsn: Lsn;
  onProgress?(progress: { readonly bytesDone: number }): void;
  signal?: AbortSignal;
}

/** What was found. */
export interface VerifiedDirectory {
  readonly files: number;
  readonly pages: number;
  /** Pages whose checksum was computed and is right. */
  readonly checksums: number;
  readonly problemCount: number;
  /** The first ones, in words. */
  readonly problems: readonly string[];
}

/**
 * Verifies a directory.
 *
 * @throws {CorruptionError} If it has no usable pg_control.
 */
export async function verifyDirectory(
  directory: BackupDirectory,
  options: VerifyDirectoryOptions,
): Promise<VerifiedDirectory> {
  const { lsn, onProgress, signal } = options;
  const hasChecksums = await readHasChecksums(directory, signal);
  const page = new Page();
  const problems: string[] = [];
  let [files, pages, checksums, problemCount, bytesDone] = [0, 0, 0, 0, 0];
  const tell = (problem: string) => {
    problemCount++;
    if (problems.length < PROBLEMS_KEPT) problems.push(problem);
  };
  const judge = (path: string, block: number) => {
    pages++;
    const problem = checkPage(page, lsn);
    if (problem !== undefined) tell(`${path} block ${block}: ${problem}`);
    if (!hasChecksums || page.isNew()) return;
    const expected = pageChecksum(page, block);
    if (page.checksum === expected) checksums++;
    else tell(`${path} block ${block}: its checksum is ${page.checksum}, expected ${expected}`);
  };
  for await (const { path, type, size } of directory.entries(signal)) {
    const relation = type === "file" ? parseRelationPath(path) : undefined;
    if (relation === undefined) continue;
    files++;
    if (size % BLCKSZ !== 0) tell(`${path}: its ${size} bytes are not whole pages`);
    let block = relation.segment * RELATION_SEGMENT_BLOCKS;
    let filled = 0;
    for await (const chunk of directory.read(path, signal)) {
      for (let at = 0; at < chunk.length;) {
        const part = Math.min(BLCKSZ - filled, chunk.length - at);
        page.u8.set(chunk.subarray(at, at + part), filled);
        filled += part;
        at += part;
        if (filled < BLCKSZ) break;
        judge(path, block++);
        filled = 0;
      }
      bytesDone += chunk.length;
      onProgress?.({ bytesDone });
    }
  }
  return { files, pages, checksums, problemCount, problems };
}

async function readHasChecksums(directory: BackupDirectory, signal?: AbortSignal): Promise<boolean> {
  const major = Number(new TextDecoder().decode(await readStart(directory, "PG_VERSION", signal)).trim());
  if (!Number.isInteger(major)) {
    throw new CorruptionError("Cannot verify: no usable version file", { object: "PG_VERSION" });
  }
  const control = await readStart(directory, CONTROL_FILE_PATH, signal);
  return parseControlFile(control, profileOfMajor(major)).dataChecksumVersion > 0;
}

async function readStart(
  directory: BackupDirectory,
  path: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  for await (const chunk of directory.read(path, signal)) return chunk;
  return new Uint8Array(0);
}
