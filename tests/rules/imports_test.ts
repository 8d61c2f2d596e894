/**
 * Holds src and mod.ts to the import table of the design:
 * `lsn, errors <- bytes, ports <- flow, postgres <- layer <- timeline <- write | read <- upkeep, restore <- varve.ts
 * <- status, mod.ts, cli`, with `store` beside the engine and `deps` as the only door to third parties.
 */
import { assert, suite } from "../support/harness.ts";
import { type Import, importsOf, readSource, sourceFiles, withoutComments } from "./source_files.ts";

const test = suite("rules/imports");

const LEAVES = ["lsn", "errors"];
const LOW = [...LEAVES, "bytes", "ports", "flow", "postgres", "layer", "timeline"];
const ENGINE = [...LOW, "write", "read", "upkeep", "restore"];

/** Each part of src, and the parts that its files may import besides their own. */
const MAY_IMPORT: Record<string, string[]> = {
  lsn: [],
  errors: ["lsn"],
  bytes: LEAVES,
  ports: [...LEAVES, "bytes"],
  flow: [...LEAVES, "bytes", "ports"],
  postgres: [...LEAVES, "bytes"],
  layer: [...LEAVES, "bytes", "ports", "flow", "postgres"],
  timeline: [...LEAVES, "bytes", "ports", "flow", "postgres", "layer"],
  write: LOW,
  read: LOW,
  upkeep: [...LOW, "write", "read"],
  restore: [...LOW, "write", "read"],
  store: [...LEAVES, "bytes", "ports", "flow", "deps"],
  deps: ENGINE,
  varve: [...ENGINE, "store"],
  status: [...ENGINE, "varve", "deps"],
  mod: [...ENGINE, "store", "varve"],
  cli: [...ENGINE, "store", "deps", "varve", "status", "mod"],
};

/** Where a runtime's own API may be touched: these, and nothing else under src. */
const RUNTIME_FILES = /^src\/(deps\/|cli\/|store\/files\.ts$)/;

/** What mod.ts must never reach without a dynamic import: an edge worker could not load it. */
const NOT_PORTABLE = /^(npm:|node:|src\/deps\/|src\/cli\/|src\/store\/files\.ts$)/;

/** Time and chance come through ports/clock.ts; files that implement it for a runtime are named here. */
const CLOCK_USERS = /^src\/(deps\/|cli\/|store\/|status\/|flow\/system_clock\.ts$)/;
const CLOCK_CALLS =
  /\b(Date\.now\(|new Date\(\)|performance\.now\(|Math\.random\(|set(Timeout|Interval)\(|AbortSignal\.timeout\(|crypto\.(randomUUID|getRandomValues)\()/;

const files = sourceFiles("mod.ts", "src");
const imports = await importsOf(files);

/** `src/postgres/redo/heap.ts` is of part `postgres`, `src/lsn.ts` of `lsn`, `mod.ts` of `mod`. */
function partOf(path: string): string {
  return path.replace(/^src\//, "").split("/")[0].replace(/\.ts$/, "");
}

function isOurs(to: string): boolean {
  return to.startsWith("src/") || to === "mod.ts";
}

function show(found: Import[]): string[] {
  return found.map(({ from, line, to }) => `${from}:${line} imports ${to}`);
}

test("every file belongs to a part of the import table", () => {
  assert.equal(files.filter((file) => !(partOf(file) in MAY_IMPORT)), []);
  assert.ok(files.length > 0);
});

test("imports go downwards only", () => {
  const upwards = imports.filter(({ from, to }) => {
    const [part, target] = [partOf(from), partOf(to)];
    return isOurs(to) && part !== target && !(MAY_IMPORT[part] ?? []).includes(target);
  });
  assert.equal(show(upwards), []);
  assert.ok(imports.length > 0);
});

test("files import each other by relative path, and nothing outside src", () => {
  const outside = imports.filter(({ to }) => !isOurs(to) && !/^(npm|node):/.test(to));
  assert.equal(show(outside), []);
});

test("npm: stays in src/deps, pinned exactly, one package a file", () => {
  const packages = imports.filter(({ to }) => to.startsWith("npm:"));
  assert.equal(show(packages.filter(({ from }) => !from.startsWith("src/deps/"))), []);
  const pinned = /^npm:\/?((?:@[^/@]+\/)?[^/@]+)@\d+\.\d+\.\d+(-[\w.]+)?(\/.*)?$/;
  assert.equal(show(packages.filter(({ to }) => !pinned.test(to))), []);
  const homes = new Map<string, Set<string>>();
  for (const { from, to } of packages) {
    const name = pinned.exec(to)![1];
    homes.set(name, (homes.get(name) ?? new Set()).add(from));
  }
  assert.equal([...homes].filter(([, homes]) => homes.size > 1).map(([name]) => name), []);
});

test("node: stays in src/deps, src/store/files.ts and src/cli", () => {
  const builtIns = imports.filter(({ from, to }) => to.startsWith("node:") && !RUNTIME_FILES.test(from));
  assert.equal(show(builtIns), []);
});

test("Hono stays in src/status", () => {
  const users = imports.filter(({ to }) => /^src\/deps\/hono/.test(to));
  assert.equal(show(users.filter(({ from }) => !/^src\/(status|deps)\//.test(from))), []);
});

test("Deno, Bun and process stay in src/deps, src/store/files.ts and src/cli", () => {
  const core = files.filter((file) => !RUNTIME_FILES.test(file));
  assert.equal(linesThatMatch(core, /\b(Deno|Bun|process)\s*[.[]/), []);
});

test("time and chance come through ports/clock.ts", () => {
  const engine = files.filter((file) => !CLOCK_USERS.test(file));
  assert.equal(linesThatMatch(engine, CLOCK_CALLS), []);
});

test("mod.ts reaches nothing that an edge worker cannot load", () => {
  const statically = Map.groupBy(imports.filter(({ dynamic }) => !dynamic), ({ from }) => from);
  const reached = new Set(["mod.ts"]);
  const found: Import[] = [];
  for (const path of reached) {
    for (const edge of statically.get(path) ?? []) {
      if (NOT_PORTABLE.test(edge.to)) found.push(edge);
      else reached.add(edge.to);
    }
  }
  assert.equal(show(found), []);
});

function linesThatMatch(paths: string[], pattern: RegExp): string[] {
  return paths.flatMap((path) =>
    withoutComments(readSource(path)).split("\n")
      .map((line, i) => pattern.test(line) ? `${path}:${i + 1}: ${line.trim()}` : "")
      .filter((line) => line !== "")
  );
}

test.run();
