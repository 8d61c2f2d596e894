/**
 * Runs an example as a person does: a process of its own, with arguments.
 *
 * @module
 */
import { runCommand } from "../support/processes.ts";

const ROOT = decodeURIComponent(new URL("../../", import.meta.url).pathname);

/** Arguments that come before an example's path. */
export const DENO_RUN = ["run", "-A", "--no-check", "--no-lock"];

/** The path of an example, or of anything below `examples/`. */
export function examplePath(name: string): string {
  return `${ROOT}examples/${name}`;
}

/** What it prints. @throws {Error} If it ends with another code than 0. */
export async function runExample(name: string, args: string[], options: string[] = []): Promise<string> {
  const signal = AbortSignal.timeout(60_000);
  const { stdout } = await runCommand(
    Deno.execPath(),
    [...DENO_RUN, ...options, examplePath(name), ...args],
    {
      cwd: ROOT,
      signal,
    },
  );
  return stdout;
}
