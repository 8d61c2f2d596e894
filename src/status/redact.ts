/**
 * The last door before a text leaves the process: no password, key or token goes through.
 *
 * Descriptions and messages are made without secrets already; here is what holds when somebody else's text (a driver's
 * error, a URL that a user hands in) is not.
 *
 * @module
 */

const HIDDEN = "***";

/** `scheme://user:password@host`: the password may itself hold colons, and by mistake slashes and at signs. */
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/?#@]*):[^\s?#"'<>]*@/gi;

/** `password=x`, `"secretKey": "x"` and the like, in URLs, connection strings and JSON. */
const NAMED_SECRET =
  /((?:[a-z0-9]+[-_.])*(?:password|passwd|pwd|secret|token|credential|signature|(?:access|secret|private|ssl)[-_]?key(?:[-_]?id)?)[a-z]*["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s&,;"'}]+)/gi;

const PRIVATE_KEY = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;

const BEARER = /\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}/gi;

/** The text with everything that looks like a secret replaced. */
export function redact(text: string): string {
  return text
    .replace(PRIVATE_KEY, HIDDEN)
    .replace(URL_PASSWORD, `$1:${HIDDEN}@`)
    .replace(BEARER, `$1 ${HIDDEN}`)
    .replace(NAMED_SECRET, `$1${HIDDEN}`);
}
