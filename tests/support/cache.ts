/**
 * The folder for what is expensive to obtain: PostgreSQL's binaries, initialised data directories, a built MinIO.
 * `VARVE_TEST_CACHE`, else `.cache` of the repository. Any number of processes may fill it at once.
 *
 * @module
 */
import { type ProcessUser, unprivilegedUser } from "./processes.ts";
import { removeTree } from "./temp.ts";

/** Where cached things lie. */
export function cacheDirectory(): string {
  const given = Deno.env.get("VARVE_TEST_CACHE");
  if (given !== undefined && given !== "") return given.replace(/\/+$/, "");
  const repository = new URL("../../.cache", import.meta.url);
  return repository.protocol === "file:" ? decodeURIComponent(repository.pathname) : temporaryCache();
}

/**
 * A folder like {@linkcode cacheDirectory} that `user` can reach too: a repository under root's home cannot be
 * entered by the user that a server must run as.
 */
export function sharedCacheDirectory(user: ProcessUser = unprivilegedUser()): string {
  const directory = cacheDirectory();
  if (user.uid === undefined) return directory;
  Deno.mkdirSync(directory, { recursive: true });
  return isOpenToAll(Deno.realPathSync(directory)) ? directory : temporaryCache();
}

function temporaryCache(): string {
  return `${Deno.env.get("TMPDIR") ?? "/tmp"}/varve-cache-${Deno.uid() ?? 0}`;
}

/** Whether every directory on the way may be entered by anybody. */
function isOpenToAll(path: string): boolean {
  for (let at = path; at !== ""; at = at.slice(0, at.lastIndexOf("/"))) {
    const mode = Deno.statSync(at).mode ?? 0;
    if ((mode & 0o005) !== 0o005) return false;
  }
  return true;
}

/**
 * Returns `path`, filled once: `fill` is given an empty directory beside it, which is renamed into place when it is
 * complete. Of parallel fillers the first one wins and the others throw theirs away.
 */
export async function cached(path: string, fill: (directory: string) => Promise<void>): Promise<string> {
  if (await exists(path)) return path;
  const parent = path.slice(0, path.lastIndexOf("/"));
  await Deno.mkdir(parent, { recursive: true, mode: 0o755 });
  const making = await Deno.makeTempDir({ dir: parent, prefix: ".making-" });
  try {
    await Deno.chmod(making, 0o755);
    await fill(making);
    await Deno.rename(making, path);
  } catch (error) {
    await removeTree(making);
    if (!(await exists(path))) throw error;
  }
  return path;
}

export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
