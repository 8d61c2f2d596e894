/**
 * libpq's password file: lines `host:port:database:user:password`, `*` for any, `\` before `:` and `\`.
 *
 * Source: PostgreSQL documentation, "The Password File".
 *
 * @module
 */

/** What to look up. */
export interface PasswordQuery {
  host: string;
  port: number;
  database: string;
  user: string;
}

/** The password of the first line that fits, or undefined. Lines that are none are passed over, as libpq does. */
export function findPassword(file: string, query: PasswordQuery): string | undefined {
  // libpq looks up Unix sockets under the name of the local machine.
  const host = query.host.startsWith("/") ? "localhost" : query.host;
  const wanted = [host, String(query.port), query.database, query.user];
  for (const line of file.split(/\r?\n/)) {
    if (line.startsWith("#")) continue;
    const fields = splitLine(line);
    if (fields.length < 5) continue;
    if (wanted.every((value, index) => fields[index] === "*" || unescapeField(fields[index]) === value)) {
      return unescapeField(fields[4]);
    }
  }
  return undefined;
}

/** The four fields before the password, and the rest. Escapes stay, so that `\*` is not taken for `*`. */
function splitLine(line: string): string[] {
  const fields: string[] = [];
  let start = 0;
  for (let at = 0; at < line.length && fields.length < 4; at++) {
    if (line[at] === "\\") at++;
    else if (line[at] === ":") {
      fields.push(line.slice(start, at));
      start = at + 1;
    }
  }
  fields.push(line.slice(start));
  return fields;
}

function unescapeField(field: string): string {
  return field.replace(/\\(.)/g, "$1");
}
