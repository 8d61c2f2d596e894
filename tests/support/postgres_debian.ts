/**
 * PostgreSQL's client and debugging programs, which the npm packages lack: from Debian's `postgresql-15`, where it is
 * installed. For the peers that benches run beside varve, and for `pg_waldump` as an oracle.
 *
 * @module
 */
import { exists } from "./cache.ts";
import type { PostgresBinaries, PostgresMajor } from "./postgres_binaries.ts";
import { type CommandOptions, type CommandOutput, runCommand, unprivilegedUser } from "./processes.ts";

export type DebianProgram =
  | "initdb"
  | "pg_amcheck"
  | "pg_archivecleanup"
  | "pg_basebackup"
  | "pg_checksums"
  | "pg_controldata"
  | "pg_ctl"
  | "pg_dump"
  | "pg_receivewal"
  | "pg_resetwal"
  | "pg_verifybackup"
  | "pg_waldump"
  | "pgbench"
  | "postgres"
  | "psql";

/** One installed major of Debian's. */
export interface DebianPostgres {
  readonly major: number;
  /** Absolute path of a program. */
  program(name: DebianProgram): string;
  /** Runs a program to its end. */
  run(name: DebianProgram, args: string[], options?: CommandOptions): Promise<CommandOutput>;
}

/** Finds it, or `undefined` where it is not installed. `.ci/run` installs it under CI. */
export async function debianPostgres(major = 15): Promise<DebianPostgres | undefined> {
  const bin = `/usr/lib/postgresql/${major}/bin`;
  if (!(await exists(`${bin}/pg_waldump`))) return undefined;
  const program = (name: DebianProgram) => `${bin}/${name}`;
  return { major, program, run: (name, args, options) => runCommand(program(name), args, options) };
}

/**
 * Like {@linkcode debianPostgres}, and under CI its absence is an error.
 *
 * @param skip Told the reason where it is absent: usually a test's `skip`.
 */
export async function debianPostgresOrSkip(
  skip: (reason: string) => void,
  major = 15,
): Promise<DebianPostgres | undefined> {
  const found = await debianPostgres(major);
  if (found !== undefined) return found;
  const reason = `needs the programs of Debian's postgresql-${major}, which is not installed`;
  if (Deno.env.get("CI")) throw new Error(`Cannot test under CI: it ${reason}`);
  skip(reason);
  return undefined;
}

/** As what `startCluster()` runs: a build with every kind of compression. */
export function debianServer(debian: DebianPostgres): PostgresBinaries {
  return {
    major: debian.major as PostgresMajor,
    user: unprivilegedUser(),
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" },
    program: (name) => debian.program(name),
  };
}
