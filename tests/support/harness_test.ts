import { assert, suite } from "./harness.ts";
import { findProgram } from "./processes.ts";
import { temporaryDirectory } from "./temp.ts";

const test = suite("support/harness");

/** Suites that must fail, by what is wrong with them; and one that must pass. */
const BODIES = {
  passing: `test("a", () => assert.is(1, 1));`,
  "failing test": `test("a", () => assert.is(1, 2));`,
  "failing promise": `test("a", async () => { await null; assert.equal([1], [2]); });`,
  "failing before hook": `test.before(() => { throw new Error("hook"); }); test("a", () => assert.is(1, 1));`,
  "failing after hook": `test.after(() => { throw new Error("hook"); }); test("a", () => assert.is(1, 1));`,
  "failing before.each hook":
    `test.before.each(() => Promise.reject("hook")); test("a", () => assert.is(1, 1));`,
  "failing after.each hook":
    `test.after.each(() => { throw new Error("hook"); }); test("a", () => assert.is(1, 1));`,
  "hanging test": `test("a", () => new Promise(() => assert.is(1, 1)), { timeoutMs: 200 });`,
  "hanging hook": `test.before(() => new Promise(() => {})); test("a", () => assert.is(1, 1));`,
  "test that asserts nothing": `test("a", () => {});`,
  "suite without tests": ``,
  "expected error that does not come": `test("a", () => void assert.raises(() => 1));`,
  "expected error of another class":
    `test("a", () => void assert.raises(() => { throw new Error("x"); }, TypeError));`,
  "expected rejection that does not come": `test("a", () => assert.rejects(Promise.resolve(1)));`,
  "module that throws": `throw new Error("module");`,
};

async function writeSuite(directory: string, body: string): Promise<string> {
  const path = `${directory}/${crypto.randomUUID()}_test.ts`;
  const lines = [
    `import { assert, suite } from ${JSON.stringify(import.meta.resolve("./harness.ts"))};`,
    `const test = suite("child", { timeoutMs: 300 });`,
    `void assert;`,
    body,
    `test.run();`,
  ];
  await Deno.writeTextFile(path, lines.join("\n"));
  return path;
}

async function exitCode(program: string, args: string[], env: Record<string, string> = {}): Promise<number> {
  const command = new Deno.Command(program, {
    args,
    env: { NO_COLOR: "1", ...env },
    stdout: "piped",
    stderr: "piped",
  });
  return (await command.output()).code;
}

for (const [what, body] of Object.entries(BODIES)) {
  const verb = what === "passing" ? "ends with 0" : "fails";
  test(`suite() under deno test ${verb}: ${what}`, async () => {
    await using directory = await temporaryDirectory();
    const path = await writeSuite(directory.path, body);
    const code = await exitCode(Deno.execPath(), ["test", "--no-check", "-A", path]);
    assert.is(code === 0, what === "passing");
  });
  test(`suite() under uvu ${verb}: ${what}`, async () => {
    await using directory = await temporaryDirectory();
    const path = await writeSuite(directory.path, body);
    const code = await exitCode(Deno.execPath(), ["run", "--no-check", "-A", path]);
    assert.is(code === 0, what === "passing");
  });
}

for (const runtime of ["node", "bun"]) {
  const name = `suite() in a bundle under ${runtime} ends as its tests do`;
  if (findProgram(runtime) === undefined) {
    test.skip(`${name}: ${runtime} is not installed`);
    continue;
  }
  test(name, async () => {
    await using directory = await temporaryDirectory();
    for (const what of ["passing", "failing test", "failing before hook", "hanging test"] as const) {
      const path = await writeSuite(directory.path, BODIES[what]);
      const bundle = path.replace(/\.ts$/, ".mjs");
      assert.is(await exitCode(Deno.execPath(), ["bundle", "-q", path, "-o", bundle]), 0, "bundled");
      assert.is((await exitCode(runtime, [bundle])) === 0, what === "passing", what);
    }
  });
}

test("test.only() runs its test alone, and is refused under CI", async () => {
  await using directory = await temporaryDirectory();
  const path = await writeSuite(
    directory.path,
    `test("a", () => assert.is(1, 2)); test.only("b", () => assert.is(1, 1));`,
  );
  for (const verb of ["test", "run"]) {
    assert.is(await exitCode(Deno.execPath(), [verb, "--no-check", "-A", path], { CI: "" }), 0);
    assert.is.not(await exitCode(Deno.execPath(), [verb, "--no-check", "-A", path], { CI: "true" }), 0);
  }
});

test("test.skip() lists a test and does not run it", async () => {
  await using directory = await temporaryDirectory();
  const path = await writeSuite(
    directory.path,
    `test.skip("needs a moon"); test.skip("c", () => assert.is(1, 2)); test("b", () => assert.is(1, 1));`,
  );
  const command = new Deno.Command(Deno.execPath(), {
    args: ["test", "--no-check", "-A", path],
    env: { NO_COLOR: "1" },
  });
  const { code, stdout } = await command.output();
  assert.is(code, 0);
  assert.match(new TextDecoder().decode(stdout), /needs a moon \.\.\. ignored/);
});

test("assert.raises() and assert.rejects() return the error", async () => {
  const raised = assert.raises(() => {
    throw new RangeError("too far");
  }, RangeError);
  assert.is(raised.message, "too far");
  const rejected = await assert.rejects(Promise.reject(new TypeError("wrong")), /wro/);
  assert.instance(rejected, TypeError);
});

test.run();
