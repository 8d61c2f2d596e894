/** Options: command line before environment before default, and errors that name where a value came from. */
import { defaulted, flag, oneOf, optional, parseVerb, required, text } from "../../src/cli/config.ts";
import { EXIT_CODES, exitCodeOf, UsageError } from "../../src/cli/exit_codes.ts";
import {
  CorruptionError,
  FencedError,
  LsnCollectedError,
  LsnNotReachedError,
  MismatchError,
  NotFoundError,
  PostgresError,
  ProtocolError,
  UnavailableError,
  UnsupportedError,
  VarveError,
  WalLostError,
} from "../../src/errors.ts";
import type { Lsn } from "../../src/lsn.ts";
import { assert, suite } from "../support/harness.ts";

const test = suite("cli/config");

const VERB = {
  name: "try",
  summary: "",
  options: {
    store: required("URL", "", text),
    flushInterval: defaulted("N", "", "7", Number),
    kind: optional("KIND", "", oneOf("one", "two")),
    slot: defaulted("NAME", "", "varve", text),
    noSlot: flag(""),
  },
};

const usage = (pattern: RegExp) => (error: unknown) =>
  error instanceof UsageError && pattern.test(error.message);

test("parseVerb() prefers the command line to the environment to the default", () => {
  const env = { VARVE_STORE: "env", VARVE_FLUSH_INTERVAL: "8", VARVE_KIND: "" };
  assert.equal(parseVerb(VERB, [], env).values, {
    store: "env",
    flushInterval: 8,
    kind: undefined,
    slot: "varve",
    noSlot: false,
  });
  assert.equal(
    parseVerb(VERB, ["--store", "cli", "--flush-interval=9", "--kind=two", "--no-slot"], env).values,
    {
      store: "cli",
      flushInterval: 9,
      kind: "two",
      slot: "varve",
      noSlot: true,
    },
  );
});

test("parseVerb() reads flags from the environment by their value", () => {
  const noSlot = (value: string) =>
    parseVerb(VERB, [], { VARVE_STORE: "s", VARVE_NO_SLOT: value }).values.noSlot;
  assert.equal(["1", "true", "0", "off", ""].map(noSlot), [true, true, false, false, false]);
  assert.throws(() => noSlot("maybe"), usage(/VARVE_NO_SLOT: expected true or false/));
});

test("parseVerb() names what is wrong and where it came from", () => {
  const parse = (...args: string[]) => parseVerb(VERB, args, { VARVE_KIND: "three" });
  assert.throws(() => parse(), usage(/"varve try": --store is missing/));
  assert.throws(() => parse("--store", "s"), usage(/VARVE_KIND: expected one or two/));
  assert.throws(() => parse("--store", "s", "--kind", "x"), usage(/--kind: expected one or two/));
  assert.throws(() => parse("--stor", "s"), usage(/unknown option '--stor'.*--store/));
  assert.throws(() => parse("--store"), usage(/--store <URL>' argument missing/));
  assert.throws(() => parse("--store", "s", "--kind", "one", "more"), usage(/too many arguments/));
});

test("exitCodeOf() tells each class of error apart, and all are documented", () => {
  const lsn = 8 as Lsn;
  const errors: [unknown, number][] = [
    [new Error("x"), 1],
    [new UsageError("x"), 2],
    [new VarveError("USAGE", "x"), 2],
    [new UnavailableError("x"), 3],
    [new FencedError("x"), 4],
    [new NotFoundError("x"), 5],
    [new LsnNotReachedError(lsn, lsn), 5],
    [new LsnCollectedError(lsn, lsn), 5],
    [new CorruptionError("x"), 6],
    [new UnsupportedError("x"), 7],
    [new PostgresError("28P01", "x"), 8],
    [new MismatchError("x"), 8],
    [new ProtocolError("x"), 8],
    [new VarveError("TLS", "x"), 8],
    [new VarveError("STORE_DENIED", "x"), 9],
    [new VarveError("STORE_UNSAFE", "x"), 9],
    [new WalLostError("x"), 10],
  ];
  const documented = EXIT_CODES.map(([code]) => code);
  for (const [error, code] of errors) {
    assert.is(exitCodeOf(error), code, String(error));
    assert.ok(documented.includes(code));
  }
});

test.run();
