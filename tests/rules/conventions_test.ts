/** What a reader of any file may count on. */
import { assert, suite } from "../support/harness.ts";
import { readSource, sourceFiles } from "./source_files.ts";

const test = suite("rules/conventions");

const sources = sourceFiles("mod.ts", "src");
const tests = sourceFiles("tests").filter((file) => file.endsWith("_test.ts"));
const everything = sourceFiles("mod.ts", "src", "tests", "examples");
/** This file, which has to name what it forbids. */
const SELF = "tests/rules/conventions_test.ts";

test("every source file opens with a comment that says what it is", () => {
  assert.equal(sources.filter((file) => !readSource(file).startsWith("/**")), []);
});

test("file names are snake case", () => {
  assert.equal(everything.filter((file) => !/^([a-z0-9_]+\/)*[a-z0-9_]+\.ts$/.test(file)), []);
});

test("every test goes through the harness and runs its suite", () => {
  const wrong = tests.filter((file) => {
    const source = readSource(file);
    return !source.includes('/harness.ts"') || !/^\s*\w+\.run\(\);$/m.test(source);
  });
  assert.equal(wrong, []);
  assert.ok(tests.length > 0);
});

test("nothing is left for later, and nothing re-exports wholesale", () => {
  const unfinished = everything.filter((file) =>
    file !== SELF && /\b(TODO|FIXME|XXX)\b/.test(readSource(file))
  );
  assert.equal(unfinished, []);
  assert.equal(sources.filter((file) => /^export \* from/m.test(readSource(file))), []);
});

test.run();
