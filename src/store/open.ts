/**
 * Stores by URL, as `--store` takes them. The adapter is imported when it is needed: who uses a directory never loads
 * the S3 client.
 * ```
 * file:///var/lib/varve[?fsync=off][&sync-reads=65536]
 * s3://bucket[/prefix][?endpoint=http://host:9000][&region=eu-central-1][&path-style=true|false][&anonymous=true]
 * memory:
 * ```
 * S3 credentials come from the environment, never from the URL, so that the URL can be shown.
 *
 * @module
 */
import { VarveError } from "../errors.ts";
import type { Clock } from "../ports/clock.ts";
import type { ObjectStore } from "../ports/object_store.ts";
import { checkKey } from "./keys.ts";

/** What a store's URL says. */
export type StoreLocation =
  | { kind: "files"; path: string; fsync: boolean; syncReadLimit: number }
  | {
    kind: "s3";
    bucket: string;
    prefix: string;
    endpoint?: string;
    region?: string;
    pathStyle?: boolean;
    anonymous: boolean;
  }
  | { kind: "memory" };

/** Environment variables by name, as far as they are set. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Options of {@linkcode openStore}. */
export interface OpenStoreOptions {
  /** Default: the real one. */
  clock?: Clock;
}

const FORMS = "Give file:///directory, s3://bucket/prefix?endpoint=https://host, or memory: as the store.";

/**
 * Reads a store's URL. Pure.
 *
 * @throws {VarveError} Code `USAGE`, naming what is wrong without repeating what may be a secret.
 */
export function parseStoreUrl(text: string): StoreLocation {
  if (!URL.canParse(text)) throw usage("it is no URL");
  const url = new URL(text);
  if (url.username !== "" || url.password !== "") {
    throw usage("it has credentials in it", "Put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.");
  }
  if (url.hash !== "") throw usage('it has a part behind "#"');
  switch (url.protocol) {
    case "file:":
      return parseFileUrl(text, url);
    case "s3:":
      return parseS3Url(url);
    case "memory:":
      if (url.pathname !== "") throw usage("memory: takes no path");
      readParameters(url, []);
      return { kind: "memory" };
    default:
      throw usage(`it begins with "${url.protocol}"`);
  }
}

function parseFileUrl(text: string, url: URL): StoreLocation {
  // "file:data" and "file://data" would quietly become "/data" and a host called "data".
  if (!/^file:\/\/\//i.test(text) || url.host !== "") {
    throw usage("a directory must be absolute: file:///directory");
  }
  const { fsync, "sync-reads": syncReads } = readParameters(url, ["fsync", "sync-reads"]);
  if (fsync !== undefined && fsync !== "on" && fsync !== "off") throw usage("fsync must be on or off");
  const syncReadLimit = Number(syncReads ?? 0);
  if (!Number.isSafeInteger(syncReadLimit) || syncReadLimit < 0) {
    throw usage("sync-reads must be a number of bytes");
  }
  let path: string;
  try {
    path = decodeURIComponent(url.pathname);
  } catch {
    throw usage("its path is not well encoded");
  }
  if (path.includes("\0")) throw usage("its path is not well encoded");
  return { kind: "files", path, fsync: fsync !== "off", syncReadLimit };
}

function parseS3Url(url: URL): StoreLocation {
  const parameters = readParameters(url, ["endpoint", "region", "path-style", "anonymous"]);
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(url.hostname) || url.port !== "") {
    throw usage("the bucket's name must have 3 to 63 lower-case letters, digits, dots and hyphens");
  }
  const prefix = url.pathname.replace(/^\/+|\/+$/g, "");
  if (prefix !== "") {
    try {
      checkKey(prefix);
    } catch (error) {
      throw usage(`its prefix is not usable: ${(error as Error).message}`);
    }
  }
  const { endpoint, region } = parameters;
  if (endpoint !== undefined) checkEndpoint(endpoint, "the endpoint");
  return {
    kind: "s3",
    bucket: url.hostname,
    prefix,
    endpoint,
    region,
    pathStyle: parseBoolean("path-style", parameters["path-style"]),
    anonymous: parseBoolean("anonymous", parameters.anonymous) ?? false,
  };
}

/** The query's parameters, each known and given once. */
function readParameters(url: URL, known: string[]): Record<string, string | undefined> {
  const given: Record<string, string | undefined> = {};
  for (const [name, value] of url.searchParams) {
    // Names only: a value in the wrong place may be a secret.
    if (!known.includes(name)) {
      throw usage(
        `"${name}" is no parameter of ${url.protocol}`,
        known.length === 0 ? FORMS : `Known are: ${known.join(", ")}.`,
      );
    }
    if (given[name] !== undefined) throw usage(`"${name}" is given twice`);
    given[name] = value;
  }
  return given;
}

function parseBoolean(name: string, value: string | undefined): boolean | undefined {
  if (value === undefined) return undefined;
  if (value === "true" || value === "false") return value === "true";
  throw usage(`${name} must be true or false`);
}

function checkEndpoint(endpoint: string, what: string): void {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  const isHttp = url?.protocol === "http:" || url?.protocol === "https:";
  if (
    url === undefined || !isHttp || url.username !== "" || url.password !== "" || url.search + url.hash !== ""
  ) {
    throw usage(`${what} must be http://host:port or https://host:port`);
  }
  if (url.pathname !== "/") throw usage(`${what} must not have a path`);
}

/**
 * Opens the store that a URL names. For S3, the environment gives `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`
 * (else `MINIO_ROOT_USER` and `MINIO_ROOT_PASSWORD`), `AWS_SESSION_TOKEN`, and where the URL says nothing
 * `AWS_REGION` (`AWS_DEFAULT_REGION`) and `AWS_ENDPOINT_URL_S3` (`AWS_ENDPOINT_URL`). Contacts nobody.
 *
 * The result neither retries nor measures: wrap it with `retrying()` and `measured()`.
 *
 * @throws {VarveError} Code `USAGE` for a URL or an environment that cannot be used.
 */
export async function openStore(
  text: string,
  env: Environment,
  options: OpenStoreOptions = {},
): Promise<ObjectStore> {
  const location = parseStoreUrl(text);
  const clock = options.clock ?? (await import("../deps/system_clock.ts")).systemClock;
  switch (location.kind) {
    case "memory": {
      const { MemoryStore } = await import("./memory.ts");
      return new MemoryStore({ clock });
    }
    case "files": {
      const { FilesStore } = await import("./files.ts");
      return await FilesStore.open({ ...location, clock });
    }
    case "s3": {
      const settings = s3Settings(location, env);
      const { MinioStore } = await import("./minio.ts");
      return new MinioStore({ ...settings, clock });
    }
  }
}

function s3Settings(location: StoreLocation & { kind: "s3" }, env: Environment) {
  const region = location.region ?? set(env.AWS_REGION) ?? set(env.AWS_DEFAULT_REGION) ?? "us-east-1";
  const fromEnvironment = set(env.AWS_ENDPOINT_URL_S3) ?? set(env.AWS_ENDPOINT_URL);
  if (location.endpoint === undefined && fromEnvironment !== undefined) {
    checkEndpoint(fromEnvironment, "AWS_ENDPOINT_URL");
  }
  const endpoint = location.endpoint ?? fromEnvironment ?? "https://s3.amazonaws.com";
  const { bucket, prefix, pathStyle, anonymous } = location;
  const settings = { bucket, prefix, pathStyle, region, endpoint };
  return anonymous ? settings : { ...settings, ...credentials(env) };
}

function credentials(env: Environment): { accessKey: string; secretKey: string; sessionToken?: string } {
  const pairs = [
    ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"],
    ["MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"],
  ];
  for (const [user, password] of pairs) {
    const accessKey = set(env[user]);
    const secretKey = set(env[password]);
    if (accessKey === undefined && secretKey === undefined) continue;
    if (accessKey === undefined || secretKey === undefined) {
      throw usage(
        `${accessKey === undefined ? user : password} is not set`,
        `Set both ${user} and ${password}.`,
      );
    }
    return {
      accessKey,
      secretKey,
      sessionToken: user.startsWith("AWS") ? set(env.AWS_SESSION_TOKEN) : undefined,
    };
  }
  throw usage(
    "there are no credentials in the environment",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or add ?anonymous=true for a public bucket.",
  );
}

/** An empty variable counts as not set, as libpq and the AWS tools have it. */
function set(value: string | undefined): string | undefined {
  return value === "" ? undefined : value;
}

function usage(problem: string, hint = FORMS): VarveError {
  return new VarveError("USAGE", `Cannot use the store's URL: ${problem}`, { hint });
}
