/**
 * The bundle of mod.ts is for edge workers too: it reaches no built-in and no package, and runs where there are none.
 *
 * @module
 */
import { bundle, entryPoints } from "../../tools/build.ts";
import { assert, suite } from "../support/harness.ts";
import { runCommand } from "../support/processes.ts";
import { temporaryDirectory } from "../support/temp.ts";

const test = suite("runtimes/worker");

/** What a bundle and its chunks import from elsewhere. */
async function importsOf(entry: string, directory: string): Promise<string[]> {
  const reached = new Set([new URL(entry, `file://${directory}/`).href]);
  const others: string[] = [];
  for (const url of reached) {
    const source = await Deno.readTextFile(new URL(url));
    for (const [, specifier] of source.matchAll(/^(?:import|export|\} from)\b[^;]*?"([^"]+)";$/gm)) {
      if (/^\.\.?\//.test(specifier)) reached.add(new URL(specifier, url).href);
      else others.push(specifier);
    }
  }
  return others;
}

test("mod.js and the chunks that it imports import nothing else", async () => {
  await using directory = await temporaryDirectory("worker");
  await bundle(await entryPoints(), directory.path);
  assert.equal(await importsOf("mod.js", directory.path), []);
  const ofFiles = await importsOf("files.js", directory.path);
  assert.ok(ofFiles.some((specifier) => specifier.startsWith("node:")), "imports are found where they are");
});

test("mod.ts can be imported from a URL, and attaches to a store", async () => {
  await using directory = await temporaryDirectory("url");
  const root = new URL("../../", import.meta.url);
  const served: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const path = new URL(request.url).pathname.slice(1);
    served.push(path);
    const text = await Deno.readTextFile(new URL(path, root)).catch(() => undefined);
    return text === undefined
      ? new Response("", { status: 404 })
      : new Response(text, { headers: { "content-type": "application/typescript" } });
  });
  const url = `http://127.0.0.1:${server.addr.port}/mod.ts`;
  await Deno.writeTextFile(
    directory.join("main.ts"),
    `import { attachReader, MemoryStore, NotFoundError, systemClock } from "${url}";
     const error = await attachReader({ store: new MemoryStore(), clock: systemClock }).catch((error) => error);
     console.log(error instanceof NotFoundError, error.code);`,
  );
  const output = await runCommand(Deno.execPath(), [
    "run",
    "--no-config",
    "--no-lock",
    `--allow-import=127.0.0.1:${server.addr.port}`,
    directory.join("main.ts"),
  ], { env: { DENO_DIR: directory.join("deno"), HOME: directory.path, NO_COLOR: "1" }, cwd: directory.path });
  await server.shutdown();
  assert.is(output.stdout, "true NOT_FOUND\n");
  assert.ok(served.includes("src/lsn.ts"));
  assert.equal(served.filter((path) => /^src\/(deps|cli|status)\//.test(path)), []);
});

test.run();
