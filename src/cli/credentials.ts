/**
 * Who we are, to the source and to the store: from the environment and from the files that libpq and the AWS tools read.
 *
 * Nothing here ends up in a message: errors name variables, files and profiles, never what is in them.
 *
 * @module
 */
import { readFile, stat } from "node:fs/promises";
import { homedir, userInfo } from "node:os";
import type { ConnectionOptions } from "../write/source/connection_options.ts";
import { resolveConnection } from "../write/source/connection_options.ts";
import type { Environment } from "./config.ts";
import { UsageError } from "./exit_codes.ts";
import type { Reporter } from "./reporter.ts";

/**
 * The source: `--source`, else the URL in the file `--source-file`, else libpq's `PG…` variables alone. The password may be
 * in the URL, PGPASSWORD, PGPASSFILE, or ~/.pgpass.
 *
 * @throws {UsageError} If none names a source, or one cannot be used.
 */
export async function sourceConnection(
  given: { source?: string; sourceFile?: string },
  env: Environment,
  reporter: Reporter,
): Promise<ConnectionOptions> {
  const { source, sourceFile } = given;
  if (source !== undefined && sourceFile !== undefined) {
    throw new UsageError("Cannot use both --source and --source-file");
  }
  const url = sourceFile === undefined ? source : (await readText("source file", sourceFile)).trim();
  if (url === undefined && (env.PGHOST ?? "") === "") {
    throw new UsageError(
      "Cannot tell whom to follow: --source is missing",
      "Give --source postgres://user@host, --source-file, or PGHOST with PGUSER and PGPASSWORD.",
    );
  }
  try {
    return await resolveConnection({
      url,
      env: { ...env, PGUSER: env.PGUSER || loginName(), PGPASSFILE: await passwordFile(env, reporter) },
      readTextFile: (path) => readText("file", path),
    });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const hint =
      "The form is postgres://user@host:port?sslmode=verify-full, the password in PGPASSWORD or ~/.pgpass.";
    throw new UsageError(error.message, hint);
  }
}

/** libpq's default for the user. */
function loginName(): string | undefined {
  try {
    return userInfo().username;
  } catch {
    return undefined; // a container's user without a name
  }
}

/** PGPASSFILE, else ~/.pgpass where only its owner can read it. */
async function passwordFile(env: Environment, reporter: Reporter): Promise<string | undefined> {
  if (env.PGPASSFILE) return env.PGPASSFILE;
  const path = `${env.HOME || homedir()}/.pgpass`;
  try {
    const { mode } = await stat(path);
    if ((mode & 0o077) === 0) return path;
  } catch {
    return undefined;
  }
  const message = `${path} is not used: others may read it. Make it private with chmod 600`;
  reporter.onEvent({ level: "warn", topic: "source.passfile", message });
  return undefined;
}

/**
 * The environment, with the keys of ~/.aws/credentials (AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE) where there are none
 * in it.
 *
 * @throws {UsageError} If a profile was named that is not there.
 */
export async function withSharedCredentials(env: Environment): Promise<Environment> {
  const set = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"];
  if (set.some((name) => (env[name] ?? "") !== "")) return env;
  const named = env.AWS_SHARED_CREDENTIALS_FILE || undefined;
  const profile = env.AWS_PROFILE || "default";
  const isAsked = named !== undefined || (env.AWS_PROFILE ?? "") !== "";
  const path = named ?? `${env.HOME || homedir()}/.aws/credentials`;
  let file: string;
  try {
    file = await readText("credentials file", path);
  } catch (error) {
    if (isAsked) throw error;
    return env;
  }
  const keys = readProfile(file, profile);
  if (keys.size === 0) {
    if (isAsked) throw new UsageError(`Cannot use ${path}: it has no profile "${profile}"`);
    return env;
  }
  return {
    ...env,
    AWS_ACCESS_KEY_ID: keys.get("aws_access_key_id"),
    AWS_SECRET_ACCESS_KEY: keys.get("aws_secret_access_key"),
    AWS_SESSION_TOKEN: keys.get("aws_session_token"),
  };
}

/** The settings of one section of an INI file. */
export function readProfile(file: string, profile: string): Map<string, string> {
  const values = new Map<string, string>();
  let section = "";
  for (const line of file.split(/\r?\n/)) {
    const header = /^\s*\[(?:profile\s+)?([^\]]+)\]/.exec(line);
    if (header !== null) section = header[1].trim();
    const setting = /^\s*([a-z_]+)\s*=\s*(.*?)\s*$/i.exec(line);
    if (setting !== null && section === profile) values.set(setting[1].toLowerCase(), setting[2]);
  }
  return values;
}

/** @throws {UsageError} If it cannot be read. */
export async function readText(what: string, path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    throw new UsageError(`Cannot read the ${what} ${path}: ${code ?? message}`);
  }
}
