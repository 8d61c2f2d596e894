/**
 * The repository's own source files and what they import, for the tests that hold them to the rules.
 *
 * @module
 */
import { runCommand } from "../support/processes.ts";

/** Absolute, with a slash at its end. */
export const ROOT: string = decodeURIComponent(new URL("../../", import.meta.url).pathname);

/** TypeScript files under these folders or files of the repository, as paths from its root, sorted. */
export function sourceFiles(...starts: string[]): string[] {
  const found: string[] = [];
  const visit = (path: string) => {
    const info = Deno.lstatSync(ROOT + path);
    if (info.isFile && path.endsWith(".ts")) found.push(path);
    if (!info.isDirectory) return;
    for (const entry of Deno.readDirSync(ROOT + path)) {
      if (!entry.name.startsWith(".") && entry.name !== "node_modules") visit(`${path}/${entry.name}`);
    }
  };
  for (const start of starts) {
    try {
      visit(start);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return found.sort();
}

export function readSource(path: string): string {
  return Deno.readTextFileSync(ROOT + path);
}

/** The text without comments, lines kept. Good enough for code: a comment opener inside a string is not expected. */
export function withoutComments(source: string): string {
  return source
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ""))
    .replace(/(^|\s)\/\/.*$/gm, "$1");
}

/** One import, export-from or dynamic import. */
export interface Import {
  from: string;
  /** 1-based. */
  line: number;
  /** What it names: a path from the repository's root, or `npm:…`, `node:…`, a URL. */
  to: string;
  dynamic: boolean;
}

interface InfoModule {
  specifier: string;
  dependencies?: {
    specifier: string;
    isDynamic?: boolean;
    code?: { specifier?: string; span: { start: { line: number } } };
    type?: { specifier?: string; span: { start: { line: number } } };
  }[];
}

/** Every import of these files, as Deno's own parser sees them: types and dynamic ones included. */
export async function importsOf(files: string[]): Promise<Import[]> {
  const directory = await Deno.makeTempDir();
  try {
    const list = `${directory}/list.ts`;
    const base = new URL("../../", import.meta.url).href;
    await Deno.writeTextFile(list, files.map((file) => `import "${base}${file}";\n`).join(""));
    const { stdout } = await runCommand(Deno.execPath(), ["info", "--json", "--no-lock", list]);
    const modules = (JSON.parse(stdout) as { modules: InfoModule[] }).modules;
    const wanted = new Set(files);
    return modules.flatMap((module) => {
      const from = module.specifier.replace(base, "");
      if (!wanted.has(from)) return [];
      return (module.dependencies ?? []).map((dependency): Import => {
        const edge = dependency.code ?? dependency.type;
        const to = (edge?.specifier ?? dependency.specifier).replace(base, "");
        return { from, line: (edge?.span.start.line ?? 0) + 1, to, dynamic: dependency.isDynamic ?? false };
      });
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
