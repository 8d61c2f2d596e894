/**
 * The READMEs are true: tasks, files, options and code that they name exist.
 *
 * @module
 */
import { assert, suite } from "../support/harness.ts";
import { runCommand } from "../support/processes.ts";
import { temporaryDirectory } from "../support/temp.ts";

const test = suite("examples/readme");

const ROOT = new URL("../../", import.meta.url);
const readme = await Deno.readTextFile(new URL("README.md", ROOT));

function exists(path: string, base: URL): boolean {
  try {
    Deno.statSync(new URL(path, base));
    return true;
  } catch {
    return false;
  }
}

test("README.md begins with what, why and the two commands", () => {
  const beginning = readme.split("\n").slice(0, 16).join("\n");
  assert.match(beginning, "npx -y deno@2 task demo");
  assert.match(beginning, "npx -y deno@2 task test");
});

test("README.md names tasks that deno.json has", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", ROOT)));
  const named = [...readme.matchAll(/(?:deno|deno@2) task ([a-z]+)/g)].map(([, name]) => name);
  assert.ok(named.length >= 4);
  assert.equal(named.filter((name) => !(name in tasks)), []);
});

test("README.md and src/README.md name files that are there", async () => {
  const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map(([, path]) => path).filter((path) =>
    !/^https?:/.test(path)
  );
  const paths = [
    ...readme.matchAll(/`((?:src|examples|tests|tools)\/[\w./]+|Dockerfile|compose\.yml|mod\.ts)`/g),
  ]
    .map(([, path]) => path);
  assert.ok(links.length > 0 && paths.length > 0);
  assert.equal([...links, ...paths].filter((path) => !exists(path, ROOT)), []);
  const map = await Deno.readTextFile(new URL("src/README.md", ROOT));
  const inMap = [...map.matchAll(/(?<![\w/])((?:[a-z_]+\/)+(?:[a-z_]+\.ts)?)(?![\w/])/g)].map(([, path]) =>
    path
  );
  const folders = ["", "write/", "postgres/", "../"].map((folder) => new URL(`src/${folder}`, ROOT));
  assert.ok(inMap.length > 10);
  assert.equal(inMap.filter((path) => !folders.some((folder) => exists(path, folder))), []);
});

test("README.md shows verbs and options that the command line has", async () => {
  const cli = decodeURIComponent(new URL("src/cli/main.ts", ROOT).pathname);
  const help = async (...args: string[]) =>
    (await runCommand(Deno.execPath(), ["run", "-A", "--no-check", cli, ...args])).stdout;
  const commands = [...readme.matchAll(/^varve ([a-z]+) (.*)$/gm)];
  assert.ok(commands.length >= 5);
  for (const [line, verb, rest] of commands) {
    const text = await help(verb, "--help");
    const options = [...rest.replace(/#.*/, "").matchAll(/--[a-z-]+/g)].map(([option]) => option);
    assert.equal(options.filter((option) => !text.includes(option)), [], line);
  }
});

test("README.md's TypeScript type-checks", async () => {
  const blocks = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code);
  assert.ok(blocks.length > 0);
  await using directory = await temporaryDirectory("readme");
  for (const [index, code] of blocks.entries()) {
    const path = directory.join(`block_${index}.ts`);
    await Deno.writeTextFile(path, code.replaceAll('from "./', `from "${ROOT.href}`));
    await runCommand(Deno.execPath(), ["check", "--quiet", "--no-lock", path]);
  }
});

test.run();
