/** Options of `varve restore` that are read by rules of their own. */
import { mapValue, ownerOf } from "../../src/cli/restore_options.ts";
import { assert, suite } from "../support/harness.ts";
import { varve } from "./varve_process.ts";

const test = suite("cli/restore options");

test("mapValue() reads pairs of paths", () => {
  assert.equal([...mapValue("/old/one=/new/one,/old/two/=/new/two/")], [["/old/one", "/new/one"], [
    "/old/two",
    "/new/two",
  ]]);
});

test("mapValue() refuses what is no pair of absolute paths", () => {
  for (const text of ["", "/old", "/old=new", "old=/new", "/a=/b,,"]) {
    assert.throws(() => mapValue(text), /expected the form \/old\/path=\/new\/path/);
  }
});

test("ownerOf() takes numbers, and users of this machine", async () => {
  assert.equal(await ownerOf("123:456"), { uid: 123, gid: 456 });
  assert.equal(await ownerOf("root"), { uid: 0, gid: 0 });
  await assert.rejects(() => ownerOf("nobody-of-this-name"), /no user "nobody-of-this-name"/);
});

test("varve restore refuses options that contradict each other, before it opens anything", async () => {
  const cases: [string[], RegExp][] = [
    [["--as", "tar", "DIR"], /tar stream to a directory/],
    [["-"], /Cannot restore to -/],
    [["one", "two"], /several directories/],
    [["--as", "standby", "--boot", "/bin", "DIR"], /Cannot boot a standby/],
    [["--as", "tar", "--verify", "-"], /Cannot verify or boot a tar stream/],
  ];
  for (const [args, message] of cases) {
    const { code, stderr } = await varve(["restore", "--store", "file:///nowhere/at/all", ...args]);
    assert.is(code, 2, stderr);
    assert.match(stderr, message);
  }
});

test.run();
