/**
 * Where the source is and how to get in: from a `postgres://` URL and libpq's environment variables.
 *
 * First step of the write path. Pure but for one injected file reader (password file, certificates). What is not
 * understood is refused, never skipped; the password shows in no message, log or JSON.
 *
 * Source: PostgreSQL documentation, "Connection Strings", "Environment Variables", "SSL Support" (libpq, 14-18).
 *
 * @module
 */
import type { DriverTarget, DriverTls } from "../../ports/postgres_driver.ts";
import { findPassword } from "./password_file.ts";

/** libpq's `sslmode`. */
export type SslMode = "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";

const SSL_MODES: readonly string[] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
const DEFAULT_CONNECT_TIMEOUT_MS = 10_000;

/** What to make {@linkcode ConnectionOptions} of. */
export interface ConnectionInput {
  /** `postgres://user@host:port?sslmode=…`. Goes before `env`. */
  url?: string;
  /** Environment variables, for example `Deno.env.toObject()`. Only libpq's `PG…` names are looked at. */
  env?: Record<string, string | undefined>;
  /** Reads a password file or certificate. Needed only where one is named. */
  readTextFile?: (path: string) => Promise<string>;
}

/** Plain values of a connection, as {@linkcode resolveConnection} finds them. */
export interface ConnectionFields {
  host: string;
  port: number;
  user: string;
  password?: string;
  /** Only shown, for physical replication concerns no database. Default: the user. */
  database?: string;
  sslMode?: SslMode;
  /** PEM of the authorities to trust instead of the runtime's. */
  rootCertificate?: string;
  /** PEM of the client's certificate and key. */
  certificate?: string;
  key?: string;
  /** Default: `varve`. */
  applicationName?: string;
  /** Default: 10 s. */
  connectTimeoutMs?: number;
  /** Server settings for this session, as in libpq's `options`. */
  serverOptions?: string;
}

/** A source that can be connected to. Holds the password where neither logs nor JSON find it. */
export class ConnectionOptions {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly database: string;
  readonly sslMode: SslMode;
  readonly applicationName: string;
  readonly connectTimeoutMs: number;
  /** For logs, errors and the status page: no password, no certificate. */
  readonly description: string;
  readonly #fields: ConnectionFields;

  constructor(fields: ConnectionFields) {
    this.#fields = { ...fields };
    this.host = fields.host;
    this.port = fields.port;
    this.user = fields.user;
    this.database = fields.database ?? fields.user;
    this.sslMode = fields.sslMode ?? "prefer";
    this.applicationName = fields.applicationName ?? "varve";
    this.connectTimeoutMs = fields.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    const host = this.host.includes("/") || this.host.includes(":") ? `[${this.host}]` : this.host;
    this.description = `postgres://${
      encodeURIComponent(this.user)
    }@${host}:${this.port}?sslmode=${this.sslMode}`;
  }

  /**
   * What to hand to a driver, in the order to try, as libpq does: `allow` asks for encryption only where the server does
   * not let in without, `prefer` goes without where it fails.
   *
   * @param startup Start-up parameters besides the usual ones.
   */
  targets(startup: Record<string, string>): DriverTarget[] {
    const target: DriverTarget = {
      host: this.host,
      port: this.port,
      user: this.user,
      password: this.#fields.password,
      database: this.database,
      parameters: { application_name: this.applicationName, ...startup },
    };
    if (this.#fields.serverOptions !== undefined) target.parameters.options = this.#fields.serverOptions;
    const encrypted = { ...target, tls: this.#tls() };
    switch (this.sslMode) {
      case "disable":
        return [target];
      case "allow":
        return [target, encrypted];
      case "prefer":
        return [encrypted, target];
      default:
        return [encrypted];
    }
  }

  #tls(): DriverTls {
    const { rootCertificate: authority, certificate, key } = this.#fields;
    // Like libpq: `require` with an authority at hand verifies as `verify-ca` does.
    const chain = this.sslMode === "verify-ca" || (this.sslMode === "require" && authority !== undefined);
    return {
      verify: this.sslMode === "verify-full" ? "chain-and-host" : chain ? "chain" : "none",
      authority,
      certificate,
      key,
      optional: this.sslMode === "prefer",
    };
  }
}

/** Parameters of a URL's query, and the environment variable of each. */
const PARAMETERS: Record<string, string | undefined> = {
  host: "PGHOST",
  port: "PGPORT",
  user: "PGUSER",
  password: "PGPASSWORD",
  passfile: "PGPASSFILE",
  dbname: "PGDATABASE",
  sslmode: "PGSSLMODE",
  sslrootcert: "PGSSLROOTCERT",
  sslcert: "PGSSLCERT",
  sslkey: "PGSSLKEY",
  application_name: "PGAPPNAME",
  connect_timeout: "PGCONNECT_TIMEOUT",
  options: "PGOPTIONS",
  channel_binding: "PGCHANNELBINDING",
  target_session_attrs: "PGTARGETSESSIONATTRS",
};

/**
 * Finds out where and how to connect, and reads the files named on the way.
 *
 * @throws {TypeError} If something is missing, malformed, or asks for what varve cannot do.
 */
export async function resolveConnection(input: ConnectionInput): Promise<ConnectionOptions> {
  const values = collect(input);
  const read = (what: string, path: string): Promise<string> => {
    if (input.readTextFile !== undefined) return input.readTextFile(path);
    throw new TypeError(`Cannot read the ${what} ${path}: no file reader was given`);
  };
  const { sslmode: sslMode, host, port, user } = checked(values);
  let password = values.get("password");
  const passfile = values.get("passfile");
  if (password === undefined && passfile !== undefined) {
    // Physical replication looks for the pseudo database "replication", as libpq does.
    password = findPassword(await read("password file", passfile), {
      host,
      port,
      database: "replication",
      user,
    });
  }
  const file = (name: string, what: string) => {
    const path = values.get(name);
    return path === undefined ? undefined : read(what, path);
  };
  const trustsSystem = values.get("sslrootcert") === "system";
  const timeout = values.get("connect_timeout");
  return new ConnectionOptions({
    host,
    port,
    user,
    password,
    database: values.get("dbname"),
    sslMode,
    rootCertificate: trustsSystem ? undefined : await file("sslrootcert", "root certificate"),
    certificate: await file("sslcert", "client certificate"),
    key: await file("sslkey", "client key"),
    applicationName: values.get("application_name"),
    connectTimeoutMs: timeout === undefined ? undefined : seconds(timeout),
    serverOptions: values.get("options"),
  });
}

/** All given values by their name in a URL's query; the URL goes before the environment. */
function collect({ url, env = {} }: ConnectionInput): Map<string, string> {
  const values = new Map<string, string>();
  for (const [name, variable] of Object.entries(PARAMETERS)) {
    const value = variable === undefined ? undefined : env[variable];
    if (value !== undefined && value !== "") values.set(name, value);
  }
  if (url === undefined) return values;
  for (const [name, value] of parseUrl(url)) {
    if (!(name in PARAMETERS)) throw new TypeError(`Cannot use the source URL: unknown parameter "${name}"`);
    values.set(name, value);
  }
  return values;
}

/** `scheme://user:password@host:port/database?query`, all but the scheme optional; the host may be an IPv6 one. */
const URL_FORM =
  /^postgres(?:ql)?:\/\/(?:([^:@/?#]*)(?::([^/?#]*))?@)?(?:\[([^\]]*)\]|([^:/?#]*))(?::(\d*))?(?:\/([^?#]*))?(?:\?([^#]*))?$/;

/**
 * Takes a URL apart: by hand, because the URL class takes no user without a host, as libpq does. No message here repeats
 * the URL: it may hold a password.
 */
function parseUrl(text: string): Map<string, string> {
  if (!/^postgres(ql)?:\/\//.test(text)) {
    throw new TypeError(`Cannot use the source URL: expected it to start with "postgres://"`);
  }
  const [, user, password, address, name, port, dbname, query] = URL_FORM.exec(text) ?? malformed();
  const values = new Map<string, string>();
  for (const [key, value] of Object.entries({ user, password, host: address ?? name, port, dbname })) {
    if (value !== undefined && value !== "") values.set(key, decoded(value));
  }
  for (const pair of (query ?? "").split("&")) {
    if (pair === "") continue;
    const at = pair.indexOf("=");
    if (at < 1) malformed();
    if (at + 1 < pair.length) values.set(decoded(pair.slice(0, at)), decoded(pair.slice(at + 1)));
  }
  return values;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return malformed();
  }
}

function malformed(): never {
  throw new TypeError(
    `Cannot use the source URL: expected the form "postgres://user:password@host:port/database?name=value", ` +
      `with special characters percent-encoded`,
  );
}

function checked(
  values: Map<string, string>,
): { host: string; port: number; user: string; sslmode: SslMode } {
  const host = values.get("host") ?? "localhost";
  if (host.includes(",")) throw new TypeError("Cannot use several hosts: expected one source");
  const port = Number(values.get("port") ?? 5432);
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new TypeError(`Cannot use port "${values.get("port")}": expected a number from 1 to 65535`);
  }
  const user = values.get("user");
  if (user === undefined) {
    throw new TypeError("Cannot connect without a user: name one in the URL or in PGUSER");
  }
  const sslmode = values.get("sslmode") ?? "prefer";
  if (!SSL_MODES.includes(sslmode)) {
    throw new TypeError(`Cannot use sslmode "${sslmode}": expected one of ${SSL_MODES.join(", ")}`);
  }
  if (values.get("sslrootcert") === "system" && sslmode !== "verify-full") {
    throw new TypeError(`Cannot use sslrootcert=system with sslmode=${sslmode}: expected verify-full`);
  }
  if (values.get("channel_binding") === "require") {
    throw new TypeError("Cannot use channel_binding=require: not supported, use sslmode=verify-full");
  }
  const attributes = values.get("target_session_attrs") ?? "any";
  if (attributes !== "any") {
    throw new TypeError(
      `Cannot use target_session_attrs=${attributes}: expected one host, whatever its role`,
    );
  }
  return { host, port, user, sslmode: sslmode as SslMode };
}

/** libpq's `connect_timeout`: whole seconds; its 0 is no limit, which we read as a day. */
function seconds(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) {
    throw new TypeError(`Cannot use connect_timeout "${text}": expected a number of seconds`);
  }
  return (value === 0 ? 86_400 : value) * 1000;
}
