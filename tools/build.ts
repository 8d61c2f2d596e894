/**
 * `deno task build`: bundles for Node 20 and later, and Bun, in `dist/`.
 *
 * One ES module per entry point of deno.json, with what they share in chunks, so that an error class is the same class
 * whichever of them threw it. An inline `npm:name@version` becomes the bare `name`, and `dist/package.json` says which
 * versions belong to them: `npm install` there, or publish the folder.
 *
 * @module
 */
import { build, type Plugin, stop } from "../src/deps/esbuild.ts";

const ROOT = decodeURIComponent(new URL("../", import.meta.url).pathname);

interface DenoJson {
  version: string;
  license: string;
  exports: Record<string, string>;
}

/** `npm:@scope/name@1.2.3/path` in parts. */
const NPM_SPECIFIER = /^npm:\/?((?:@[^/@]+\/)?[^/@]+)@([^/]+)(\/.*)?$/;

/**
 * Entry points by the name of their bundle: `./s3` of deno.json becomes `s3.js`, `.` becomes `mod.js`; and `varve.js`, the
 * command.
 */
export async function entryPoints(): Promise<Record<string, string>> {
  const { exports } = await denoJson();
  const modules = Object.entries(exports).map(([name, path]) => [bundleName(name), ROOT + path.slice(2)]);
  return { ...Object.fromEntries(modules), varve: `${ROOT}tools/node_bin.ts` };
}

/**
 * Bundles entry points (name to path) into a directory, with a package.json for what they import from npm.
 *
 * @returns Names of the packages with their versions.
 */
export async function bundle(
  entries: Record<string, string>,
  directory: string,
): Promise<Record<string, string>> {
  const packages = new Map<string, string>();
  try {
    await build({
      entryPoints: entries,
      outdir: directory,
      absWorkingDir: ROOT,
      bundle: true,
      splitting: true,
      format: "esm",
      platform: "node",
      target: "node20",
      // A module of a bundle is never the program; varve.js is.
      define: { "import.meta.main": "false" },
      chunkNames: "chunks/[name]-[hash]",
      sourcemap: true,
      logLevel: "warning",
      plugins: [npmToBare(packages)],
    });
  } finally {
    await stop();
  }
  const dependencies = Object.fromEntries([...packages].sort());
  if ("varve" in entries) await makeExecutable(`${directory}/varve.js`);
  await Deno.writeTextFile(`${directory}/package.json`, await packageJson(dependencies));
  return dependencies;
}

async function makeExecutable(path: string): Promise<void> {
  await Deno.writeTextFile(path, "#!/usr/bin/env node\n" + await Deno.readTextFile(path));
  await Deno.chmod(path, 0o755);
}

function npmToBare(packages: Map<string, string>): Plugin {
  return {
    name: "npm-to-bare",
    setup({ onResolve }) {
      onResolve({ filter: /^npm:/ }, ({ path }) => {
        const match = NPM_SPECIFIER.exec(path);
        if (match === null) return { errors: [{ text: `Cannot bundle ${path}: expected npm:name@version` }] };
        const [, name, version, inside = ""] = match;
        packages.set(name, version);
        return { path: name + inside, external: true };
      });
    },
  };
}

async function packageJson(dependencies: Record<string, string>): Promise<string> {
  const { version, license, exports } = await denoJson();
  const names = Object.keys(exports);
  const content = {
    name: "varve",
    version,
    license,
    type: "module",
    engines: { node: ">=20.6" },
    exports: Object.fromEntries(names.map((name) => [name, `./${bundleName(name)}.js`])),
    bin: { varve: "./varve.js" },
    dependencies,
  };
  return JSON.stringify(content, null, 2) + "\n";
}

async function denoJson(): Promise<DenoJson> {
  return JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));
}

function bundleName(name: string): string {
  return name === "." ? "mod" : name.slice(2);
}

if (import.meta.main) {
  const directory = `${ROOT}dist`;
  await Deno.remove(directory, { recursive: true }).catch(() => {});
  const entries = await entryPoints();
  const packages = await bundle(entries, directory);
  for (const name of Object.keys(entries)) {
    const { size } = await Deno.stat(`${directory}/${name}.js`);
    console.log(`dist/${name}.js  ${size} bytes`);
  }
  console.log(
    `from npm: ${Object.entries(packages).map(([name, version]) => `${name}@${version}`).join(", ")}`,
  );
}
