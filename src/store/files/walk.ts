/**
 * Lists a directory tree as the keys that it stands for, in ascending order, without holding them all in memory: one
 * directory at a time. Versioned objects appear under their key; temporary files do not.
 *
 * @module
 */
import { readdir } from "../../deps/node_fs.ts";
import type { ObjectInfo } from "../../ports/object_store.ts";
import { fileFacts } from "./disk.ts";
import { isFsError } from "./fs_errors.ts";
import { plainEtag, VERSIONED_MARK, versionEtag, type Versions } from "./versions.ts";

/** How many files to stat at a time. */
const STAT_BATCH = 32;

interface Name {
  /** As keys compare: a directory sorts as its name with a slash, because its keys go on with one. */
  readonly sort: string;
  readonly name: string;
  readonly kind: "directory" | "object";
}

/** Every object whose key begins with `prefix`. */
export async function* walk(
  root: string,
  prefix: string,
  versions: Versions,
): AsyncGenerator<ObjectInfo, void, void> {
  const slash = prefix.lastIndexOf("/");
  yield* walkDirectory(root, prefix.slice(0, slash + 1), prefix, versions);
}

/** @param at Key of the directory with a slash behind it, or empty for the root. */
async function* walkDirectory(
  root: string,
  at: string,
  prefix: string,
  versions: Versions,
): AsyncGenerator<ObjectInfo, void, void> {
  const names = (await namesIn(`${root}/${at}`)).filter(({ sort, kind }) => {
    const key = at + sort;
    return key.startsWith(prefix) || (kind === "directory" && prefix.startsWith(key));
  });
  for (let i = 0; i < names.length; i += STAT_BATCH) {
    const batch = names.slice(i, i + STAT_BATCH);
    const infos = await Promise.all(batch.map(({ name, kind }) => {
      return kind === "object" ? infoOf(root, at + name, versions) : undefined;
    }));
    for (const [j, { name, kind }] of batch.entries()) {
      const info = infos[j];
      if (kind === "directory") yield* walkDirectory(root, `${at}${name}/`, prefix, versions);
      else if (info !== undefined) yield info; // else it is gone meanwhile
    }
  }
}

async function namesIn(directory: string): Promise<Name[]> {
  let entries;
  try {
    entries = await readdir(directory, { withFileTypes: true });
  } catch (error) {
    if (isFsError(error, "ENOENT", "ENOTDIR")) return [];
    throw error;
  }
  const names = new Map<string, Name>();
  for (const entry of entries) {
    const isDirectory = entry.isDirectory();
    if (entry.name.startsWith(VERSIONED_MARK)) continue;
    if (isDirectory && !entry.name.endsWith(VERSIONED_MARK)) {
      names.set(`${entry.name}/`, { sort: `${entry.name}/`, name: entry.name, kind: "directory" });
      continue;
    }
    // A plain file may have been left beside the versions that replaced it: one name, one object.
    const name = isDirectory ? entry.name.slice(0, -VERSIONED_MARK.length) : entry.name;
    names.set(name, { sort: name, name, kind: "object" });
  }
  return [...names.values()].sort((a, b) => a.sort < b.sort ? -1 : 1);
}

/** What the store knows of `key`, or undefined when there is no such object. */
export async function infoOf(root: string, key: string, versions: Versions): Promise<ObjectInfo | undefined> {
  const path = `${root}/${key}`;
  for (;;) {
    const version = await versions.locate(path);
    const facts = await fileFacts(version?.path ?? path);
    if (facts !== undefined) {
      const etag = version === undefined ? plainEtag(facts) : versionEtag(version);
      return { key, size: facts.size, etag, modifiedMs: facts.modifiedMs };
    }
    // Nothing plain there: either there is no object, or it has become a versioned one since we looked.
    if (version === undefined && (await versions.locate(path)) === undefined) return undefined;
  }
}
