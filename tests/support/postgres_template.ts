/**
 * Data directories: `initdb` runs once per major and set of options (0.3 to 1.2 s); a cluster gets a copy (50 ms).
 *
 * Copies of one template share its system identifier, as a cluster and its backup do.
 *
 * @module
 */
import { cached, sharedCacheDirectory } from "./cache.ts";
import type { PostgresBinaries } from "./postgres_binaries.ts";
import { runCommand } from "./processes.ts";

/** What `initdb` decides for the life of a data directory. */
export interface InitOptions {
  /** Data page checksums. Always passed on: PostgreSQL 18 turned the default around. */
  checksums: boolean;
  /** Power of two from 1 to 1024. */
  walSegmentSizeMb: number;
  auth: "trust" | "scram";
}

/** The superuser of every cluster. */
export const SUPERUSER = "postgres";
/** Its password where `auth` is `scram`. */
export const SUPERUSER_PASSWORD = "sediment";

/** The option has existed since 18, when checksums became the default. */
const FIRST_WITH_NO_DATA_CHECKSUMS = 18;

/** Copies the template with these options to `dataDir`, which must not exist; makes the template if need be. */
export async function copyTemplate(
  binaries: PostgresBinaries,
  options: InitOptions,
  dataDir: string,
): Promise<void> {
  const { checksums, walSegmentSizeMb, auth } = options;
  const key = `${checksums ? "checksums" : "plain"}-${walSegmentSizeMb}mb-${auth}`;
  const initdb = binaries.program("initdb");
  const release = initdb.split("/").at(-4);
  const uid = binaries.user.uid ?? "self";
  const template = `${sharedCacheDirectory(binaries.user)}/templates/${release}-${key}-${uid}`;
  await cached(template, async (directory) => {
    if (binaries.user.uid !== undefined) {
      await Deno.chown(directory, binaries.user.uid, binaries.user.gid ?? null);
    }
    await initialise(binaries, options, `${directory}/data`);
  });
  await runCommand("cp", ["-R", `${template}/data`, dataDir], { user: binaries.user, cwd: "/" });
}

/** Runs `initdb` itself: a directory with a system identifier of its own. */
export async function initialise(
  binaries: PostgresBinaries,
  options: InitOptions,
  dataDir: string,
): Promise<void> {
  const args = ["-D", dataDir, "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"];
  args.push(`--wal-segsize=${options.walSegmentSizeMb}`);
  args.push(`--auth=${options.auth === "scram" ? "scram-sha-256" : "trust"}`);
  if (options.checksums) args.push("--data-checksums");
  else if (binaries.major >= FIRST_WITH_NO_DATA_CHECKSUMS) args.push("--no-data-checksums");
  const passwordFile = `${dataDir}.password`;
  if (options.auth === "scram") {
    await Deno.writeTextFile(passwordFile, SUPERUSER_PASSWORD + "\n");
    await Deno.chmod(passwordFile, 0o644);
    args.push(`--pwfile=${passwordFile}`);
  }
  try {
    await runCommand(binaries.program("initdb"), args, { user: binaries.user, env: binaries.env, cwd: "/" });
  } finally {
    if (options.auth === "scram") await Deno.remove(passwordFile);
  }
}
