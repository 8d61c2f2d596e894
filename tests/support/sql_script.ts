/**
 * Splits an SQL script into statements, so that each can be sent as a query of its own: several in one query are one
 * transaction, in which VACUUM and its like refuse to run.
 *
 * @module
 */

/** Everything in which a semicolon does not end a statement. */
const TOKENS =
  /--[^\n]*|\/\*[\s\S]*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$[A-Za-z_]*\$)[\s\S]*?\1|;|[^;'"$/-]+|[\s\S]/g;

/** The statements of a script, without their semicolons and without empty ones. Comments stay where they are. */
export function splitStatements(script: string): string[] {
  const statements: string[] = [];
  let current = "";
  let hasCode = false;
  for (const [token] of script.matchAll(TOKENS)) {
    if (token !== ";") {
      current += token;
      hasCode ||= !/^(--|\/\*|\s*$)/.test(token);
      continue;
    }
    if (hasCode) statements.push(current.trim());
    current = "";
    hasCode = false;
  }
  if (hasCode) statements.push(current.trim());
  return statements;
}
