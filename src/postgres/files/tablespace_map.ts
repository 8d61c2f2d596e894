/**
 * `tablespace_map`: where the user tablespaces of a base backup are, when their links are not part of it.
 *
 * Bootstrap and `import` read it, restore may write it. Text, a line per tablespace: its oid, one space, the path;
 * line breaks and backslashes in a path have a backslash before them (`read_tablespace_map`,
 * access/transam/xlogrecovery.c 14-18).
 *
 * @module
 */
import { CorruptionError } from "../../errors.ts";

export const TABLESPACE_MAP = "tablespace_map";

/**
 * Reads a tablespace map.
 *
 * @returns Path by tablespace oid, in the file's order.
 * @throws {CorruptionError} If a line is malformed or the last one not ended.
 */
export function parseTablespaceMap(bytes: Uint8Array): Map<number, string> {
  const tablespaces = new Map<number, string>();
  for (const line of splitLines(new TextDecoder().decode(bytes))) {
    const match = /^([0-9]{1,10}) ([^]+)$/.exec(line);
    const oid = match === null ? 0 : Number(match[1]);
    if (match === null || oid === 0 || oid > 0xffffffff) {
      throw new CorruptionError("Cannot read tablespace map: malformed line", {
        object: TABLESPACE_MAP,
        expected: "an oid, a space and a path",
        got: JSON.stringify(line.slice(0, 200)),
      });
    }
    tablespaces.set(oid, match[2]);
  }
  return tablespaces;
}

/** Lines with their backslashes undone. A line ends at a line break that has none before it. */
function splitLines(text: string): string[] {
  const lines: string[] = [];
  let line = "";
  let escaped = false;
  for (const char of text) {
    if (escaped) {
      line += char;
      escaped = false;
    } else if (char === "\\") escaped = true;
    else if (char !== "\n" && char !== "\r") line += char;
    else if (line !== "") {
      lines.push(line);
      line = "";
    }
  }
  if (line !== "" || escaped) {
    throw new CorruptionError("Cannot read tablespace map: the last line is not ended", {
      object: TABLESPACE_MAP,
    });
  }
  return lines;
}

/** Writes a tablespace map. */
export function formatTablespaceMap(tablespaces: ReadonlyMap<number, string>): string {
  let text = "";
  for (const [oid, path] of tablespaces) text += `${oid} ${path.replace(/[\n\r\\]/g, "\\$&")}\n`;
  return text;
}
